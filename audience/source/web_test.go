package source

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"crier/job"
)

// fileServer serves some files, well and badly.
func fileServer(t *testing.T) *httptest.Server {
	t.Helper()
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	if _, err := z.Write([]byte("1\n2\n9\n")); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	archive := []byte(makeZip(t, member{name: "in.txt", text: "5\n6\n"}))
	released := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		write := func(b []byte) {
			if _, err := w.Write(b); err != nil && r.Context().Err() == nil {
				t.Error(err)
			}
		}
		switch r.URL.Path {
		case "/ids.txt":
			write([]byte("1\n2\n3\n"))
		case "/ids.txt.gz":
			w.Header().Set("Content-Encoding", "gzip") // a server may say so of a file that is compressed
			write(zipped.Bytes())
		case "/users.csv":
			write([]byte("name,id\na,7\nb,8\n"))
		case "/all.zip":
			write(archive)
		case "/moved":
			http.Redirect(w, r, "/ids.txt", http.StatusFound)
		case "/secret.txt":
			if name, password, _ := r.BasicAuth(); name != "me" || password != "hush" {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			write([]byte("4\n"))
		case "/short.txt":
			w.Header().Set("Content-Length", "100")
			write([]byte("1\n2\n"))
		case "/stalls.txt":
			write([]byte("1\n2\n"))
			w.(http.Flusher).Flush()
			<-released
		case "/broken":
			w.WriteHeader(http.StatusInternalServerError)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(s.Close)
	t.Cleanup(func() { close(released) })
	return s
}

func TestFilesOnServers(t *testing.T) {
	s := fileServer(t)
	withPassword := strings.Replace(s.URL, "http://", "http://me:hush@", 1)
	for name, c := range map[string]struct {
		cfg  Config
		pkg  string // name of the package
		card uint64
		says string // of the error
	}{
		"text":              {Config{From: FormatIDs, Files: []string{s.URL + "/ids.txt?day=1"}}, "ids", 3, ""},
		"compressed":        {Config{From: FormatIDs, Files: []string{s.URL + "/ids.txt.gz"}}, "ids.txt", 3, ""},
		"CSV":               {Config{From: FormatCSV, Column: "id", Files: []string{s.URL + "/users.csv"}}, "users", 2, ""},
		"a zip":             {Config{From: FormatZip, Files: []string{s.URL + "/all.zip"}}, "in", 2, ""},
		"moved":             {Config{From: FormatIDs, Files: []string{s.URL + "/moved"}}, "moved", 3, ""},
		"a password":        {Config{From: FormatIDs, Files: []string{withPassword + "/secret.txt"}}, "secret", 1, ""},
		"the wrong one":     {Config{From: FormatIDs, Files: []string{s.URL + "/secret.txt"}}, "", 0, "401 Unauthorized"},
		"not there":         {Config{From: FormatIDs, Files: []string{s.URL + "/nowhere.txt"}}, "", 0, "there is no file at " + s.URL},
		"broken":            {Config{From: FormatIDs, Files: []string{withPassword + "/broken"}}, "", 0, "me:xxxxx@"},
		"ends early":        {Config{From: FormatIDs, Files: []string{s.URL + "/short.txt"}}, "", 0, "in the middle"},
		"not what it is":    {Config{From: FormatRoaring, Files: []string{s.URL + "/ids.txt"}}, "", 0, "ids.txt"},
		"no name":           {Config{From: FormatIDs, Files: []string{s.URL}}, "", 0, "cannot give its package a name"},
		"no name but given": {Config{From: FormatIDs, Name: "given", Files: []string{s.URL + "/"}}, "", 0, "there is no file"},
		"nobody there":      {Config{From: FormatIDs, Files: []string{"http://127.0.0.1:1/ids.txt"}}, "", 0, "refused"},
		"no host":           {Config{From: FormatIDs, Files: []string{"https:///ids.txt"}}, "", 0, "cannot be read"},
		"no address":        {Config{From: FormatIDs, Files: []string{"https://me:hush@%zz/ids.txt"}}, "", 0, "cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "out")
			infos, err := Build(t.Context(), c.cfg, dir)
			if c.says != "" {
				if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "hush") {
					t.Errorf("error %v, want one with %q", err, c.says)
				}
				if c.says == "refused" && job.CodeOf(err) != job.CodeUnavailable {
					t.Errorf("the code is %q", job.CodeOf(err))
				}
				if _, err := os.Stat(dir); err == nil {
					t.Error("something was left behind")
				}
				return
			}
			if err != nil || len(infos) != 1 || infos[0].Name != c.pkg || infos[0].Cardinality != c.card {
				t.Errorf("%+v, %v", infos, err)
			}
		})
	}
}

// A server that says nothing more is given up; so is the transfer when its reader is
// closed, or told to stop.
func TestAServerThatStalls(t *testing.T) {
	s := fileServer(t)
	u, err := url.Parse(s.URL + "/stalls.txt")
	if err != nil {
		t.Fatal(err)
	}
	r, err := fetch(t.Context(), u, 50*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); err == nil || !strings.Contains(err.Error(), "nothing came for 50ms") {
		t.Errorf("it is read to %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if r, err = fetch(ctx, u, time.Hour); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := io.ReadAll(r); !errors.Is(err, context.Canceled) {
		t.Errorf("after cancel: %v", err)
	}
	r.Close()
	if _, err := fetch(ctx, u, time.Hour); err == nil || job.CodeOf(err) != "" {
		t.Errorf("after cancel: %v", err)
	}
}
