// Package nodetest is the behaviour that all adapters to the members' leases share.
package nodetest

import (
	"context"
	"testing"
	"time"

	"crier/scheduler/apta/node"
	"crier/scheduler/apta/wire"
)

const ttl = 2 * time.Second

func lease(id string, incarnation uint32, nonce, home uint64) wire.Lease {
	return wire.Lease{Identity: wire.Identity{ID: id, Incarnation: incarnation, Nonce: nonce, Home: home}, Addr: "host:1"}
}

// Leases holds an adapter to the behaviour. open gives a fresh one, and other views of
// the same store, as other members have them; slack is by how much later than its time
// a lease may lapse.
func Leases(t *testing.T, open func(t *testing.T, views int) []node.Leases, slack time.Duration) {
	t.Run("who may replace whom", func(t *testing.T) { t.Parallel(); replaces(t, open(t, 2)) })
	t.Run("release", func(t *testing.T) { t.Parallel(); release(t, open(t, 2)) })
	t.Run("lapse", func(t *testing.T) { t.Parallel(); lapse(t, open(t, 2), slack) })
	t.Run("watch", func(t *testing.T) { t.Parallel(); watch(t, open(t, 2), slack) })
}

func ctxOf(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func replaces(t *testing.T, s []node.Leases) {
	ctx := ctxOf(t)
	for i, c := range []struct {
		lease wire.Lease
		ok    bool
		why   string
	}{
		{lease("a", 2, 1, 7), true, "nobody has it"},
		{lease("a", 2, 1, 7), true, "a renewal"},
		{lease("a", 2, 9, 7), false, "another process of this home, the same incarnation"},
		{lease("a", 3, 9, 8), false, "another home, a higher incarnation"},
		{lease("a", 1, 9, 7), false, "this home, a lower incarnation"},
		{lease("a", 3, 1, 7), true, "the same process with a higher incarnation"},
		{lease("a", 2, 1, 7), false, "the same process, late"},
		{lease("a", 4, 9, 7), true, "the successor"},
		{lease("a", 3, 1, 7), false, "the former one"},
		{lease("b", 1, 5, 0), true, "another member"},
		{lease("b", 2, 6, 0), false, "no home is nobody's home"},
	} {
		// By either view: a neighbour may do it.
		holder, ok, err := s[i%2].Renew(ctx, c.lease, time.Minute)
		if err != nil {
			t.Fatalf("%s: %v", c.why, err)
		}
		if ok != c.ok {
			t.Errorf("%s: %v, want %v", c.why, ok, c.ok)
		}
		if !ok && (holder.ID != c.lease.ID || holder.Nonce == 0 || holder.Addr != "host:1") {
			t.Errorf("%s: the holder is %+v", c.why, holder)
		}
	}
}

func release(t *testing.T, s []node.Leases) {
	ctx := ctxOf(t)
	must(t, s[0], lease("a", 1, 1, 0))
	for _, l := range []wire.Lease{lease("a", 1, 2, 0), lease("z", 1, 1, 0)} {
		if err := s[1].Release(ctx, l); err != nil {
			t.Errorf("releasing what is not held: %v", err)
		}
	}
	if _, ok, err := s[1].Renew(ctx, lease("a", 1, 2, 0), ttl); ok || err != nil {
		t.Errorf("somebody else released it (%v)", err)
	}
	for range 2 {
		if err := s[0].Release(ctx, lease("a", 1, 1, 0)); err != nil {
			t.Errorf("releasing: %v", err)
		}
	}
	must(t, s[1], lease("a", 1, 2, 0))
}

func must(t *testing.T, s node.Leases, l wire.Lease) {
	t.Helper()
	if holder, ok, err := s.Renew(ctxOf(t), l, ttl); err != nil || !ok {
		t.Fatalf("renewing %+v: %v, held by %+v", l, err, holder)
	}
}

// eventually asks again until it is so; it gives the time that took.
func eventually(t *testing.T, within time.Duration, what string, so func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(within); !so(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within %s: %s", within, what)
		}
	}
	return time.Since(began)
}

// lapse: not before its time, and not long after it; a renewal counts from itself.
func lapse(t *testing.T, s []node.Leases, slack time.Duration) {
	must(t, s[0], lease("a", 1, 1, 0))
	tick := time.NewTicker(ttl / 2)
	for range 3 {
		<-tick.C
		must(t, s[0], lease("a", 1, 1, 0))
	}
	tick.Stop()
	took := eventually(t, ttl+slack, "it lapses", func() bool {
		_, ok, err := s[1].Renew(ctxOf(t), lease("a", 1, 2, 0), ttl)
		return err == nil && ok
	})
	if took < ttl-50*time.Millisecond {
		t.Errorf("it lapsed after %s, its time is %s", took, ttl)
	}
	must(t, s[1], lease("a", 1, 2, 0))
}

type sight struct {
	lease wire.Lease
	alive bool
}

func watch(t *testing.T, s []node.Leases, slack time.Duration) {
	must(t, s[0], lease("old", 1, 1, 0))
	ctx, cancel := context.WithCancel(context.Background())
	sights, all, done := make(chan sight, 256), make(chan bool, 256), make(chan error, 1)
	go func() {
		done <- s[1].Watch(ctx, func(l wire.Lease, alive bool) { sights <- sight{l, alive} }, func() {
			select {
			case all <- true:
			default:
			}
		})
	}()
	known := map[string]wire.Lease{}
	look := func() {
		for len(sights) > 0 {
			if x := <-sights; x.alive {
				known[x.lease.ID] = x.lease
			} else {
				delete(known, x.lease.ID)
			}
		}
	}
	eventually(t, 5*time.Second, "all is seen", func() bool { return len(all) > 0 })
	if look(); known["old"] != lease("old", 1, 1, 0) {
		t.Errorf("when all is said to be seen, what is known is %v", known)
	}
	must(t, s[0], lease("new", 1, 2, 3))
	must(t, s[0], lease("new", 2, 4, 3))
	eventually(t, 5*time.Second, "a new lease and its successor are seen", func() bool { look(); return known["new"] == lease("new", 2, 4, 3) })
	if err := s[0].Release(ctxOf(t), lease("new", 2, 4, 3)); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "a lease that is released is gone", func() bool { look(); _, ok := known["new"]; return !ok })
	eventually(t, ttl+slack, "a lease that lapsed is gone", func() bool { look(); return len(known) == 0 })
	for len(all) > 0 {
		<-all
	}
	for range 3 {
		select {
		case <-all:
		case <-time.After(1500 * time.Millisecond):
			t.Error("a store that answers is not said to answer within 1.5 s")
		}
	}
	cancel()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Error("Watch does not end with its context")
	}
}
