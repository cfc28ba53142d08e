// Package testdata finds the real data that tests read. It is never a part of
// the repository: the folder is named by CRIER_TESTDATA, by default
// ../shared/data beside the repository.
package testdata

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// Path gives the path of a file of the real data. If it is not there, ok is
// false, the test's log says so, and the test goes on with generated data.
func Path(t testing.TB, name string) (path string, ok bool) {
	t.Helper()
	dir := os.Getenv("CRIER_TESTDATA")
	if dir == "" {
		_, here, _, _ := runtime.Caller(0)
		dir = filepath.Join(filepath.Dir(here), "..", "..", "..", "shared", "data")
	}
	path = filepath.Join(dir, filepath.FromSlash(name))
	if _, err := os.Stat(path); err != nil {
		t.Logf("no real data at %s (set CRIER_TESTDATA); going on with generated data", name)
		return "", false
	}
	return path, true
}
