package coord_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"crier/state/coord"
	"crier/state/coord/coordtest"
)

func TestMemory(t *testing.T) {
	coordtest.Run(t, func(*testing.T) (a, b coord.Store) {
		m := coord.NewMemory(nil)
		return m, m
	})
}

// TestMemoryClock moves an injected clock: a lease lapses by it alone.
func TestMemoryClock(t *testing.T) {
	now := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	m := coord.NewMemory(func() time.Time { return now })
	v, err := m.Lease(t.Context(), "member/1", []byte("w1"), 0, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		after time.Duration
		there bool
	}{{0, true}, {4999 * time.Millisecond, true}, {time.Millisecond, false}} {
		now = now.Add(step.after)
		_, err := m.Get(t.Context(), "member/1")
		if there := err == nil; there != step.there {
			t.Fatalf("at %s the lease is there: %v", now, there)
		}
	}
	if _, err := m.Lease(t.Context(), "member/1", []byte("w1"), v, 5*time.Second); !errors.Is(err, coord.ErrConflict) {
		t.Fatalf("a renewal of a lapsed lease: %v", err)
	}
}

// TestMemoryDown takes the store away: calls fail, a watcher sees no answer, and
// learns afterwards what went away meanwhile.
func TestMemoryDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := coord.NewMemory(nil)
		if _, err := m.Lease(t.Context(), "member/1", []byte("w1"), 0, 5*time.Second); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		looks, told := 0, ""
		ended := make(chan error, 1)
		go func() {
			ended <- m.Watch(ctx, "", func(c coord.Change) error {
				if c.Gone {
					told += "-"
				}
				told += c.Key + " "
				return nil
			}, func() { looks++ })
		}()
		synctest.Wait()
		if looks == 0 || told != "member/1 " {
			t.Fatalf("at first: %d looks, told %q", looks, told)
		}
		m.SetDown(true)
		synctest.Wait()
		before := looks
		<-time.After(10 * time.Second) // on the bubble's clock
		synctest.Wait()
		if looks != before || told != "member/1 " {
			t.Fatalf("while down: %d more looks, told %q", looks-before, told)
		}
		_, gerr := m.Get(t.Context(), "member/1")
		_, perr := m.Put(t.Context(), "k", []byte("x"), 0)
		_, lerr := m.List(t.Context(), "")
		for _, err := range []error{gerr, perr, lerr, m.Delete(t.Context(), "k", 1)} {
			if !errors.Is(err, coord.ErrDown) {
				t.Errorf("while down: %v, want ErrDown", err)
			}
		}
		m.SetDown(false)
		synctest.Wait()
		if looks == before || told != "member/1 -member/1 " {
			t.Fatalf("after it: %d more looks, told %q", looks-before, told)
		}
		cancel()
		<-ended
	})
}

// TestMemoryLook moves the clock under a watcher.
func TestMemoryLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		m := coord.NewMemory(func() time.Time { return now })
		if _, err := m.Lease(t.Context(), "a", []byte("x"), 0, time.Minute); err != nil {
			t.Fatal(err)
		}
		gone := errors.New("gone")
		ended := make(chan error, 1)
		go func() {
			ended <- m.Watch(t.Context(), "", func(c coord.Change) error {
				if c.Gone {
					return gone
				}
				return nil
			}, nil)
		}()
		synctest.Wait()
		now = now.Add(time.Minute)
		m.Look()
		if err := <-ended; !errors.Is(err, gone) {
			t.Fatal(err)
		}
	})
}

func TestUnder(t *testing.T) {
	for _, c := range []struct {
		key, prefix string
		want        bool
	}{{"a/b", "a", true}, {"a/b/c", "a", true}, {"a", "a", false}, {"ab", "a", false}, {"a", "", true}, {"a/b", "b", false}, {"a", "a/b", false}} {
		if got := coord.Under(c.key, c.prefix); got != c.want {
			t.Errorf("Under(%q, %q) = %v", c.key, c.prefix, got)
		}
	}
}
