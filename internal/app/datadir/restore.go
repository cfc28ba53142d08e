package datadir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"crier/job"
)

// restoring is a file that is in a data directory until all else of it was restored.
const restoring = "restoring"

// mayBe is what an empty data directory may have: its lock, and what some file systems put
// into the directory at their root.
var mayBe = []string{"lock", "lost+found"}

// BeginRestore claims a data directory, which is locked and must be empty, for a restore:
// no process starts on it until EndRestore.
func BeginRestore(dir string) error {
	has, err := contents(dir)
	if err != nil {
		return err
	}
	if len(has) > 0 {
		return job.Invalid("data", fmt.Sprintf("data: %s is not empty, it has %s; give a directory that is empty or not there", dir, has[0]), nil)
	}
	if err := WriteWhole(filepath.Join(dir, restoring), []byte("A restore is under way, or was cut short.\n"), 0o600); err != nil {
		return fmt.Errorf("marking %s as being restored: %w", dir, err)
	}
	return nil
}

// EndRestore makes a directory, of which all else is durable, the one of a process, which
// started so often before.
func EndRestore(dir, name string, starts uint32) error {
	b, err := json.Marshal(Node{Name: name, Starts: starts})
	if err != nil {
		return fmt.Errorf("encoding the node's name: %w", err)
	}
	if err := WriteWhole(filepath.Join(dir, "node.json"), b, 0o600); err != nil {
		return fmt.Errorf("writing the node's name: %w", err)
	}
	if err := os.Remove(filepath.Join(dir, restoring)); err != nil {
		return fmt.Errorf("ending the restore: %w", err)
	}
	return syncDir(dir)
}

// Clear empties a directory that BeginRestore claimed; the claim goes last.
func Clear(dir string) error {
	has, err := contents(dir)
	if err != nil {
		return err
	}
	has = append(slices.DeleteFunc(has, func(name string) bool { return name == restoring }), restoring)
	for _, name := range has {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, name)))
	}
	return err
}

func contents(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("looking into %s: %w", dir, err)
	}
	for _, e := range entries {
		if !slices.Contains(mayBe, e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// whole refuses a directory of which a restore was cut short.
func whole(dir string) error {
	_, err := os.Lstat(filepath.Join(dir, restoring))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking whether %s was restored whole: %w", dir, err)
	}
	return job.Invalid("data", fmt.Sprintf("data: a restore into %s was cut short; remove what is in it and restore again", dir), nil)
}
