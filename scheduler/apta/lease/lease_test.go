package lease

import (
	"testing"
	"time"

	"crier/scheduler/apta/timing"
	"crier/scheduler/apta/wire"
)

const t0 = timing.Instant(time.Hour)

func at(seconds float64) timing.Instant { return t0.Add(time.Duration(seconds * float64(time.Second))) }

func other(id string, incarnation uint32) wire.Lease {
	return wire.Lease{Identity: wire.Identity{ID: id, Incarnation: incarnation, Nonce: 7}}
}

// TestFence: it counts from when the renewal was sent, not from when it was answered.
func TestFence(t *testing.T) {
	b := New(timing.Default())
	if b.Held(at(0)) || b.Had() {
		t.Error("held before it was renewed")
	}
	b.Renewed(at(1.9), at(0))
	if !b.Held(at(2.99)) || b.Held(at(3)) || b.Fence() != at(3) {
		t.Errorf("the fence is %s after the renewal was sent, want 3s", b.Fence().Since(at(0)))
	}
	b.Renewed(at(2), at(1))
	b.Renewed(at(2.5), at(0.5)) // an answer that was long under way
	if b.Fence() != at(4) {
		t.Errorf("the fence is at %s", b.Fence().Since(at(0)))
	}
	if b.Taken(at(2.6), at(0.9)) {
		t.Error("an old answer takes a newer lease away")
	}
	if !b.Taken(at(2.7), at(2.6)) || b.Held(at(2.7)) || !b.Lost(at(2.7)) || b.Taken(at(2.8), at(2.7)) {
		t.Error("taken by another process, and still held, or told twice")
	}
}

// steady makes the store answer from one time to another, as a watcher sees it.
func steady(b *Book, from, to float64) {
	for s := from; s <= to; s += 0.5 {
		b.Watched(at(s))
	}
}

// TestLost: at the fence, if the store answers others; later, if it has just come back.
func TestLost(t *testing.T) {
	b := New(timing.Default())
	steady(&b, 0, 10)
	b.Renewed(at(10), at(10))
	steady(&b, 10.5, 13)
	if b.Lost(at(12.99)) || !b.Lost(at(13)) {
		t.Error("not lost at the fence, though the store answers")
	}
	b = New(timing.Default())
	steady(&b, 0, 10)
	b.Renewed(at(10), at(10))
	steady(&b, 10.5, 11) // the last answers before an outage
	if b.Lost(at(60)) {
		t.Error("lost in an outage")
	}
	b.Sign(at(60.5), at(60.4)) // a neighbour says that it answers again
	steady(&b, 61, 63)
	if b.Lost(at(63.4)) || !b.Lost(at(63.5)) {
		t.Error("after an outage there is not just the time of a fence to renew")
	}
}

// TestGone holds rule 24.
func TestGone(t *testing.T) {
	b := New(timing.Default())
	b.Saw(other("x", 2), true)
	steady(&b, 0, 4.5)
	b.Saw(other("x", 0), false)
	if b.Gone(at(4.9), "x", 2) || b.Survivor(at(4.9)) {
		t.Error("gone before the store has been seen to answer for the time of a lease")
	}
	steady(&b, 5, 5)
	if !b.Gone(at(5), "x", 2) || !b.Gone(at(5), "never", 1) || !b.Survivor(at(5)) {
		t.Error("not gone after the time of a lease")
	}
	b.Saw(other("x", 3), true)
	if !b.Gone(at(5), "x", 2) || b.Gone(at(5), "x", 3) || b.Gone(at(5), "x", 4) || b.Survivor(at(5)) {
		t.Error("of a live incarnation 3: 2 is gone, 3 is not, and of 4 nothing is known")
	}
	b.Saw(other("x", 0), false)
	if b.Gone(at(8), "x", 3) || !b.OthersLive(at(8)) {
		t.Error("gone by what was seen 3 s ago")
	}
	steady(&b, 12, 16.5) // after a gap the time counts anew
	if b.Gone(at(16.5), "x", 3) || !b.OthersLive(at(16.5)) {
		t.Error("gone though the store did not answer in between")
	}
	steady(&b, 17, 17)
	b.Forget(at(17))
	if !b.Gone(at(17), "x", 3) || b.OthersLive(at(17)) || len(b.Live(at(60))) != 0 {
		t.Error("not gone, or not forgotten")
	}
}
