// Package datadir is what a data directory says of the process that owns it: that no
// other owns it, who the process is, and how often it began.
//
// It guarantees that a number of a start is durable before anything is named after it,
// and that whoever has the same Home holds the same lock.
//
// The same Home ends the former process for all others, so a copy of a directory must not
// have it. To take a directory for a copy that is none costs a new Home: the start waits
// until the former process's lease is over, some seconds, and is refused only if that is
// renewed. To miss a copy ends a process that lives. So the Home stays only where the lock
// is the same for all that can be known (Held), and a boot proves nothing of another one:
//
//	                                     boot   device  inode  born   Home
//	started again                        same   same    same   same   stays
//	the machine was started again        other  may be  same   same   new; the lease is over by then, or soon
//	mounted anew                         same   may be  same   same   stays, or new if the device is another
//	moved on its file system             same   same    same   same   stays
//	moved to another one                 same   other   may be other  new
//	owner or mode of the lock changed    same   same    same   same*  stays
//	cp -a, rsync, tar, a backup tool     same   may be  may be other  new
//	crier restore                                                     new: none is restored
//	snapshot or clone of a volume, here  same   other   same   same   new
//	the same on another machine          other  may be  same   same   new
//	clone of a whole machine             other  same    same   same   new
//	a machine's memory cloned with it    same   same    same   same   stays: nothing in it tells the two apart
//
// * Where the file system does not tell a birth, it is the last change, and the Home is new.
package datadir

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

// Node is what a data directory says of the process that owns it.
type Node struct {
	Name   string `json:"name"`   // random, made once
	Starts uint32 `json:"starts"` // how often the data directory was taken over
	Home   uint64 `json:"home"`   // random, made once: whoever has the same holds the lock
	// Silence is why an operator wants the process to take no work; "": nobody does.
	Silence string `json:"silence,omitempty"`
	Held    Held   `json:"held"` // the lock that Home stands for
}

// Lock locks a data directory, making it if need be. The lock is the kernel's:
// it ends with the process, so that holding it proves the former owner dead
// (protocol rule 5).
func Lock(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, job.Invalid("data", "data: making the data directory; give one that this process may write", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, job.Invalid("data", "data: opening the lock of the data directory; give one that this process may write", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, job.Conflict(fmt.Sprintf("data: another crier owns the data directory %s; stop it, or give this one another --data", dir))
		}
		return nil, fmt.Errorf("locking the data directory %s: %w", dir, err)
	}
	return lock, nil
}

// Take counts that a data directory, which is locked, is taken over. The count
// is durable before anything can be named after it.
func Take(dir, name string) (*Node, error) {
	if err := whole(dir); err != nil {
		return nil, err
	}
	n := new(Node)
	return n, n.count(filepath.Join(dir, "node.json"), name)
}

func (n *Node) count(path, name string) error {
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
	held, err := heldIn(filepath.Join(filepath.Dir(path), "lock"))
	if err != nil {
		return err
	}
	if n.Held != held || held == (Held{}) {
		n.Home = 0 // it holds another lock than whoever has that, for all that is known
	}
	n.Held = held
	for n.Home == 0 {
		var r [8]byte
		rand.Read(r[:]) // never fails
		n.Home = binary.LittleEndian.Uint64(r[:])
	}
	if err := n.write(path); err != nil {
		return fmt.Errorf("counting this start: %w", err)
	}
	return nil
}

func (n *Node) write(path string) error {
	b, err := json.Marshal(n)
	if err != nil {
		return fmt.Errorf("encoding the node's name: %w", err)
	}
	return WriteWhole(path, b, 0o600)
}

// Anew counts this start by a later number, because the directory in which the starts before
// were counted is lost. What an old copy of it says that they accepted goes.
func Anew(dir string, n *Node, starts uint32) error {
	if err := os.RemoveAll(filepath.Join(dir, "accepted")); err != nil {
		return fmt.Errorf("removing what an old copy of the data directory says was accepted: %w", err)
	}
	n.Starts = starts
	if err := n.write(filepath.Join(dir, "node.json")); err != nil {
		return fmt.Errorf("counting this start anew: %w", err)
	}
	return nil
}

// Silenced keeps what an operator wants of the process. It is for one goroutine; the
// Node of the next start tells it.
func Silenced(dir string, n Node, reason string) error {
	n.Silence = reason
	if err := n.write(filepath.Join(dir, "node.json")); err != nil {
		return fmt.Errorf("keeping that an operator wants the process silent, or no more: %w", err)
	}
	return nil
}

// Worker is the worker's name on the bus and in the ledger.
func (n *Node) Worker() string { return "w-" + n.Name }

// Gateway is the gateway's.
func (n *Node) Gateway() string { return "g-" + n.Name }

// Scheduler is this start of the scheduler.
func (n *Node) Scheduler() job.Journal {
	return job.Journal{Worker: "s-" + n.Name, Incarnation: n.Starts}
}

// WriteWhole makes a file appear with all its bytes or not at all.
func WriteWhole(path string, b []byte, mode os.FileMode) error {
	return write(path, b, mode, os.Rename)
}

// WriteNew is WriteWhole of a file that must not be there, else fs.ErrExist: of many that
// write it at a time, on one file system, one does.
func WriteNew(path string, b []byte, mode os.FileMode) error {
	return write(path, b, mode, os.Link)
}

func write(path string, b []byte, mode os.FileMode, appear func(temp, path string) error) error {
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
	if err := appear(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

// syncDir makes a directory's entries durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// BootID names this boot of the machine: memory mapped files of another boot may
// be older than what was written to them.
func BootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("reading the machine's boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}
