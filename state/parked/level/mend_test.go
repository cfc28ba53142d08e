package level

import (
	"errors"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"crier/state/parked/kv"
)

// smallDisk is a disk with a number of bytes left.
type smallDisk struct {
	mu   sync.Mutex
	left int
	fail error // of opening
}

func (d *smallDisk) disk() disk {
	return disk{
		open: func(dir string) (storage.Storage, error) {
			d.mu.Lock()
			defer d.mu.Unlock()
			if d.fail != nil {
				return nil, d.fail
			}
			s, err := storage.OpenFile(dir, false)
			return &smallStorage{s, d}, err
		},
		free: func(string) (uint64, error) {
			d.mu.Lock()
			defer d.mu.Unlock()
			return uint64(d.left), nil
		},
	}
}

func (d *smallDisk) set(left int, fail error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left, d.fail = left, fail
}

type smallStorage struct {
	storage.Storage
	d *smallDisk
}

// Create makes a file that takes space from the disk.
func (s *smallStorage) Create(fd storage.FileDesc) (storage.Writer, error) {
	w, err := s.Storage.Create(fd)
	if err != nil {
		return nil, err
	}
	return &smallWriter{w, s.d}, nil
}

type smallWriter struct {
	storage.Writer
	d *smallDisk
}

// Write writes what there is space for.
func (w *smallWriter) Write(b []byte) (int, error) {
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	room := min(len(b), max(w.d.left, 0))
	w.d.left -= room
	n, err := w.Writer.Write(b[:room])
	if err == nil && room < len(b) {
		err = syscall.ENOSPC
	}
	return n, err
}

type world struct {
	t    *testing.T
	disk smallDisk
	now  time.Time
	db   *KV
	n    int // batches of the script that were answered
}

// filled writes the script until the disk is full.
func filled(t *testing.T, left int) *world {
	w := &world{t: t, now: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)}
	w.disk.set(left, nil)
	db, err := Open(Config{Dir: t.TempDir(), WriteBuffer: 32 << 10, Now: func() time.Time { return w.now }, disk: w.disk.disk()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Logf("Close: %v", err)
		}
	})
	w.db = db
	for {
		err := db.Write(scriptBatch(w.n + 1))
		if err != nil {
			if !errors.Is(err, kv.ErrNotWritten) || !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("a write on a full disk: %v", err)
			}
			break
		}
		if w.n++; w.n > 5000 {
			t.Fatal("the disk does not fill")
		}
	}
	return w
}

func (w *world) refused() {
	w.t.Helper()
	if err := w.db.Write(scriptBatch(w.n + 1)); !errors.Is(err, kv.ErrNotWritten) {
		w.t.Fatalf("a write while the disk is full: %v", err)
	}
	holds(w.t, w.db, w.n)
}

func (w *world) writes() {
	w.t.Helper()
	for range 300 {
		if err := w.db.Write(scriptBatch(w.n + 1)); err != nil {
			w.t.Fatalf("batch %d: %v", w.n+1, err)
		}
		w.n++
	}
	holds(w.t, w.db, w.n)
}

// TestFullDisk fills the disk at several places, so that a journal, a table or the
// list of tables meets it, and frees it.
func TestFullDisk(t *testing.T) {
	for _, left := range []int{5_000, 40_000, 41_000, 77_000, 150_000, 300_000, 500_000} {
		w := filled(t, left)
		w.refused()
		w.now = w.now.Add(time.Hour) // time alone does not help
		w.refused()
		w.disk.set(10<<20, nil) // space does, a second after the last attempt
		w.refused()
		w.now = w.now.Add(mendEvery)
		w.writes()
	}
}

func TestFullDiskDuringScan(t *testing.T) {
	w := filled(t, 100_000)
	w.disk.set(10<<20, nil)
	w.now = w.now.Add(time.Hour)
	err := w.db.Scan(nil, nil, func([]byte, []byte) error {
		w.refused() // the files that the scan reads stay open
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	w.writes()
}

func TestOpeningAgainFails(t *testing.T) {
	w := filled(t, 100_000)
	broken := errors.New("broken disk")
	w.disk.set(10<<20, broken)
	w.now = w.now.Add(time.Hour)
	if err := w.db.Write(scriptBatch(w.n + 1)); !errors.Is(err, broken) {
		t.Fatalf("a write when the store cannot be opened: %v", err)
	}
	if _, err := w.db.Get([]byte("mark")); !errors.Is(err, kv.ErrNotWritten) {
		t.Fatalf("a read of a store that is not open: %v", err)
	}
	w.disk.set(10<<20, nil)
	w.now = w.now.Add(mendEvery)
	holds(t, w.db, w.n) // a read opens it, too
	w.writes()
}

// TestCloseWaits closes the store under a scan, which then can go on reading its
// rows but nothing new.
func TestCloseWaits(t *testing.T) {
	db, err := Open(Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	writeScript(t, db, 1, 50)
	closed := make(chan error, 1)
	n := 0
	err = db.Scan(nil, nil, func([]byte, []byte) error {
		if n++; n > 1 {
			return nil
		}
		go func() { closed <- db.Close() }()
		for {
			if _, err := db.Get([]byte("mark")); errors.Is(err, kv.ErrClosed) {
				break
			}
		}
		select {
		case <-closed:
			return errors.New("closed under a scan")
		case <-time.After(200 * time.Millisecond):
			return nil
		}
	})
	if want := len(stateAfter(50)); err != nil || n != want {
		t.Fatalf("the scan gave %d rows, %v; want %d", n, err, want)
	}
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
}
