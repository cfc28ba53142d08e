package support

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crier/api"
	"crier/api/apitest"
	"crier/cmd/crier/cli"
	"crier/cmd/crier/out"
	"crier/internal/auth"
	"crier/internal/bundle"
	"crier/internal/config"
)

var update = flag.Bool("update", false, "write the golden files anew")

// What the command shows at 80 and at 160 columns.
func TestGolden(t *testing.T) {
	m := made{Bundle: "crier-support-20260102T030405Z.tar.gz", Size: 34_567, Manifest: bundle.Manifest{Server: "http://127.0.0.1:7420", Data: "/var/lib/crier", Parts: []bundle.Entry{
		{File: "version.json", About: "the program that made this", State: bundle.Whole, Bytes: 2345},
		{File: "settings/running.json", About: "settings of the server's last start", State: bundle.Failed,
			Why: "the data directory has no settings.json: no server of this version became ready there, or it is not this machine's"},
		{File: "log.txt", About: "the end of the server's log", State: bundle.LeftOut, Why: "it is not known to go to a file; name one with --log"},
		{File: "disk/data.json", About: "what the data directory takes", State: bundle.Partial, Bytes: 999, Why: "it took longer than 10s"},
		{File: "ring/journal.json", About: "who should hold each journal, and who does", State: bundle.Failed, Why: "no answer from http://127.0.0.1:7420\x1b[31m"},
		{File: "metrics.txt", About: "the metrics", State: bundle.Whole, Bytes: 123_456},
	}}}
	for _, width := range []int{80, 160} {
		var stdout, stderr bytes.Buffer
		c := &cli.CLI{In: strings.NewReader(""), Out: &stdout, Err: &stderr, Now: time.Now, Output: string(out.Table),
			Getenv: func(k string) string { return map[string]string{"COLUMNS": strconv.Itoa(width)}[k] }}
		if err := show(c, m); err != nil {
			t.Fatal(err)
		}
		if got, want := stderr.String(), "3 parts could not be got wholly; the manifest says why\n"; got != want {
			t.Errorf("it says %q, want %q", got, want)
		}
		golden := filepath.Join("testdata", "bundle-"+strconv.Itoa(width)+".txt")
		if *update {
			if err := os.WriteFile(golden, stdout.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), stdout.String()); diff != "" {
			t.Errorf("at %d columns it differs from %s (-want +got); go test ./cmd/crier/support -update writes it anew:\n%s", width, golden, diff)
		}
	}
}

// Where the server has its blobs is what it left, whatever a start here would have.
func TestBlobsElsewhere(t *testing.T) {
	data, blobs := t.TempDir(), t.TempDir()
	left, err := json.Marshal(config.Running{Settings: []config.Shown{{Setting: "blobs", Value: blobs}, {Setting: "limits.lanes", Value: 8}}})
	if err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string][]byte{filepath.Join(data, config.SettingsFile): left, filepath.Join(blobs, "ab", "abcd"): []byte("12345")} {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := &cli.CLI{DataDir: data, Now: time.Now, Getenv: func(k string) string { return map[string]string{"CRIER_TOKEN": "k"}[k] },
		Dial: func(string, string) (api.Service, error) { return apitest.New(), nil }}
	for _, p := range look(c, "v9", options{within: time.Second}).parts() {
		if p.File != "disk/blobs.json" {
			continue
		}
		got, err := p.Get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var u bundle.Usage
		if err := json.Unmarshal(got, &u); err != nil || u.Dir != blobs || len(u.Kinds) != 1 || u.Kinds[0].Files != 1 || u.Kinds[0].Bytes != 5 {
			t.Errorf("%v: %s", err, got)
		}
		return
	}
	t.Error("nothing is told of the directory of blobs")
}

// A file that is damaged, or not there, is told, and never shown.
func TestNothingLeft(t *testing.T) {
	data := t.TempDir()
	c := &cli.CLI{DataDir: data, Now: time.Now, Getenv: func(k string) string { return map[string]string{"CRIER_TOKEN": "k"}[k] },
		Dial: func(string, string) (api.Service, error) { return apitest.New(), nil }}
	for _, text := range []string{"", "{\"settings\": 7, \"x\": \"hunter22\"}"} {
		if text != "" {
			if err := os.WriteFile(filepath.Join(data, config.SettingsFile), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		got, err := look(c, "v9", options{within: time.Second}).settingsLeft(t.Context())
		if got != nil || err == nil || !strings.Contains(err.Error(), config.SettingsFile) || strings.Contains(err.Error(), "hunter22") {
			t.Errorf("with %q: %q, %v", text, got, err)
		}
	}
}

// Who is asked is shown the key from where the configuration has the keys, and the data
// directory stays the server's.
func TestKeysElsewhere(t *testing.T) {
	dir := t.TempDir()
	shared, data, file := filepath.Join(dir, "shared"), filepath.Join(dir, "data"), filepath.Join(dir, "crier.yaml")
	if err := os.WriteFile(file, []byte("data: "+data+"\nkeys: "+shared+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(shared, 0o700); err != nil {
		t.Fatal(err)
	}
	keys, err := auth.Open(auth.Config{Data: shared})
	if err != nil {
		t.Fatal(err)
	}
	want, err := keys.AdminKey()
	if err != nil {
		t.Fatal(err)
	}
	c := &cli.CLI{Now: time.Now, Getenv: func(string) string { return "" }, Dial: func(string, string) (api.Service, error) { return apitest.New(), nil }}
	if s := look(c, "v9", options{config: file, within: time.Second}); s.hereErr != nil || s.identity != want || s.data != data {
		t.Errorf("it finds %d bytes of a key, the data directory %s, %v", len(s.identity), s.data, s.hereErr)
	}
}
