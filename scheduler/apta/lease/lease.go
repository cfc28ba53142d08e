// Package lease keeps the book of a member's lease in the coordination store and of
// what the member saw there of others' leases.
//
// It guarantees, by the member's own monotonic clock: Held ends before the lease can
// lapse in the store; and Gone is said only after the member itself has seen the
// store answer for the time of a lease (protocol rule 24).
package lease

import (
	"cmp"
	"slices"
	"time"

	"crier/scheduler/apta/timing"
	"crier/scheduler/apta/wire"
)

// Book is what a member knows about the store and the leases in it. It is owned by
// one goroutine.
type Book struct {
	t       timing.Timers
	renewed timing.Instant // when the last renewal that succeeded was sent; 0: not held
	taken   bool           // the last answer was that another process has it

	spoke timing.Instant // when the store answered this member last
	any   streak         // of signs that it answers anybody
	watch streak         // of answers to this member's watcher of the leases
	seen  []seen         // leases of others, by id
}

// streak is a row of signs without a gap of half a lease.
type streak struct{ first, last timing.Instant }

// seen is a lease as the watcher saw it last.
type seen struct {
	lease wire.Lease
	alive bool
}

// New makes the book of a member that holds nothing.
func New(t timing.Timers) Book { return Book{t: t} }

func (b *Book) sign(s *streak, now, at timing.Instant) {
	if at <= s.last {
		return
	}
	if s.last == 0 || at.Since(s.last) > b.t.Lease/2 {
		s.first = now
	}
	s.last = at
}

// Renewed notes that a renewal that was sent at a moment succeeded.
func (b *Book) Renewed(now, sent timing.Instant) {
	b.Sign(now, now)
	b.renewed, b.taken = max(b.renewed, sent), false
}

// Taken notes the answer to a renewal that another process has the lease. It reports
// whether that is news.
func (b *Book) Taken(now, sent timing.Instant) bool {
	b.Sign(now, now)
	if sent < b.renewed {
		return false // an old answer
	}
	news := !b.taken
	b.taken, b.renewed = true, 0
	return news
}

// Drop forgets that the lease is held.
func (b *Book) Drop() { b.renewed = 0 }

// Had reports whether the lease was held once and not given up since.
func (b *Book) Had() bool { return b.renewed > 0 }

// Fence is the moment from which the member must not take anything new: before its
// lease can lapse in the store. 0 if it is not held.
func (b *Book) Fence() timing.Instant {
	if b.renewed == 0 {
		return 0
	}
	return b.renewed.Add(b.t.Lease - b.t.Margin)
}

// Held reports whether the lease is held.
func (b *Book) Held(now timing.Instant) bool { return now < b.Fence() }

// Sign notes that the store answered somebody at a moment.
func (b *Book) Sign(now, at timing.Instant) { b.sign(&b.any, now, at) }

// Spoke notes that the store answered this member itself.
func (b *Book) Spoke(now timing.Instant) {
	b.spoke = now
	b.Sign(now, now)
}

// LastSpoke is when the store answered this member last; 0: never.
func (b *Book) LastSpoke() timing.Instant { return b.spoke }

// Watched notes that the watcher of the leases has seen all that is stored.
func (b *Book) Watched(now timing.Instant) {
	b.Spoke(now)
	b.sign(&b.watch, now, now)
}

// Looked reports whether the watcher has ever seen all.
func (b *Book) Looked() bool { return b.watch.last > 0 }

// Grace is the moment before which the lease is not lost, though the store answers
// others: after an outage, which nobody's lease survives, there is the time of a
// fence to renew it.
func (b *Book) Grace() timing.Instant { return b.any.first.Add(b.t.Lease - b.t.Margin) }

// Lost reports whether the lease is lost for good: the store said so; or the fence is
// reached, and the store has answered somebody after it should have answered the
// renewal that followed the last one.
func (b *Book) Lost(now timing.Instant) bool {
	if b.taken {
		return true
	}
	others := b.any.last > b.renewed.Add(b.t.Renew+b.t.Answer)
	return !b.Held(now) && others && now >= b.Grace()
}

// fresh is how long an answer to the watcher counts: it gets one every second.
const fresh = 5 * time.Second / 4

// watched reports whether this member itself has seen the store answer for the time
// of a lease, and just now.
func (b *Book) watched(now timing.Instant) bool {
	return b.watch.last > 0 && now.Since(b.watch.last) <= fresh && now.Since(b.watch.first) >= b.t.Lease
}

// Saw notes another member's lease, or that it is gone.
func (b *Book) Saw(l wire.Lease, alive bool) {
	i, ok := b.find(l.ID)
	switch {
	case alive && !ok:
		b.seen = slices.Insert(b.seen, i, seen{l, true})
	case alive:
		b.seen[i] = seen{l, true}
	case ok:
		b.seen[i].alive = false
	}
}

func (b *Book) find(id string) (int, bool) {
	return slices.BinarySearchFunc(b.seen, id, func(x seen, id string) int { return cmp.Compare(x.lease.ID, id) })
}

// AnyAlive reports whether another member's lease was live when it was seen last.
func (b *Book) AnyAlive() bool {
	return slices.ContainsFunc(b.seen, func(x seen) bool { return x.alive })
}

// OthersLive reports whether another member's lease is live, or may be.
func (b *Book) OthersLive(now timing.Instant) bool { return len(b.Live(now)) > 0 }

// Live lists the leases of others that are live, or may be, by id.
func (b *Book) Live(now timing.Instant) []wire.Lease {
	var list []wire.Lease
	watched := b.watched(now)
	for _, x := range b.seen {
		if x.alive || !watched {
			list = append(list, x.lease)
		}
	}
	return list
}

// Survivor reports whether no other member's lease is live for sure.
func (b *Book) Survivor(now timing.Instant) bool { return b.watched(now) && !b.OthersLive(now) }

// Gone reports whether the lease of an incarnation of another member is gone for sure.
func (b *Book) Gone(now timing.Instant, id string, incarnation uint32) bool {
	if !b.watched(now) {
		return false
	}
	i, ok := b.find(id)
	return !ok || !b.seen[i].alive || b.seen[i].lease.Incarnation > incarnation
}

// Forget drops leases that are gone for sure.
func (b *Book) Forget(now timing.Instant) {
	if b.watched(now) {
		b.seen = slices.DeleteFunc(b.seen, func(x seen) bool { return !x.alive })
	}
}
