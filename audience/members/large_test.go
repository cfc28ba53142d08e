package members_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"crier/audience/members"
	"crier/job"
)

// crowd is a source of n ids: seven of each ten numbers, in scattered order.
type crowd struct{ at, n uint64 }

func (c *crowd) Name() string { return "crowd" }
func (c *crowd) Close() error { return nil }

// id gives the k-th of them. 1,000,003 is prime to the numbers of ids used here.
func (c *crowd) id(k uint64) uint32 {
	k = k * 1_000_003 % c.n
	return uint32(k/7*10 + k%7)
}

func (c *crowd) NextBatch(_ context.Context, b []uint32) (int, error) {
	n := 0
	for ; n < len(b) && c.at < c.n; n++ {
		b[n] = c.id(c.at)
		c.at++
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// peak watches the heap until it is stopped and gives the most that was in use.
func peak() (stop func() uint64) {
	var most atomic.Uint64
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most.Store(max(most.Load(), m.HeapInuse))
			select {
			case <-tick.C:
			case <-done:
				return
			}
		}
	}()
	return func() uint64 { close(done); <-ended; return most.Load() }
}

// crowdOf imports n followers, changes two, pins, and reads all of it.
func crowdOf(t testing.TB, n uint64) {
	w := onDisk(t, nil)
	key := members.Followers(7)
	res, err := w.ImportIDs(t.Context(), key, &crowd{n: n})
	must(t, err)
	if res.Added != n || res.Cardinality != n || res.Revision != 1 {
		t.Fatalf("%+v", res)
	}
	_, err = w.Add(t.Context(), key, []uint32{8, 1<<32 - 1})
	must(t, err)
	_, err = w.Remove(t.Context(), key, []uint32{0})
	must(t, err)
	pin, err := w.Pin(t.Context(), key)
	must(t, err)
	for what, open := range map[string]func() (*members.Reader, error){
		"pinned":  func() (*members.Reader, error) { return w.Pinned(t.Context(), pin.Blob) },
		"current": func() (*members.Reader, error) { return w.Current(t.Context(), key) },
	} {
		r, err := open()
		must(t, err)
		got := uint64(0)
		for q := range job.Range(job.Ranges) {
			set, err := r.Range(q)
			must(t, err)
			got += uint64(set.Card())
			for _, id := range []uint32{0, 1, 6, 7, 8, 9, 10, 1<<32 - 1} {
				want := id == 8 || id == 1<<32-1 || id != 0 && id%10 < 7
				if job.Recipient(id).Range() == q && set.Has(id) != want {
					t.Errorf("%s: that it has %d is %v", what, id, !want)
				}
			}
			set.Release()
		}
		if got != n+1 || r.Cardinality() != n+1 {
			t.Errorf("%s: %d ids, Cardinality %d, want %d", what, got, r.Cardinality(), n+1)
		}
		must(t, r.Close())
	}
}

func TestAMillionFollowers(t *testing.T) { crowdOf(t, 1_000_000) }

// TestEdgesOfOneLargeAccount imports more followers of one account than one
// change keeps in memory, beside small accounts.
func TestEdgesOfOneLargeAccount(t *testing.T) {
	const n = 300_000
	c := &crowd{n: n}
	var text bytes.Buffer
	for k := range uint64(n) {
		fmt.Fprintf(&text, "%d 4000000000\n", c.id(k))
		if k%1000 == 0 {
			fmt.Fprintf(&text, "%d %d\n", k+1, 4000000001+k%3)
		}
	}
	w := onDisk(t, func(c *members.Config) { c.MaxChangeBytes, c.EdgesInMemory = 10_000, 50_000 })
	res, err := w.ImportEdges(t.Context(), &text, members.EdgeOptions{})
	must(t, err)
	if want := (members.EdgesResult{Edges: n + 300, Added: n + 300, AccountsCreated: 4, AccountsTouched: 4}); res != want {
		t.Errorf("%+v, want %+v", res, want)
	}
	head, err := w.Head(t.Context(), members.Followers(4000000000))
	must(t, err)
	if head.Cardinality != n || head.Snapshot.Revision != 1 || head.Increments != 0 {
		t.Errorf("the large one is %+v", head)
	}
	want := ids{}
	for k := range uint64(n) {
		want[c.id(k)] = true
	}
	wantOneAccount(t, w, 4000000000, want)
	head, err = w.Head(t.Context(), members.Followers(4000000001))
	must(t, err)
	if head.Cardinality != 100 || head.Snapshot.Revision != 0 || head.Increments != 1 {
		t.Errorf("a small one is %+v", head)
	}
}

// BenchmarkHundredMillion reports the most heap that 100 million followers take.
func BenchmarkHundredMillion(b *testing.B) {
	for b.Loop() {
		stop := peak()
		crowdOf(b, 100_000_000)
		b.ReportMetric(float64(stop())/(1<<20), "MiB-peak")
	}
}
