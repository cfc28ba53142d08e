package app

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"crier/job"
)

// node is what a data directory says of the process that owns it.
type node struct {
	Name   string `json:"name"`   // random, made once
	Starts uint32 `json:"starts"` // how often the data directory was taken over
	Home   uint64 `json:"home"`   // random, made once: whoever has the same holds the lock
}

// lockData locks a data directory, making it if need be. The lock is the kernel's:
// it ends with the process, so that holding it proves the former owner dead
// (protocol rule 5).
func lockData(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the data directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the lock of the data directory: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, job.Conflict(fmt.Sprintf("another crier owns the data directory %s; stop it, or give this one another --data", dir))
		}
		return nil, fmt.Errorf("locking the data directory %s: %w", dir, err)
	}
	return lock, nil
}

// takeNode counts that a data directory, which is locked, is taken over. The count
// is durable before anything can be named after it.
func takeNode(dir, name string) (*node, error) {
	n := new(node)
	return n, n.count(filepath.Join(dir, "node.json"), name)
}

func (n *node) count(path, name string) error {
	b, err := os.ReadFile(path)
	switch {
	case err == nil:
		if err := json.Unmarshal(b, n); err != nil || !job.ValidName(n.Name) {
			return fmt.Errorf("reading %s: it is damaged (%v); restore it, for it holds the name under which the ledger knows this process", path, err)
		}
	case errors.Is(err, os.ErrNotExist):
		var r [4]byte
		rand.Read(r[:]) // never fails
		n.Name = cmp.Or(name, hex.EncodeToString(r[:]))
	default:
		return fmt.Errorf("reading the node's name: %w", err)
	}
	if name != "" && name != n.Name {
		return job.Invalid("name", fmt.Sprintf("name: the data directory belongs to %s, not to %s; give %s another data directory", n.Name, name, name), nil)
	}
	n.Starts++
	for n.Home == 0 {
		var r [8]byte
		rand.Read(r[:]) // never fails
		n.Home = binary.LittleEndian.Uint64(r[:])
	}
	b, err = json.Marshal(n)
	if err != nil {
		return fmt.Errorf("encoding the node's name: %w", err)
	}
	if err := writeWhole(path, b, 0o600); err != nil {
		return fmt.Errorf("counting this start: %w", err)
	}
	return nil
}

func (n *node) worker() string  { return "w-" + n.Name }
func (n *node) gateway() string { return "g-" + n.Name }
func (n *node) scheduler() job.Journal {
	return job.Journal{Worker: "s-" + n.Name, Incarnation: n.Starts}
}

// writeWhole makes a file appear with all its bytes or not at all.
func writeWhole(path string, b []byte, mode os.FileMode) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// bootID names this boot of the machine: memory mapped files of another boot may
// be older than what was written to them.
func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("reading the machine's boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}
