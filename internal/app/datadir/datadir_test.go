package datadir_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"crier/internal/app/datadir"
)

// What an operator wants of a process is known to its next start, which is counted.
func TestSilenceIsKept(t *testing.T) {
	dir := t.TempDir()
	take := func() *datadir.Node {
		t.Helper()
		lock, err := datadir.Lock(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer lock.Close()
		n, err := datadir.Take(dir, "a")
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	first := take()
	if err := datadir.Silenced(dir, *first, "new kernel"); err != nil {
		t.Fatal(err)
	}
	second := take()
	if second.Silence != "new kernel" || second.Starts != first.Starts+1 || second.Home != first.Home {
		t.Errorf("the next start is %+v after %+v", second, first)
	}
	if err := datadir.Silenced(dir, *second, ""); err != nil {
		t.Fatal(err)
	}
	if third := take(); third.Silence != "" || third.Starts != second.Starts+1 {
		t.Errorf("after it was resumed: %+v", third)
	}
}

// A new file is never written over another, and a refusal leaves nothing else.
func TestWriteNew(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "mark")
	for i, want := range []error{nil, fs.ErrExist} {
		if err := datadir.WriteNew(path, []byte{byte('a' + i)}, 0o600); !errors.Is(err, want) {
			t.Errorf("try %d: %v, want %v", i, err, want)
		}
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "a" {
		t.Errorf("it has %q, %v", b, err)
	}
	if all, err := os.ReadDir(dir); err != nil || len(all) != 1 {
		t.Errorf("the directory has %v, %v", all, err)
	}
}
