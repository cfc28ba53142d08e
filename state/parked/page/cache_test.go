package page_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"crier/job"
	"crier/state/parked/kv"
	"crier/state/parked/kvtest"
	"crier/state/parked/numbers"
	"crier/state/parked/page"
	"crier/state/parked/row"
)

func TestCache(t *testing.T) {
	kvtest.Run(t, func(*testing.T) kv.Store { return page.NewCache(kv.NewMemory()) })
}

// counted counts the scans that reach a store.
type counted struct {
	kv.Store
	scans atomic.Int64
}

func (c *counted) Scan(start, end []byte, fn func(key, value []byte) error) error {
	c.scans.Add(1)
	return c.Store.Scan(start, end, fn)
}

func scan(t *testing.T, s kv.Store, prefix []byte) (all string) {
	t.Helper()
	err := s.Scan(prefix, row.After(prefix), func(k, v []byte) error {
		all += fmt.Sprintf("%d=%s ", k[8], v)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return all
}

// TestCacheHits: a page that was scanned whole is not read again, nor a job's part of it, until
// any of it is written.
func TestCacheHits(t *testing.T) {
	under := &counted{Store: kv.NewMemory()}
	c := page.NewCache(under)
	put := func(r job.Range, n int, id byte, value string) {
		var b kv.Batch
		b.Put(page.JobPrefix(r, n, numbers.Number(id)), []byte(value))
		if err := c.Write(&b); err != nil {
			t.Fatal(err)
		}
	}
	put(7, 3, 1, "a")
	put(7, 3, 2, "b")
	put(7, 4, 3, "c")
	for _, x := range []struct {
		do     func()
		prefix []byte
		want   string
		scans  int64
	}{
		{nil, page.JobPrefix(7, 3, numbers.Number(2)), "2=b ", 1}, // no whole page
		{nil, page.Prefix(7, 3), "1=a 2=b ", 1},
		{nil, page.Prefix(7, 3), "1=a 2=b ", 0},
		{nil, page.JobPrefix(7, 3, numbers.Number(2)), "2=b ", 0},
		{nil, page.JobPrefix(7, 3, numbers.Number(9)), "", 0},
		{nil, page.Prefix(7, 4), "3=c ", 1},
		{func() { put(7, 3, 2, "d") }, page.JobPrefix(7, 3, numbers.Number(2)), "2=d ", 1},
		{nil, page.Prefix(7, 3), "1=a 2=d ", 1},
		{nil, page.Prefix(7, 4), "3=c ", 0},
		{nil, page.Prefix(7, 5), "", 1},
		{nil, page.Prefix(7, 5), "", 0},
		{nil, row.Key(7, page.Letter), "1=a 2=d 3=c ", 1}, // a whole range
	} {
		if x.do != nil {
			x.do()
		}
		before := under.scans.Load()
		if got := scan(t, c, x.prefix); got != x.want {
			t.Errorf("below %x it has %q, want %q", x.prefix, got, x.want)
		}
		if n := under.scans.Load() - before; n != x.scans {
			t.Errorf("below %x it scanned %d times, want %d", x.prefix, n, x.scans)
		}
	}
}

// TestCacheOfAWrittenPage lets many read while pages are written: each sees all rows of a page as one
// write left them, and never an older one than a write that had ended before.
func TestCacheOfAWrittenPage(t *testing.T) {
	const pages, writes = 4, 3000
	c := page.NewCache(kv.NewMemory())
	var began, ended [pages]atomic.Uint64
	var all sync.WaitGroup
	done := make(chan struct{})
	for seed := range uint64(3) {
		all.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, 0))
			for {
				select {
				case <-done:
					return
				default:
				}
				n := rnd.IntN(pages)
				least, first := ended[n].Load(), uint64(0)
				err := c.Scan(page.Prefix(0, n), row.After(page.Prefix(0, n)), func(_, v []byte) error {
					got := binary.BigEndian.Uint64(v)
					if first == 0 {
						first = got
					}
					if most := began[n].Load(); got != first || got < least || got > most {
						return fmt.Errorf("page %d has %d behind %d, between %d and %d", n, got, first, least, most)
					}
					return nil
				})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range uint64(writes) {
		n := int(i % pages)
		began[n].Store(i + 1)
		var b kv.Batch
		for id := range byte(3) {
			b.Put(page.JobPrefix(0, n, numbers.Number(id)), binary.BigEndian.AppendUint64(nil, i+1))
		}
		if err := c.Write(&b); err != nil {
			t.Fatal(err)
		}
		ended[n].Store(i + 1)
	}
	close(done)
	all.Wait()
}
