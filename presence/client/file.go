package client

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
)

// File is a Store in a file: a log with a checksum a record, rewritten whole when
// most of it is of the past. It holds the id of the installation, made once. It is
// safe for concurrent use.
//
// It guarantees: what a Sync has returned for is there after a power cut; a record
// that was being written at a crash is there whole or not at all, and so is every
// other; after an error of the disk the next call writes the whole file anew; two
// processes cannot have one file open.
//
// The file stays below 150 bytes for each of 1,024 records and four for each id.
type File struct {
	path    string
	lock    *os.File
	client  string
	damaged int

	mu struct {
		sync.Mutex
		log     *os.File // nil after an error and after Close: what is on the disk is unknown
		closed  bool
		ids     map[string]struct{}
		records int // in the log
	}
}

// OpenFile opens the file, or makes it. The directory must be there. The lock is a
// second file beside it, with ".lock" after its name.
func OpenFile(path string) (*File, error) {
	lock, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("client: lock the memory of what was shown: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("client: %s is open in another process, or already in this one; give each client a file of its own: %w", path, err), lock.Close())
	}
	f := &File{path: path, lock: lock}
	if err := f.recover(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return f, nil
}

// recover reads the log and writes it anew, so that nothing torn is in front of what
// comes next.
func (f *File) recover() error {
	data, err := readLog(f.path)
	if err != nil {
		return fmt.Errorf("client: read the memory of what was shown: %w", err)
	}
	old, err := parseLog(data)
	if err != nil {
		return fmt.Errorf("client: %s: %w", f.path, err)
	}
	f.damaged, f.client, f.mu.ids = old.damaged, old.client, old.ids
	if f.client == "" {
		f.client = rand.Text()
	}
	return f.rewriteLocked()
}

// readLog reads the file; one that is not there is empty.
func readLog(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read
	data, err := io.ReadAll(io.LimitReader(f, maxLog+1))
	if err == nil && len(data) > maxLog {
		err = fmt.Errorf("%s: %w", path, errNotLog)
	}
	return data, err
}

// Damaged is how many records could not be read when the file was opened. One or
// some at the end are what a crash leaves; more mean a bad disk, and their messages
// may be shown again.
func (f *File) Damaged() int { return f.damaged }

// Close makes everything durable and gives the file back. Nothing else may be called
// after it.
func (f *File) Close() error {
	err := f.Sync()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.closed {
		return nil
	}
	f.mu.closed = true
	if f.mu.log != nil {
		err = errors.Join(err, f.mu.log.Close())
		f.mu.log = nil
	}
	return errors.Join(err, f.lock.Close())
}

// Load implements Store.
func (f *File) Load() (string, []string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.client, slices.Sorted(maps.Keys(f.mu.ids)), nil
}

// Add implements Store.
func (f *File) Add(id string) error {
	if !validID(id) {
		return fmt.Errorf("client: message id %q: want 1 to %d bytes without control characters", clip(id), maxID)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, known := f.mu.ids[id]; known && f.mu.log != nil {
		return nil
	}
	f.mu.ids[id] = struct{}{}
	return f.appendLocked(opAdd, id)
}

// Forget implements Store.
func (f *File) Forget(ids []string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var gone []string
	for _, id := range ids {
		if _, known := f.mu.ids[id]; known {
			delete(f.mu.ids, id)
			gone = append(gone, id)
		}
	}
	return f.appendLocked(opForget, gone...)
}

// Sync implements Store.
func (f *File) Sync() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.mu.closed:
		return nil
	case f.mu.log == nil:
		return f.rewriteLocked()
	}
	if err := f.mu.log.Sync(); err != nil {
		return f.breakLocked(err)
	}
	return nil
}

// appendLocked writes records of what is in f.mu.ids already, or the file anew.
func (f *File) appendLocked(op byte, ids ...string) error {
	switch {
	case f.mu.closed:
		return fmt.Errorf("client: write %s: %w", f.path, fs.ErrClosed)
	case f.mu.log == nil, f.mu.records+len(ids) > 1024+4*len(f.mu.ids):
		return f.rewriteLocked()
	case len(ids) == 0:
		return nil
	}
	var b []byte
	for _, id := range ids {
		b = appendRecord(b, op, id)
	}
	if _, err := f.mu.log.Write(b); err != nil {
		return f.breakLocked(err)
	}
	f.mu.records += len(ids)
	return nil
}

// breakLocked notes that what is on the disk is unknown: after an error a part of a
// record may be written, and after a failed sync nothing tells what is durable.
func (f *File) breakLocked(err error) error {
	err = errors.Join(fmt.Errorf("client: write the memory of what was shown: %w", err), f.mu.log.Close())
	f.mu.log = nil
	return err
}

// rewriteLocked makes the file anew, durable and whole: a crash leaves the old one or
// the new one.
func (f *File) rewriteLocked() error {
	b := appendRecord([]byte(logMagic), opClient, f.client)
	for _, id := range slices.Sorted(maps.Keys(f.mu.ids)) {
		b = appendRecord(b, opAdd, id)
	}
	log, err := writeWhole(f.path, b)
	if f.mu.log != nil {
		f.mu.log.Close() // of the former file; it had nothing that f.mu.ids lacks
	}
	f.mu.log, f.mu.records = log, len(f.mu.ids)
	if err != nil {
		return fmt.Errorf("client: write the memory of what was shown anew: %w", err)
	}
	return nil
}

// writeWhole makes a file under a temporary name, then renames it; the file stays
// open for what is added at its end.
func writeWhole(path string, data []byte) (*os.File, error) {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
