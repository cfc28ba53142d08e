package ledgertest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"crier/internal/bus/subject"
	"crier/internal/pause"
	"crier/state/ledger"
)

func testPurge(t *testing.T, l ledger.Log) {
	recs := fill(t, l, 12, "led.a", "led.b")
	purge := func(s string, before uint64) {
		t.Helper()
		if err := l.Purge(t.Context(), s, before); err != nil {
			t.Fatalf("Purge(%s, %d): %v", s, before, err)
		}
	}
	purged := map[uint64]bool{}
	keep := func(ok func(ledger.Stored) bool) (kept []ledger.Stored) {
		for _, r := range recs {
			if ok(r) {
				kept = append(kept, r)
			} else {
				purged[r.Seq] = true
			}
		}
		return kept
	}
	purge("led.none", 100)
	purge("led.a", 0)
	purge("led.a", 1)
	sameRecords(t, readAll(t, l, 1, "led.>"), recs)
	for range 2 { // it is idempotent
		purge("led.a", 7)
		recs = keep(func(r ledger.Stored) bool { return r.Subject != "led.a" || r.Seq >= 7 })
		readsLeft(t, l, 1, "led.>", recs, purged)
	}
	purge("led.b", 1<<40)
	recs = keep(func(r ledger.Stored) bool { return r.Subject != "led.b" || r.Seq == 12 })
	readsLeft(t, l, 1, "led.>", recs, purged)
	readsLeft(t, l, 2, "led.b", recs[len(recs)-1:], purged)
	for _, seq := range []uint64{1, 2, 10} {
		_, err := l.Get(t.Context(), seq)
		for end := time.Now().Add(patience); err == nil && time.Now().Before(end) && pause.For(t.Context(), again); {
			_, err = l.Get(t.Context(), seq) // as in readsLeft
		}
		if !errors.Is(err, ledger.ErrNoRecord) {
			t.Errorf("Get(%d) after a purge: %v, want ErrNoRecord", seq, err)
		}
	}
	if _, err := l.Append(t.Context(), "led.b", 0, nil); !errors.Is(err, ledger.ErrConflict) {
		t.Fatalf("Append as the first of a purged subject: %v, want ErrConflict", err)
	}
	appendTo(t, l, "led.b", 12, nil)
}

func testPurgeRacing(t *testing.T, l ledger.Log) {
	const n = 150
	first := appendTo(t, l, "led.a", 0, nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	done := make(chan struct{})
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if err := l.Purge(t.Context(), "led.a", 1<<40); err != nil {
				t.Errorf("Purge: %v", err)
				return
			}
		}
	})
	defer close(done)
	last := first
	for range n {
		seq, err := l.Append(t.Context(), "led.a", last, nil)
		if err != nil {
			t.Fatalf("Append after %d: %v: a purge took the last record", last, err)
		}
		last = seq
	}
}

func testReadAll(t *testing.T, l ledger.Log) {
	recs := fill(t, l, 500, "led.j.w.1", "led.j.w.2", "led.job.x", "led.claim.slice.x")
	for _, filter := range []string{"led.>", "led.j.>", "led.*.x", "led.job.x", "led.none", "led.claim.*.*"} {
		for _, from := range []uint64{0, 1, 2, 250, 500, 501, 1000} {
			var want []ledger.Stored
			for _, r := range recs {
				if r.Seq >= from && subject.Match(filter, r.Subject) {
					want = append(want, r)
				}
			}
			sameRecords(t, readAll(t, l, from, filter), want)
		}
	}
}

// following is a follower in the background.
type following struct {
	t      *testing.T
	cancel func()
	done   chan error
	mu     sync.Mutex
	got    []ledger.Stored
	looks  int
	news   chan struct{}
}

func follow(t *testing.T, l ledger.Log, from uint64, filter string) *following {
	ctx, cancel := context.WithCancel(t.Context())
	f := &following{t: t, cancel: cancel, done: make(chan error, 1), news: make(chan struct{}, 1)}
	tell := func() {
		select {
		case f.news <- struct{}{}:
		default:
		}
	}
	go func() {
		f.done <- l.Follow(ctx, from, filter, func(r ledger.Stored) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.got = append(f.got, r)
			tell()
			return nil
		}, func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.looks++
			tell()
		})
	}()
	t.Cleanup(func() {
		cancel()
		<-f.done
	})
	return f
}

// until waits for a state of the follower.
func (f *following) until(what string, ok func() bool) {
	f.t.Helper()
	end := time.After(patience)
	for {
		f.mu.Lock()
		reached := ok()
		f.mu.Unlock()
		if reached {
			return
		}
		select {
		case <-f.news:
		case <-end:
			f.t.Fatalf("not reached: %s (%d records, caught up %d times)", what, len(f.got), f.looks)
		}
	}
}

func testFollowLive(t *testing.T, l ledger.Log) {
	const writers, each = 4, 100
	all, one := follow(t, l, 1, "led.>"), follow(t, l, 1, "led.w.2")
	var mu sync.Mutex
	stored := make(map[uint64]ledger.Stored)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			s := fmt.Sprintf("led.w.%d", w)
			var last uint64
			for i := range each {
				data := fmt.Appendf(nil, "%s %d", s, i)
				seq, err := l.Append(t.Context(), s, last, data)
				if err != nil {
					t.Errorf("Append: %v", err)
					return
				}
				last = seq
				mu.Lock()
				stored[seq] = ledger.Stored{Seq: seq, Subject: s, Data: data}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	var want, wantOne []ledger.Stored
	for _, seq := range slices.Sorted(maps.Keys(stored)) {
		want = append(want, stored[seq])
		if stored[seq].Subject == "led.w.2" {
			wantOne = append(wantOne, stored[seq])
		}
	}
	all.until("all records", func() bool { return len(all.got) >= len(want) })
	one.until("the records of one subject", func() bool { return len(one.got) >= len(wantOne) })
	// One more look shows whether anything comes that should not.
	for _, f := range []*following{all, one} {
		f.mu.Lock()
		n := f.looks
		f.mu.Unlock()
		f.until("a further look", func() bool { return f.looks > n+1 })
	}
	all.mu.Lock()
	defer all.mu.Unlock()
	one.mu.Lock()
	defer one.mu.Unlock()
	sameRecords(t, all.got, want)
	sameRecords(t, one.got, wantOne)
}

func testFollowError(t *testing.T, l ledger.Log) {
	fill(t, l, 10, "led.a")
	stop := errors.New("enough")
	n := 0
	err := l.Follow(t.Context(), 1, "led.>", func(ledger.Stored) error {
		if n++; n == 4 {
			return stop
		}
		return nil
	}, nil)
	if !errors.Is(err, stop) || n != 4 {
		t.Fatalf("Follow gave %d records and %v, want 4 and the function's error", n, err)
	}
}

func testFollowContext(t *testing.T, l ledger.Log) {
	fill(t, l, 10, "led.a")
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	err := l.Follow(ctx, 1, "led.>", func(ledger.Stored) error {
		if n++; n == 4 {
			cancel()
		}
		return nil
	}, func() { t.Error("caught up with 6 records not read") })
	if !errors.Is(err, context.Canceled) || n != 4 {
		t.Fatalf("Follow gave %d records and %v, want 4 and Canceled", n, err)
	}
	f := follow(t, l, 1, "led.>")
	f.until("caught up", func() bool { return f.looks > 0 })
	f.cancel()
	select {
	case err := <-f.done:
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("a waiting Follow ends with %v, want Canceled", err)
		}
		f.done <- nil // for the tear-down
	case <-time.After(patience):
		t.Fatal("a waiting Follow does not end with its context")
	}
}

func testFollowAhead(t *testing.T, l ledger.Log) {
	recs := fill(t, l, 3, "led.a")
	last := recs[2].Seq
	from := last + 5
	f := follow(t, l, from, "led.>")
	var want []ledger.Stored
	for i := byte(0); len(want) < 2; i++ {
		if last = appendTo(t, l, "led.a", last, []byte{i}); last >= from {
			want = append(want, ledger.Stored{Seq: last, Subject: "led.a", Data: []byte{i}})
		}
	}
	f.until("two records", func() bool { return len(f.got) >= 2 })
	f.mu.Lock()
	defer f.mu.Unlock()
	sameRecords(t, f.got, want)
}

func testCaughtUp(t *testing.T, l ledger.Log) {
	var last, other uint64
	for i := range 50 {
		last = appendTo(t, l, "led.a", last, []byte{byte(i)})
		got := readAll(t, l, 1, "led.a")
		if len(got) != i+1 {
			t.Fatalf("%d records are read after %d were stored", len(got), i+1)
		}
	}
	f := follow(t, l, last+1, "led.a")
	for i := range 4 {
		// The other subject's records move the end of the log, not the follower's.
		other = appendTo(t, l, "led.b", other, nil)
		last = appendTo(t, l, "led.a", last, []byte{byte(i)})
		f.mu.Lock()
		n := f.looks
		f.mu.Unlock()
		// The look under way may be older than the append; the next one is not.
		f.until("two looks", func() bool { return f.looks >= n+2 })
		f.mu.Lock()
		if len(f.got) < i+1 {
			t.Fatalf("caught up with %d records after %d were stored", len(f.got), i+1)
		}
		f.mu.Unlock()
	}
}

func testCaughtUpAgain(t *testing.T, l ledger.Log) {
	f := follow(t, l, 1, "led.>")
	start := time.Now()
	f.until("five looks", func() bool { return f.looks >= 5 })
	if took := time.Since(start); took > 10*time.Second {
		t.Fatalf("five looks at an idle log took %s", took)
	}
}

// testModel does random things to the log and to a list, and compares.
func testModel(t *testing.T, l ledger.Log) {
	rnd := rand.New(rand.NewPCG(1, 2))
	subjects := []string{"led.a", "led.b", "led.c.d", "led.c.e"}
	var list []ledger.Stored // in order; what is purged is taken out
	purged := map[uint64]bool{}
	var end uint64 // sequence of the last record ever stored
	lastOf := func(s string) (last ledger.Stored) {
		for _, r := range list {
			if r.Subject == s {
				last = r
			}
		}
		return last
	}
	for step := range 600 {
		s := subjects[rnd.IntN(len(subjects))]
		switch last := lastOf(s); rnd.IntN(10) {
		default:
			expected := last.Seq
			if rnd.IntN(4) == 0 {
				expected = rnd.Uint64N(end + 2)
			}
			data := fmt.Appendf(nil, "step %d", step)
			seq, err := l.Append(t.Context(), s, expected, data)
			if expected != last.Seq {
				if !errors.Is(err, ledger.ErrConflict) {
					t.Fatalf("step %d: Append after %d instead of %d: %v", step, expected, last.Seq, err)
				}
				break
			}
			if err != nil || seq <= end {
				t.Fatalf("step %d: Append gave %d, %v behind %d", step, seq, err, end)
			}
			end = seq
			list = append(list, ledger.Stored{Seq: seq, Subject: s, Data: data})
		case 7:
			before := rnd.Uint64N(end + 2)
			if err := l.Purge(t.Context(), s, before); err != nil {
				t.Fatalf("step %d: Purge: %v", step, err)
			}
			kept := list[:0:0]
			for _, r := range list {
				if r.Subject != s || r.Seq >= before || r.Seq == last.Seq {
					kept = append(kept, r)
				} else {
					purged[r.Seq] = true
				}
			}
			list = kept
		case 8:
			got, err := l.Last(t.Context(), s)
			if last.Seq == 0 {
				if !errors.Is(err, ledger.ErrNoRecord) {
					t.Fatalf("step %d: Last(%s): %v", step, s, err)
				}
			} else if err != nil {
				t.Fatalf("step %d: Last(%s): %v", step, s, err)
			} else {
				sameRecord(t, got, last)
			}
		case 9:
			from, filter := rnd.Uint64N(end+2), []string{"led.>", "led.c.*", s}[rnd.IntN(3)]
			want := slices.DeleteFunc(slices.Clone(list), func(r ledger.Stored) bool { return r.Seq < from || !subject.Match(filter, r.Subject) })
			readsLeft(t, l, from, filter, want, purged)
		}
	}
}
