package member_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"crier/internal/app/member"
	"crier/scheduler/apta"
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
		renew := func(l *member.Leases, mine wire.Lease, want apta.Outcome) {
			t.Helper()
			got, holder, err := l.Renew(ctx, mine, 5*time.Second)
			if got != want || err != nil {
				t.Fatalf("outcome %d, %v; want %d", got, err, want)
			}
			if want == apta.Taken && holder.Nonce == mine.Nonce {
				t.Fatalf("%+v has its own lease", holder)
			}
		}
		first, twin, successor := lease("m", 1, 10, 7), lease("m", 1, 11, 8), lease("m", 2, 12, 7)
		renew(a, first, apta.Renewed)
		renew(a, first, apta.Renewed)
		renew(b, twin, apta.Taken)
		renew(b, successor, apta.Renewed)
		renew(a, first, apta.Taken)
		if err := a.Release(ctx, first); err != nil { // another's is left alone
			t.Fatal(err)
		}
		renew(a, first, apta.Taken)
		time.Sleep(9 * time.Second)
		renew(a, twin, apta.Renewed)
		if err := a.Release(ctx, twin); err != nil {
			t.Fatal(err)
		}
		renew(b, successor, apta.Renewed)
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
		synctest.Wait()
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if len(told) != 2 || told[0] != "+m" || told[1] != "-m" || answered < 5 {
			t.Fatalf("told %q, %d answers", told, answered)
		}
	})
}
