package datadir_test

import (
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
