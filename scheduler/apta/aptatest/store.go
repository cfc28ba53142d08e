package aptatest

import (
	"maps"
	"slices"
	"time"

	"crier/scheduler/apta"
	"crier/scheduler/apta/timing"
	"crier/scheduler/apta/wire"
)

// event is something that happens at a time; of several at one time in the order in
// which they were arranged.
type event struct {
	at     timing.Instant
	seq    int
	member *Member
	life   int
	do     func()
}

type queue []*event

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].seq < q[j].seq
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }

// Push implements heap.Interface.
func (q *queue) Push(x any) { *q = append(*q, x.(*event)) }

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

// store is the coordination store: leases that lapse.
type store struct {
	world  *World
	leases map[string]*held
	down   bool
	cut    map[string]bool // members that do not reach it
}

type held struct {
	lease  wire.Lease
	lapses timing.Instant
	since  timing.Instant // without a break
}

const storeDelay = 3 * time.Millisecond

func (s *store) reaches(m *Member) bool { return !s.down && !s.cut[m.ID] }

func (s *store) lapse() {
	maps.DeleteFunc(s.leases, func(_ string, h *held) bool { return s.world.now >= h.lapses })
}

// Holder gives the process that has the lease of an id now.
func (w *World) Holder(id string) (wire.Lease, bool) {
	w.store.lapse()
	h, ok := w.store.leases[id]
	if !ok {
		return wire.Lease{}, false
	}
	return h.lease, true
}

// renew executes a renewal, and tells the outcome; a store that is not reached tells
// nothing until the time for an answer is over.
func (s *store) renew(m *Member, e apta.Renew) {
	w := s.world
	w.after(storeDelay, m, func() {
		if !s.reaches(m) {
			w.after(w.Timers.Answer, m, func() { m.Tell(apta.LeaseAnswer{Sent: e.Sent, For: e.For, Outcome: apta.Silent}) })
			return
		}
		s.lapse()
		answer := apta.LeaseAnswer{Sent: e.Sent, For: e.For, Outcome: apta.Renewed}
		have, ok := s.leases[e.Lease.ID]
		if ok && !mayReplace(e.Lease, have.lease) {
			answer.Outcome, answer.Holder = apta.Taken, have.lease
		} else {
			since := w.now
			if ok && have.lease == e.Lease {
				since = have.since
			}
			s.leases[e.Lease.ID] = &held{e.Lease, w.now.Add(e.TTL), since}
		}
		w.after(storeDelay, m, func() { m.Tell(answer) })
	})
}

// mayReplace reports whether a lease can be written over another one: by the process
// that wrote it, and by its successor, who holds the lock of its data directory.
func mayReplace(l, have wire.Lease) bool {
	return l.Nonce == have.Nonce && l.Incarnation >= have.Incarnation ||
		l.Home != 0 && l.Home == have.Home && l.Incarnation > have.Incarnation
}

func (s *store) release(m *Member, l wire.Lease) {
	if have, ok := s.leases[l.ID]; ok && s.reaches(m) && have.lease.Nonce == l.Nonce {
		delete(s.leases, l.ID)
	}
}

// watch tells a member what is new about the leases, and that the store answers. A
// lease that is renewed is no news.
func (m *Member) watch() {
	w := m.world
	w.after(500*time.Millisecond, m, m.watch)
	if !w.store.reaches(m) {
		return
	}
	w.store.lapse()
	for _, id := range slices.Sorted(maps.Keys(m.known)) {
		if _, ok := w.store.leases[id]; !ok {
			delete(m.known, id)
			m.Tell(apta.LeaseSeen{Lease: wire.Lease{Identity: wire.Identity{ID: id}}})
		}
	}
	for _, id := range slices.Sorted(maps.Keys(w.store.leases)) {
		if h := w.store.leases[id]; m.known[id] != h.lease {
			m.known[id] = h.lease
			m.Tell(apta.LeaseSeen{Lease: h.lease, Alive: true})
		}
	}
	m.Tell(apta.StoreAnswered{})
}
