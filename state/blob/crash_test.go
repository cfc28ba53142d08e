package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"crier/job"
)

// OpenDirWithRoom opens a Dir on a disk that is full after room bytes of blobs.
func OpenDirWithRoom(root string, room int64) (*Dir, error) {
	return openDir(root, &smallDisk{left: room}, 0)
}

// smallDisk is a disk with little room; what is removed gives its room back.
type smallDisk struct {
	disk
	left int64
}

func (d *smallDisk) create(path string) (file, error) {
	f, err := d.disk.create(path)
	return &smallFile{f, d}, err
}

func (d *smallDisk) remove(path string) error {
	if st, err := os.Stat(path); err == nil {
		d.left += st.Size()
	}
	return d.disk.remove(path)
}

type smallFile struct {
	file
	d *smallDisk
}

func (f *smallFile) Write(p []byte) (int, error) {
	if int64(len(p)) > f.d.left {
		n, _ := f.file.Write(p[:f.d.left])
		f.d.left = 0
		return n, &os.PathError{Op: "write", Path: "blob", Err: syscall.ENOSPC}
	}
	f.d.left -= int64(len(p))
	return f.file.Write(p)
}

var errDead = errors.New("the process is dead")

// mortal is a disk under a process that dies at a step. It remembers what a
// power cut would leave: file contents that were synced, and of each directory
// the entries it had when it was last synced.
type mortal struct {
	disk
	dieAt, step int
	synced      map[string]bool              // by current path
	durable     map[string]map[string][]byte // directory → entry → content; nil is a directory
}

// alive counts a step and reports whether the process lives to finish it.
func (m *mortal) alive() bool {
	m.step++
	return m.step < m.dieAt
}

func (m *mortal) create(path string) (file, error) {
	if !m.alive() {
		return nil, errDead
	}
	f, err := m.disk.create(path)
	return &mortalFile{f, path, m}, err
}

func (m *mortal) mkdir(path string) error {
	if !m.alive() {
		return errDead
	}
	return m.disk.mkdir(path)
}

func (m *mortal) rename(from, to string) error {
	if !m.alive() {
		return errDead
	}
	m.synced[to] = m.synced[from]
	delete(m.synced, from)
	return m.disk.rename(from, to)
}

func (m *mortal) remove(path string) error {
	if !m.alive() {
		return errDead
	}
	return m.disk.remove(path)
}

func (m *mortal) syncDir(dir string) error {
	if !m.alive() {
		return errDead
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	now := map[string][]byte{}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if e.IsDir() {
			now[e.Name()] = nil
			continue
		}
		now[e.Name()] = m.content(path)
	}
	m.durable[dir] = now
	return nil
}

// content is what a power cut would leave in a file: nothing unless synced.
func (m *mortal) content(path string) []byte {
	if !m.synced[path] {
		return []byte{}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		panic(err)
	}
	return b
}

type mortalFile struct {
	file
	path string
	m    *mortal
}

func (f *mortalFile) Write(p []byte) (int, error) {
	if !f.m.alive() {
		n, _ := f.file.Write(p[:len(p)/2])
		return n, errDead
	}
	return f.file.Write(p)
}

func (f *mortalFile) Sync() error {
	if !f.m.alive() {
		return errDead
	}
	f.m.synced[f.path] = true
	return nil
}

// copyDurable writes what a power cut leaves of a directory.
func (m *mortal) copyDurable(t *testing.T, dir, to string) {
	must(t, os.MkdirAll(to, 0o700))
	for name, content := range m.durable[dir] {
		if content == nil {
			m.copyDurable(t, filepath.Join(dir, name), filepath.Join(to, name))
			continue
		}
		must(t, os.WriteFile(filepath.Join(to, name), content, 0o600))
	}
}

// copyUnsynced writes what a power cut leaves if every name made it to the disk,
// but of contents only what was synced.
func (m *mortal) copyUnsynced(t *testing.T, dir, to string) {
	must(t, os.MkdirAll(to, 0o700))
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		from, path := filepath.Join(dir, e.Name()), filepath.Join(to, e.Name())
		if e.IsDir() {
			m.copyUnsynced(t, from, path)
			continue
		}
		must(t, os.WriteFile(path, m.content(from), 0o600))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// life is what a process did before it died: for each blob, whether its latest
// Put was answered, and whether a Delete was begun or answered after it.
type life struct{ put, deleting, deleted map[job.Digest]bool }

// live puts and deletes until the end or the process's death.
func live(ctx context.Context, root string, m *mortal, blobs [][]byte) life {
	l := life{map[job.Digest]bool{}, map[job.Digest]bool{}, map[job.Digest]bool{}}
	d, err := openDir(root, m, 0)
	if err != nil {
		return l
	}
	for round := range 2 {
		for i, b := range blobs {
			digest := job.Digest(sha256.Sum256(b))
			l.deleted[digest] = false // from here on it may be back
			if _, _, err := d.Put(ctx, bytes.NewReader(b)); err != nil {
				return l
			}
			l.put[digest], l.deleting[digest] = true, false
			if i != round {
				continue
			}
			l.deleting[digest] = true
			if err := d.Delete(ctx, digest); err != nil {
				return l
			}
			l.deleted[digest] = true
		}
	}
	return l
}

func TestCrashAtEveryStep(t *testing.T) {
	blobs := [][]byte{bytes.Repeat([]byte("a"), 300000), []byte("bb"), bytes.Repeat([]byte("c"), 5000)}
	for at := 1; ; at++ {
		base := t.TempDir()
		m := &mortal{dieAt: at, synced: map[string]bool{}, durable: map[string]map[string][]byte{}}
		l := live(t.Context(), filepath.Join(base, "blobs"), m, blobs)

		power, names := t.TempDir(), t.TempDir()
		m.copyDurable(t, base, power)
		m.copyUnsynced(t, base, names)
		for how, dir := range map[string]string{"killed": base, "power cut": power, "power cut, names kept": names} {
			checkSurvivor(t, fmt.Sprintf("%s at step %d", how, at), filepath.Join(dir, "blobs"), l)
		}
		if m.step < at {
			if at < 30 {
				t.Fatalf("only %d steps: the test does not reach the disk", m.step)
			}
			return
		}
	}
}

// checkSurvivor opens what is left and holds it to the store's promises.
func checkSurvivor(t *testing.T, when, root string, l life) {
	t.Helper()
	d, err := OpenDir(root)
	if err != nil {
		t.Fatalf("%s: opening: %v", when, err)
	}
	if left, err := os.ReadDir(d.tmp()); err != nil || len(left) > 0 {
		t.Errorf("%s: half-written files are left: %v, %v", when, left, err)
	}
	there := map[job.Digest]bool{}
	for info, err := range d.List(t.Context()) {
		must(t, err)
		there[info.Digest] = true
		if err := d.Verify(t.Context(), info.Digest); err != nil {
			t.Errorf("%s: half a blob is visible: %v", when, err)
		}
	}
	for digest := range l.put {
		if !there[digest] && !l.deleting[digest] {
			t.Errorf("%s: a blob whose Put was answered is lost", when)
		}
		if there[digest] && l.deleted[digest] {
			t.Errorf("%s: a blob whose Delete was answered is back", when)
		}
	}
}
