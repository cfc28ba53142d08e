package bundle_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"crier/internal/bundle"
)

// unpack reads an archive with the readers of the standard library.
func unpack(t *testing.T, r io.Reader) (names []string, files map[string]string) {
	t.Helper()
	zipped, err := gzip.NewReader(r)
	if err != nil {
		t.Fatal(err)
	}
	files = map[string]string{}
	for archive := tar.NewReader(zipped); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return names, files
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		if h.Mode != 0o600 || h.Typeflag != tar.TypeReg {
			t.Errorf("%s has mode %o, type %c", h.Name, h.Mode, h.Typeflag)
		}
		names = append(names, h.Name)
		files[h.Name] = string(data)
	}
}

func text(s string) func(context.Context) ([]byte, error) {
	return func(context.Context) ([]byte, error) { return []byte(s), nil }
}

// Whatever becomes of a part, the others are there, and the manifest tells of each.
func TestPartsFailAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		woken := make(chan struct{})
		began := time.Now()
		parts := []bundle.Part{
			{File: "good.txt", About: "what is good", Get: text("all is well")},
			{File: "refused.json", About: "what is refused", Get: func(context.Context) ([]byte, error) { return nil, errors.New("the key hunter22 is refused") }},
			{File: "torn.txt", About: "what is torn", Get: func(context.Context) ([]byte, error) {
				return []byte("the first page of hunter22"), errors.New("the second is lost")
			}},
			{File: "slow.json", About: "what is slow", Get: func(ctx context.Context) ([]byte, error) { <-ctx.Done(); return nil, ctx.Err() }},
			{File: "deaf.json", About: "what does not hear", Get: func(context.Context) ([]byte, error) { <-woken; return []byte("too late"), nil }},
			{File: "broken.json", About: "what breaks", Get: func(context.Context) ([]byte, error) { panic("the inside") }},
			{File: "none.txt", About: "what is not wanted", Without: "nobody named it", Get: func(context.Context) ([]byte, error) { t.Error("it is got"); return nil, nil }},
			{File: "empty.txt", About: "what is empty", Get: text("")},
			{File: "large.txt", About: "what is large", Get: text(strings.Repeat("x", bundle.Most+1))},
			{File: "dir/last.txt", About: "what is last", Get: text("the end")},
		}
		cfg := bundle.Config{Within: 3 * time.Second, AtOnce: 2, Scrub: bundle.NewScrubber([]string{"hunter22"}), Marshal: json.Marshal}
		b, err := bundle.Collect(t.Context(), cfg, bundle.Manifest{Version: "v9", Server: "http://me:hunter22@h", Made: began}, parts)
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("it took %s; two parts at a time need 3s", took)
		}
		var packed bytes.Buffer
		if err := b.Write(&packed, "top"); err != nil {
			t.Fatal(err)
		}
		names, files := unpack(t, &packed)
		if want := "top/manifest.json top/good.txt top/torn.txt top/empty.txt top/large.txt top/dir/last.txt"; strings.Join(names, " ") != want {
			t.Errorf("it has %v, want %s", names, want)
		}
		if files["top/good.txt"] != "all is well" || files["top/torn.txt"] != "the first page of ***" || files["top/dir/last.txt"] != "the end" || len(files["top/large.txt"]) != bundle.Most {
			t.Errorf("the files are wrong: %.200q", files)
		}
		var m bundle.Manifest
		if err := json.Unmarshal([]byte(files["top/manifest.json"]), &m); err != nil {
			t.Fatal(err)
		}
		if m.Format != 1 || m.Version != "v9" || m.Server != "http://***@h" || len(m.Parts) != len(parts) {
			t.Errorf("the manifest is %+v", m)
		}
		for i, want := range []bundle.Entry{
			{State: bundle.Whole, Bytes: 11}, {State: bundle.Failed, Why: "the key *** is refused"}, {State: bundle.Partial, Bytes: 21, Why: "the second is lost"},
			{State: bundle.Failed, Why: "it took longer than 3s", Took: 3000}, {State: bundle.Failed, Why: "it took longer than 3s", Took: 3000},
			{State: bundle.Failed, Why: "panic: the inside"}, {State: bundle.LeftOut, Why: "nobody named it"}, {State: bundle.Whole},
			{State: bundle.Partial, Bytes: bundle.Most, Why: "it is cut off after 4 MiB"}, {State: bundle.Whole, Bytes: 7},
		} {
			want.File, want.About = parts[i].File, parts[i].About
			if m.Parts[i] != want {
				t.Errorf("the manifest tells %+v, want %+v", m.Parts[i], want)
			}
		}
		close(woken)
	})
}

// Who interrupts it gets nothing.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	parts := []bundle.Part{{File: "a", Get: func(context.Context) ([]byte, error) { cancel(); return nil, nil }}}
	cfg := bundle.Config{Within: time.Hour, Scrub: bundle.NewScrubber(nil), Marshal: json.Marshal}
	if b, err := bundle.Collect(ctx, cfg, bundle.Manifest{}, parts); b != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v", b, err)
	}
}

// full takes so many bytes.
type full int

func (f *full) Write(p []byte) (int, error) {
	if *f -= full(len(p)); *f < 0 {
		return 0, errors.New("the disk is full")
	}
	return len(p), nil
}

// An archive that could not be written whole is not taken for one.
func TestNoRoom(t *testing.T) {
	noise := make([]byte, 100_000) // that cannot be packed
	for i, x := 0, uint64(1); i < len(noise); i++ {
		x = x*6364136223846793005 + 1442695040888963407
		noise[i] = byte(x >> 56)
	}
	cfg := bundle.Config{Within: time.Hour, Scrub: bundle.NewScrubber(nil), Marshal: json.Marshal}
	b, err := bundle.Collect(t.Context(), cfg, bundle.Manifest{}, []bundle.Part{{File: "a", Get: text(string(noise))}})
	if err != nil {
		t.Fatal(err)
	}
	for _, room := range []full{0, 5, 100, 50_000} {
		if err := b.Write(&room, "top"); err == nil || !strings.Contains(err.Error(), "the disk is full") {
			t.Errorf("no error: %v", err)
		}
	}
}
