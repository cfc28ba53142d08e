package level

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/storage"
)

// A table is written with as much rest as work as long as few tables wait at level 0; other files
// never are, nor anything while the store is opened.
func TestCompactionsRest(t *testing.T) {
	now := time.Unix(0, 0)
	var rests []time.Duration
	p := &paced{Storage: storage.NewMemStorage(), now: func() time.Time { return now }, rest: func(d time.Duration) { rests = append(rests, d) }}
	db, err := leveldb.Open(storage.NewMemStorage(), &opt.Options{WriteBuffer: 1 << 10, CompactionL0Trigger: 1000})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	number := int64(0)
	write := func(kind storage.FileType, each time.Duration) []time.Duration {
		t.Helper()
		rests = nil
		number++
		w, err := p.Create(storage.FileDesc{Type: kind, Num: number})
		if err != nil {
			t.Fatal(err)
		}
		for range 4 * pacedBytes / (16 << 10) {
			now = now.Add(each)
			if n, err := w.Write(make([]byte, 16<<10)); n != 16<<10 || err != nil {
				t.Fatalf("%d bytes are written: %v", n, err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return rests
	}
	times := func(d time.Duration) []time.Duration { return []time.Duration{d, d, d, d} }

	if got := write(storage.TypeTable, time.Millisecond); got != nil {
		t.Errorf("it rests %v while the store is opened", got)
	}
	p.db.Store(db)
	if got, want := write(storage.TypeTable, time.Millisecond), times(16*time.Millisecond); !slices.Equal(got, want) {
		t.Errorf("it rests %v, want %v", got, want)
	}
	if got, want := write(storage.TypeTable, time.Second), times(restMost); !slices.Equal(got, want) {
		t.Errorf("it rests %v after long work, want %v", got, want)
	}
	if got := write(storage.TypeJournal, time.Millisecond); got != nil {
		t.Errorf("it rests %v in a journal", got)
	}
	for n := 0; !p.hurries(); n++ {
		if n == 1000 {
			t.Fatal("no tables wait at level 0")
		}
		if err := db.Put(fmt.Append(nil, n), make([]byte, 2<<10), nil); err != nil {
			t.Fatal(err)
		}
	}
	if got := write(storage.TypeTable, time.Millisecond); got != nil {
		t.Errorf("it rests %v although tables wait", got)
	}
}

// fileStorage is files of which what is handed over can be seen: their descriptors are asked for.
type fileStorage struct {
	storage.Storage
	asked int
}

type fileWriter struct {
	storage.Writer
	fd  func() uintptr
	all *fileStorage
}

// Create implements storage.Storage.
func (s *fileStorage) Create(fd storage.FileDesc) (storage.Writer, error) {
	w, err := s.Storage.Create(fd)
	if err != nil {
		return nil, err
	}
	return &fileWriter{w, w.(interface{ Fd() uintptr }).Fd, s}, nil
}

// Fd gives the file's descriptor.
func (w *fileWriter) Fd() uintptr {
	w.all.asked++
	return w.fd()
}

// Each piece of a table is handed to the disk, and what is stored is what was written.
func TestTablesAreHandedOver(t *testing.T) {
	files, err := storage.OpenFile(t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { files.Close() })
	seen := &fileStorage{Storage: files}
	p := &paced{Storage: seen, now: time.Now, rest: func(time.Duration) {}}
	fd := storage.FileDesc{Type: storage.TypeTable, Num: 1}
	w, err := p.Create(fd)
	if err != nil {
		t.Fatal(err)
	}
	var want []byte
	for i := range 3*pacedBytes/(100<<10) + 1 {
		piece := bytes.Repeat([]byte{byte(i)}, 100<<10)
		want = append(want, piece...)
		if _, err := w.Write(piece); err != nil {
			t.Fatal(err)
		}
	}
	if seen.asked < 2 {
		t.Errorf("%d pieces of %d bytes are handed over", seen.asked, len(want))
	}
	if err := errors.Join(w.Sync(), w.Close()); err != nil {
		t.Fatal(err)
	}
	r, err := files.Open(fd)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes are read, want the %d that were written: %v", len(got), len(want), err)
	}
}
