package level

import (
	"fmt"
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
