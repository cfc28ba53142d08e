package client_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"crier/presence/client"
)

func open(t interface {
	Fatal(...any)
	Helper()
}, path string) *client.File {
	t.Helper()
	f, err := client.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Both stores against a map.
func TestStoresKeepASet(t *testing.T) {
	dir := t.TempDir()
	runs := 0
	for _, c := range []struct {
		name string
		open func(t *rapid.T) (s client.Store, again func() client.Store)
	}{
		{"memory", func(t *rapid.T) (client.Store, func() client.Store) {
			m := client.NewMemory()
			return m, func() client.Store { return m }
		}},
		{"file", func(t *rapid.T) (client.Store, func() client.Store) {
			runs++
			path := filepath.Join(dir, fmt.Sprint(runs))
			f := open(t, path)
			return f, func() client.Store {
				if err := f.Close(); err != nil {
					t.Fatal(err)
				}
				f = open(t, path)
				if f.Damaged() != 0 {
					t.Fatalf("%d records damaged after a close", f.Damaged())
				}
				return f
			}
		}},
	} {
		t.Run(c.name, rapid.MakeCheck(func(t *rapid.T) {
			s, again := c.open(t)
			defer func() {
				if f, ok := s.(*client.File); ok {
					f.Close()
				}
			}()
			first, _, _ := s.Load()
			want := map[string]bool{}
			id := rapid.OneOf(rapid.StringMatching(`[a-f]{1,2}`), rapid.StringMatching(`[ -~é漢]{1,40}`))
			t.Repeat(map[string]func(*rapid.T){
				"add": func(t *rapid.T) {
					id := id.Draw(t, "id")
					want[id] = true
					if err := s.Add(id); err != nil {
						t.Fatal(err)
					}
				},
				"forget": func(t *rapid.T) {
					ids := rapid.SliceOf(id).Draw(t, "ids")
					for _, id := range ids {
						delete(want, id)
					}
					if err := s.Forget(ids); err != nil {
						t.Fatal(err)
					}
				},
				"sync": func(t *rapid.T) {
					if err := s.Sync(); err != nil {
						t.Fatal(err)
					}
				},
				"open again": func(*rapid.T) { s = again() },
				"": func(t *rapid.T) {
					name, ids, err := s.Load()
					if err != nil || name != first || len(name) < 20 || !slices.Equal(slices.Sorted(slices.Values(ids)), slices.Sorted(maps.Keys(want))) {
						t.Fatalf("Load gives %q %q %v, want %q %q", name, ids, err, first, slices.Sorted(maps.Keys(want)))
					}
				},
			})
		}))
	}
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestFileRefusesWhatIsNotItsOwn(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "photo.jpg")
	for _, data := range [][]byte{[]byte("\xff\xd8\xff\xe0 a photo"), []byte("crier client 2\n"), append([]byte("crier client 1\n"), make([]byte, 17<<20)...)} {
		write(t, path, data)
		if _, err := client.OpenFile(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%.20q was opened: %v", data, err)
		}
		if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, data) {
			t.Errorf("%.20q was changed", data)
		}
	}
	if _, err := client.OpenFile(filepath.Join(dir, "no such directory", "shown")); err == nil {
		t.Error("opened in a directory that is not there")
	}
	write(t, path, nil)
	f := open(t, path) // an empty file is a new one
	if _, err := client.OpenFile(path); err == nil {
		t.Error("opened twice")
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Errorf("closed again: %v", err)
	}
	if err := f.Add("late"); err == nil {
		t.Error("added after Close")
	}
	open(t, path).Close()
}

func TestFileStaysSmall(t *testing.T) {
	path := filepath.Join(t.TempDir(), "shown")
	f := open(t, path)
	defer f.Close()
	for i := range 20_000 {
		id := fmt.Sprintf("%s%0100d", "job_", i)
		if err := f.Add(id); err != nil {
			t.Fatal(err)
		}
		if i >= 64 {
			if err := f.Forget([]string{fmt.Sprintf("%s%0100d", "job_", i-64)}); err != nil {
				t.Fatal(err)
			}
		}
		if info, err := os.Stat(path); err != nil || info.Size() > 150*(1024+5*65) {
			t.Fatalf("after %d messages: %v, %v", i, info.Size(), err)
		}
	}
	if _, ids, _ := f.Load(); len(ids) != 64 {
		t.Errorf("%d ids", len(ids))
	}
}
