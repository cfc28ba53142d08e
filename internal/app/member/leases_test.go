package member_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"crier/internal/app/member"
	"crier/scheduler/apta/wire"
	"crier/state/coord"
)

func lease(id string, incarnation uint32, nonce, home uint64) wire.Lease {
	return wire.Lease{Identity: wire.Identity{ID: id, Incarnation: incarnation, Nonce: nonce, Home: home}, Addr: "a:1"}
}

// Of two processes with one id the first has the lease as long as it renews it; the
// successor that holds the lock of the same data directory takes it at once.
func TestWhoHasALease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, store := t.Context(), coord.NewMemory(time.Now)
		a, b := member.NewLeases(store), member.NewLeases(store)
		renew := func(l *member.Leases, mine wire.Lease, want bool) {
			t.Helper()
			holder, ok, err := l.Renew(ctx, mine, 5*time.Second)
			if ok != want || err != nil {
				t.Fatalf("renewed %v, %v; want %v", ok, err, want)
			}
			if !want && holder.Nonce == mine.Nonce {
				t.Fatalf("%+v has its own lease", holder)
			}
		}
		first, twin, successor := lease("m", 1, 10, 7), lease("m", 1, 11, 8), lease("m", 2, 12, 7)
		renew(a, first, true)
		renew(a, first, true)
		renew(b, twin, false)
		renew(b, successor, true)
		renew(a, first, false)
		if err := a.Release(ctx, first); err != nil { // another's is left alone
			t.Fatal(err)
		}
		renew(a, first, false)
		renew(b, first, false) // it wrote the successor's itself
		renew(b, twin, false)
		time.Sleep(9 * time.Second)
		renew(a, twin, true)
		if err := a.Release(ctx, twin); err != nil {
			t.Fatal(err)
		}
		renew(b, successor, true)
	})
}

// slow is a store whose answers take their time; what is asked of it it does, whether or
// not anybody waits.
type slow struct {
	coord.Store
	takes atomic.Int64 // ns
}

func answered[T any](ctx context.Context, s *slow, do func() (T, error)) (T, error) {
	type answer struct {
		v   T
		err error
	}
	takes, done := time.Duration(s.takes.Load()), make(chan answer, 1)
	go func() {
		time.Sleep(takes / 2)
		v, err := do()
		time.Sleep(takes / 2)
		done <- answer{v, err}
	}()
	select {
	case a := <-done:
		return a.v, a.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

func (s *slow) Get(ctx context.Context, key string) (coord.Entry, error) {
	return answered(ctx, s, func() (coord.Entry, error) { return s.Store.Get(context.WithoutCancel(ctx), key) })
}

func (s *slow) Lease(ctx context.Context, key string, value []byte, expect coord.Version, ttl time.Duration) (coord.Version, error) {
	return answered(ctx, s, func() (coord.Version, error) {
		return s.Store.Lease(context.WithoutCancel(ctx), key, value, expect, ttl)
	})
}

// A renewal that is answered too late costs the next ones nothing.
func TestALateAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &slow{Store: coord.NewMemory(time.Now)}
		store.takes.Store(int64(200 * time.Millisecond))
		l := member.NewLeases(store)
		renew := func() bool {
			try, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			_, ok, _ := l.Renew(try, lease("m", 1, 10, 7), 5*time.Second)
			return ok
		}
		if !renew() {
			t.Fatal("it is not made")
		}
		store.takes.Store(int64(800 * time.Millisecond))
		if renew() {
			t.Fatal("it is renewed in time")
		}
		store.takes.Store(int64(200 * time.Millisecond))
		for i := range 4 {
			time.Sleep(time.Second)
			if !renew() {
				t.Errorf("renewal %d after the late one is late, too", i+1)
			}
		}
		time.Sleep(10 * time.Second)
	})
}

// The watcher tells who came and who is gone, and nothing of renewals.
func TestWatchTellsWhoIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := coord.NewMemory(time.Now)
		l := member.NewLeases(store)
		ctx, cancel := context.WithCancel(t.Context())
		var told []string
		answered := 0
		ended := make(chan error, 1)
		go func() {
			ended <- member.NewLeases(store).Watch(ctx, func(x wire.Lease, alive bool) {
				if alive {
					told = append(told, "+"+x.ID)
				} else {
					told = append(told, "-"+x.ID)
				}
			}, func() { answered++ })
		}()
		synctest.Wait()
		for range 3 {
			if _, _, err := l.Renew(ctx, lease("m", 1, 1, 0), 5*time.Second); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		time.Sleep(9 * time.Second)
		if _, err := store.Lease(ctx, "members/alone", []byte(`{"roles":["api"]}`), 0, time.Second); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if want := []string{"+m", "-m", "+alone", "-alone"}; !slices.Equal(told, want) || answered < 5 {
			t.Fatalf("told %q, %d answers", told, answered)
		}
	})
}
