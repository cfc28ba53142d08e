package coordtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"crier/state/coord"
)

// watching is a watcher in the background.
type watching struct {
	t      *testing.T
	cancel func()
	done   chan error
	news   chan struct{}
	mu     sync.Mutex
	state  map[string]string // what the changes add up to
	log    []string          // the changes
	looks  int
}

func watch(t *testing.T, s coord.Store, prefix string) *watching {
	ctx, cancel := context.WithCancel(t.Context())
	w := &watching{t: t, cancel: cancel, done: make(chan error, 1), news: make(chan struct{}, 1), state: map[string]string{}}
	tell := func() {
		select {
		case w.news <- struct{}{}:
		default:
		}
	}
	go func() {
		w.done <- s.Watch(ctx, prefix, func(c coord.Change) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			if c.Gone {
				delete(w.state, c.Key)
				w.log = append(w.log, "-"+c.Key)
			} else {
				w.state[c.Key] = string(c.Value)
				w.log = append(w.log, c.Key+"="+string(c.Value))
			}
			tell()
			return nil
		}, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.looks++
			tell()
		})
	}()
	t.Cleanup(func() {
		cancel()
		<-w.done
	})
	return w
}

// until waits for a state of the watcher.
func (w *watching) until(what string, ok func() bool) {
	w.t.Helper()
	end := time.After(patience)
	for {
		w.mu.Lock()
		reached := ok()
		w.mu.Unlock()
		if reached {
			return
		}
		select {
		case <-w.news:
		case <-end:
			w.mu.Lock()
			defer w.mu.Unlock()
			w.t.Fatalf("not reached: %s (%v, caught up %d times)", what, w.log, w.looks)
		}
	}
}

func (w *watching) told(change string) func() bool {
	return func() bool { return len(w.log) > 0 && w.log[len(w.log)-1] == change }
}

func testWatch(t *testing.T, a, b coord.Store) {
	va := put(t, a, "job/a", "1", 0)
	put(t, a, "other/x", "1", 0)
	vd := put(t, a, "job/d", "1", 0)
	remove(t, a, "job/d", vd)
	w := watch(t, b, "job")
	w.until("the first look", func() bool { return w.looks > 0 })
	w.mu.Lock()
	if got := strings.Join(w.log, " "); got != "job/a=1" {
		t.Fatalf("at first the watcher is told %s", got)
	}
	w.mu.Unlock()
	va = put(t, a, "job/a", "2", va)
	w.until("a new value", w.told("job/a=2"))
	vb := put(t, a, "job/b/c", "1", 0)
	w.until("a new key", w.told("job/b/c=1"))
	put(t, a, "jobs/b", "1", 0)
	remove(t, a, "job/b/c", vb)
	w.until("a deleted key", w.told("-job/b/c"))
	put(t, a, "job/b/c", "2", 0)
	w.until("a key created again", w.told("job/b/c=2"))
	remove(t, a, "job/a", va)
	w.until("another deleted key", w.told("-job/a"))
	w.mu.Lock()
	defer w.mu.Unlock()
	if got := strings.Join(w.log, " "); got != "job/a=1 job/a=2 job/b/c=1 -job/b/c job/b/c=2 -job/a" {
		t.Fatalf("the watcher was told %s", got)
	}
}

func testWatchLapse(t *testing.T, a, b coord.Store) {
	w := watch(t, b, "member")
	lease(t, a, "member/1", "w1", 0, time.Second)
	w.until("the lease", w.told("member/1=w1"))
	start := time.Now()
	w.until("its end", w.told("-member/1"))
	if took := time.Since(start); took > 6*time.Second {
		t.Fatalf("the end of a lease of 1 s was told after %s", took)
	}
	lease(t, a, "member/1", "w2", 0, time.Minute)
	w.until("the next lease", w.told("member/1=w2"))
}

func testWatchEnds(t *testing.T, a, b coord.Store) {
	put(t, a, "k", "1", 0)
	put(t, a, "l", "1", 0)
	stop := errors.New("enough")
	n := 0
	err := b.Watch(t.Context(), "", func(coord.Change) error { n++; return stop }, func() { t.Error("saw all of two keys after one") })
	if !errors.Is(err, stop) || n != 1 {
		t.Fatalf("Watch gave %d changes and %v, want 1 and the function's error", n, err)
	}
	w := watch(t, b, "")
	w.until("a look", func() bool { return w.looks > 0 })
	w.cancel()
	select {
	case err := <-w.done:
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("Watch ends with %v, want Canceled", err)
		}
		w.done <- nil // for the tear-down
	case <-time.After(patience):
		t.Fatal("Watch does not end with its context")
	}
}

func testWatchSlow(t *testing.T, a, b coord.Store) {
	const n = 300
	hold := make(chan struct{})
	last := make(chan string, n)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- b.Watch(ctx, "k", func(c coord.Change) error {
			<-hold
			last <- string(c.Value)
			return nil
		}, nil)
	}()
	var v coord.Version
	for i := range n {
		v = put(t, a, "k/1", fmt.Sprintf("%04d", i), v)
	}
	close(hold)
	end := time.After(patience)
	for previous := ""; ; {
		select {
		case value := <-last:
			if value <= previous {
				t.Fatalf("%s was told after %s", value, previous)
			}
			previous = value
		case <-end:
			t.Fatalf("the last value told is %s", previous)
		}
		if previous == fmt.Sprintf("%04d", n-1) {
			break
		}
	}
	cancel()
	<-ended
}

func testWatchLooks(t *testing.T, a, _ coord.Store) {
	w := watch(t, a, "member")
	start := time.Now()
	w.until("five looks", func() bool { return w.looks >= 5 })
	if took := time.Since(start); took > 10*time.Second {
		t.Fatalf("five looks at an idle store took %s", took)
	}
}
