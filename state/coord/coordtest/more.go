package coordtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"crier/state/coord"
)

// testRecreated writes over versions of a key's former lives, each of which had as
// many writes and the same values as the present one.
func testRecreated(t *testing.T, a, b coord.Store) {
	var former []coord.Version
	for range 3 {
		v1 := put(t, a, "claim/x", "one", 0)
		v2 := put(t, b, "claim/x", "two", v1)
		for _, v := range append(former, v1) {
			_, err := b.Put(t.Context(), "claim/x", []byte("late"), v)
			conflicts(t, "Put over a former life", err)
			_, err = b.Lease(t.Context(), "claim/x", []byte("late"), v, time.Minute)
			conflicts(t, "Lease over a former life", err)
			conflicts(t, "Delete of a former life", b.Delete(t.Context(), "claim/x", v))
		}
		has(t, a, "claim/x", "two", v2)
		remove(t, a, "claim/x", v2)
		former = append(former, v1, v2)
	}
}

// testLeaseUnseen renews and gives back leases that lapsed while nobody looked, as a
// holder does that was paused.
func testLeaseUnseen(t *testing.T, a, b coord.Store) {
	v1 := lease(t, a, "member/1", "w1", 0, time.Second)
	v2 := lease(t, a, "member/2", "w2", 0, time.Second)
	v3 := lease(t, a, "member/3", "w3", 0, time.Second)
	pass(t, 4500*time.Millisecond)
	_, err := a.Lease(t.Context(), "member/1", []byte("w1"), v1, time.Second)
	conflicts(t, "a late renewal that nobody has seen lapse", err)
	hasNot(t, b, "member/1")
	conflicts(t, "a late Delete of a lease", a.Delete(t.Context(), "member/2", v2))
	taken := lease(t, b, "member/3", "w4", 0, time.Minute)
	_, err = a.Lease(t.Context(), "member/3", []byte("w3"), v3, time.Second)
	conflicts(t, "a late renewal of what another has taken", err)
	has(t, a, "member/3", "w4", taken)
	list, err := b.List(t.Context(), "member")
	if err != nil || len(list) != 1 || list[0].Key != "member/3" {
		t.Fatalf("the leases are %v, %v", list, err)
	}
}

// pass lets time go by: what is tested is that nothing happens in it.
func pass(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
}

// untilAnswers waits until a store that was away gives a key.
func untilAnswers(t *testing.T, s coord.Store, key string) {
	t.Helper()
	for end := time.Now().Add(patience); ; pass(t, 10*time.Millisecond) {
		_, err := s.Get(t.Context(), key)
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("a store that is back does not answer: %v", err)
		}
	}
}

// writesLast is for how long it is written at random, at least.
const writesLast = 1500 * time.Millisecond

// writeAtRandom creates, changes and deletes keys w/0 to w/7 until its context ends,
// in two goroutines with keys of their own. The last writes are not cut off: they would
// come later than what is looked at then.
func writeAtRandom(ctx context.Context, t *testing.T, stores ...coord.Store) (wait func()) {
	var wg sync.WaitGroup
	for i, s := range stores {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(i)))
			versions := map[string]coord.Version{}
			for n := 0; ctx.Err() == nil; n++ {
				key := fmt.Sprintf("w/%d", i+2*random.IntN(4))
				var err error
				if v := versions[key]; v != 0 && random.IntN(3) == 0 {
					err = s.Delete(t.Context(), key, v)
					delete(versions, key)
				} else {
					versions[key], err = s.Put(t.Context(), key, fmt.Appendf(nil, "%d-%09d", i, n), v)
				}
				if err != nil {
					t.Errorf("writing %s: %v", key, err)
					return
				}
			}
		})
	}
	return wg.Wait
}

// testListDuringWrites lists while other keys come and go.
func testListDuringWrites(t *testing.T, a, b coord.Store) {
	stays := map[string]coord.Version{}
	for _, key := range []string{"a", "w/stays", "w/stays/below", "z"} {
		stays[key] = put(t, a, key, "x", 0)
	}
	ctx, cancel := context.WithCancel(t.Context())
	wait := writeAtRandom(ctx, t, a, b)
	defer wait()
	defer cancel()
	newest := map[string]string{}
	began := time.Now()
	for lists := 0; lists < 3 || time.Since(began) < writesLast; lists++ {
		list, err := b.List(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		left := len(stays)
		for i, e := range list {
			if i > 0 && list[i-1].Key >= e.Key {
				t.Fatalf("%s is listed after %s", e.Key, list[i-1].Key)
			}
			if v, ok := stays[e.Key]; ok && v == e.Version {
				left--
			} else if string(e.Value) < newest[e.Key] {
				t.Fatalf("%s was %s and is listed as %s", e.Key, newest[e.Key], e.Value)
			}
			newest[e.Key] = string(e.Value)
		}
		if left != 0 {
			t.Fatalf("of the keys that stay %d are not listed", left)
		}
	}
}

// testWatchDuringWrites judges a watcher by a list after many writes, and each key's
// changes by their order.
func testWatchDuringWrites(t *testing.T, a, b coord.Store) {
	w := watch(t, b, "")
	ctx, cancel := context.WithCancel(t.Context())
	wait := writeAtRandom(ctx, t, a, b)
	defer wait()
	defer cancel()
	pass(t, writesLast)
	w.until("20 changes are told", func() bool { return len(w.log) >= 20 })
	cancel()
	wait()
	list, err := a.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	w.until("what the list has", func() bool {
		if len(w.state) != len(list) {
			return false
		}
		for _, e := range list {
			if w.state[e.Key] != string(e.Value) {
				return false
			}
		}
		return true
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	newest := map[string]string{}
	for _, change := range w.log {
		if change[0] == '-' {
			continue
		}
		key, value := change[:len("w/0")], change[len("w/0="):]
		if value <= newest[key] {
			t.Fatalf("%s was told as %s after %s", key, value, newest[key])
		}
		newest[key] = value
	}
}

// testWatchSaw takes sawAll at its word: what was answered before the look that ends
// with it began has been told.
func testWatchSaw(t *testing.T, a, b coord.Store) {
	w := watch(t, b, "k")
	var v coord.Version
	for i := range 5 {
		value := fmt.Sprint(i)
		v = put(t, a, "k/1", value, v)
		w.mu.Lock()
		looks := w.looks
		w.mu.Unlock()
		// The next one may have begun before the write was answered.
		w.until("two looks", func() bool {
			if w.looks < looks+2 {
				return false
			}
			if w.state["k/1"] != value {
				t.Errorf("all is seen, but not %s (%v)", value, w.log)
			}
			return true
		})
	}
}

// Outage is a store that can be taken away.
type Outage struct {
	// A and B are two ends of it, as two processes have them.
	A, B coord.Store
	// Down takes it away and returns when it is gone; Up brings it back with what it
	// had acknowledged, and returns when it serves.
	Down, Up func()
	// Wait is how long a call may take while it is away.
	Wait time.Duration
}

// RunOutage takes a store away for some seconds: calls end in time and decide
// nothing, a watcher sees no answer, and learns afterwards what went away meanwhile.
func RunOutage(t *testing.T, o Outage) {
	v := put(t, o.A, "job/1", "one", 0)
	lease(t, o.A, "member/1", "w1", 0, 2*time.Second)
	w := watch(t, o.B, "")
	w.until("two keys", func() bool { return len(w.state) == 2 && w.looks > 0 })
	o.Down()
	down := time.Now()
	w.mu.Lock()
	looks := w.looks
	w.mu.Unlock()
	for what, call := range map[string]func() error{
		"Get":    func() error { _, err := o.A.Get(t.Context(), "job/1"); return err },
		"Put":    func() error { _, err := o.A.Put(t.Context(), "job/2", []byte("x"), 0); return err },
		"Lease":  func() error { _, err := o.A.Lease(t.Context(), "member/2", []byte("x"), 0, time.Minute); return err },
		"Delete": func() error { return o.A.Delete(t.Context(), "job/3", v) },
		"List": func() error {
			ctx, cancel := context.WithTimeout(t.Context(), o.Wait)
			defer cancel()
			_, err := o.A.List(ctx, "")
			return err
		},
	} {
		start := time.Now()
		err := call()
		if err == nil || errors.Is(err, coord.ErrConflict) || errors.Is(err, coord.ErrNotFound) || errors.Is(err, coord.ErrInvalid) {
			t.Errorf("%s of a store that is away: %v", what, err)
		}
		if took := time.Since(start); took > o.Wait+time.Second {
			t.Errorf("%s of a store that is away took %s", what, took)
		}
	}
	if rest := 3*time.Second - time.Since(down); rest > 0 {
		pass(t, rest)
	}
	w.mu.Lock()
	if w.looks > looks+1 || w.state["job/1"] != "one" { // one may have been under way
		t.Errorf("a watcher saw a store that is away answer (%d looks, then %d; %v)", looks, w.looks, w.log)
	}
	looks = w.looks
	w.mu.Unlock()
	o.Up()
	w.until("the lease is gone, the value is there", func() bool {
		return w.state["member/1"] == "" && w.state["job/1"] == "one" && w.looks > looks
	})
	untilAnswers(t, o.A, "job/1") // each end comes back on its own
	put(t, o.A, "job/1", "two", v)
	w.until("a new value", func() bool { return w.state["job/1"] == "two" })
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, change := range w.log {
		if change == "-member/1" {
			n++
		}
		if change == "-job/1" {
			t.Errorf("a key that stayed was told to be gone: %v", w.log)
		}
	}
	if n != 1 {
		t.Errorf("the end of a lease was told %d times: %v", n, w.log)
	}
}
