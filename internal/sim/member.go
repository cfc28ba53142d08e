package sim

import (
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"crier/scheduler/apta"
	"crier/scheduler/apta/hint"
	"crier/scheduler/apta/link"
	"crier/scheduler/apta/timing"
	"crier/scheduler/apta/wire"
	"crier/state/ledger"

	"crier/job"
)

// member is a worker's membership by the core of production, apta, in every other seed:
// who is there, who takes what, who has lapsed.
type member struct {
	s      *start
	core   *apta.State
	wakeAt timing.Instant
	known  map[string]wire.Lease // what its watcher has seen
	ledger bool
	ended  bool
}

// held is a lease of apta in the coordination store.
type held struct {
	lease wire.Lease
	until time.Duration
}

func newMember(s *start) *member {
	w := s.w
	home := fnv.New64a()
	home.Write([]byte(s.x.name))
	m := &member{s: s, known: map[string]wire.Lease{}}
	m.core = parsed(apta.New(apta.Config{Cluster: "sim", ID: s.x.name, Incarnation: s.mine.Incarnation, Nonce: w.rng.Uint64() | 1, Home: home.Sum64() | 1,
		Addr: s.x.name, Weights: link.Weights{link.Worker: 100, link.Scheduler: 100}, Seed: w.rng.Uint64(), Seeds: w.names(s.x.name)}, m.clock()))
	m.tell(apta.SelfCheck{OK: true})
	w.every(s.p, 500*time.Millisecond, m.watch)
	return m
}

// names lists the addresses of all workers but one.
func (w *World) names(but string) (all []string) {
	for _, x := range w.workers {
		if x.name != but {
			all = append(all, x.name)
		}
	}
	return all
}

func (m *member) clock() timing.Now {
	return timing.Now{Mono: timing.Instant(m.s.w.now), Wall: m.s.w.wall(m.s.p)}
}

// tell gives the core an event and carries out what it says.
func (m *member) tell(ev apta.Event) {
	if m.ended || m.s.x.run != m.s {
		return
	}
	for _, e := range m.core.Step(m.clock(), ev) {
		m.do(e)
	}
	now := timing.Instant(m.s.w.now)
	next := m.core.Next()
	if m.wakeAt > now && m.wakeAt <= next {
		return
	}
	m.wakeAt = max(next, now+1)
	at := m.wakeAt
	m.s.after(at.Since(now), func() {
		if m.wakeAt == at {
			m.wakeAt = 0
			m.tell(apta.Tick{})
		}
	})
}

func (m *member) do(e apta.Effect) {
	s := m.s
	w := s.w
	switch e := e.(type) {
	case apta.Send:
		if x := w.worker(e.Addr); x != nil {
			w.send(s.p, x.p, toMember, func() {
				if x.run.member != nil {
					x.run.member.tell(apta.Received{Message: e.Message})
				}
			})
		}
	case apta.Renew:
		m.renew(e)
	case apta.Release:
		w.send(s.p, w.coordHost, toMember, func() {
			if h, ok := w.leases[e.Lease.ID]; ok && h.lease.Nonce == e.Lease.Nonce {
				delete(w.leases, e.Lease.ID)
			}
		})
	case apta.Execute:
		s.post(func() { m.tell(apta.Executed{For: e.Call, Err: "nobody asks here"}) })
	case apta.Changed:
		w.trace("%s is %s: %s", s.mine, e.To, e.Reason)
	case apta.Rejoin:
		m.ended = true
		s.post(func() { s.stopped("it was out of touch: it takes another incarnation") })
	case apta.Refused:
		w.trace("%s: refused: %s", s.mine, e.Text)
		if e.Final {
			m.ended = true
			s.post(func() { s.stopped("it was refused: " + e.Text) })
		}
	}
}

// renew writes a lease as the store would: over one's own, or a dead predecessor's.
func (m *member) renew(e apta.Renew) {
	w := m.s.w
	answer := apta.LeaseAnswer{Sent: e.Sent, For: e.For, Outcome: apta.Renewed}
	w.ask(m.s.p, w.coordHost, toMember, timing.Default().Answer, func(reply func([]byte)) {
		have, ok := w.leases[e.Lease.ID]
		l := e.Lease
		if ok && have.until > w.now && !(l.Nonce == have.lease.Nonce && l.Incarnation >= have.lease.Incarnation ||
			l.Home == have.lease.Home && l.Incarnation > have.lease.Incarnation) {
			answer.Outcome, answer.Holder = apta.Taken, have.lease
		} else {
			w.leases[l.ID] = held{l, w.now + e.TTL}
		}
		reply(nil)
	}, func(_ []byte, ok bool) {
		if !ok {
			answer = apta.LeaseAnswer{Sent: e.Sent, For: e.For, Outcome: apta.Silent}
		}
		m.tell(answer)
	})
}

// watch tells the core what is new about the leases, and that the store and the ledger
// answer.
func (m *member) watch() {
	w := m.s.w
	if answers := !w.ledgerHost.paused && !w.isCut(m.s.p, w.ledgerHost) && !w.isCut(w.ledgerHost, m.s.p); answers != m.ledger {
		m.ledger = answers
		m.tell(apta.Ledger{Answers: answers})
	}
	m.tell(apta.Owned{Claims: m.s.tenure.Held() + len(m.s.slices)})
	var seen []wire.Lease
	w.ask(m.s.p, w.coordHost, toMember, time.Second, func(reply func([]byte)) {
		seen = seen[:0]
		for _, x := range w.workers {
			if h, ok := w.leases[x.name]; ok && h.until > w.now {
				seen = append(seen, h.lease)
			}
		}
		reply(nil)
	}, func(_ []byte, ok bool) {
		if ok {
			m.sees(seen)
		}
	})
}

func (m *member) sees(leases []wire.Lease) {
	for _, x := range m.s.w.workers {
		at := slices.IndexFunc(leases, func(l wire.Lease) bool { return l.ID == x.name })
		have, known := m.known[x.name]
		switch {
		case at < 0 && known:
			delete(m.known, x.name)
			m.tell(apta.LeaseSeen{Lease: wire.Lease{Identity: wire.Identity{ID: x.name}}})
		case at >= 0 && have != leases[at]:
			m.known[x.name] = leases[at]
			m.tell(apta.LeaseSeen{Lease: leases[at], Alive: true})
		}
	}
	m.tell(apta.StoreAnswered{})
}

// look makes the ring of what the core believes now.
func (m *member) look() *ring {
	s := m.s
	takers := m.core.View().Takers(link.Worker)
	r := &ring{mine: s.x.name, frozen: m.core.Frozen() || m.core.Status().State != link.Working, lapsed: map[string]uint32{}, wrong: map[job.Journal]bool{}}
	for _, t := range takers {
		r.live = append(r.live, t.ID)
	}
	for j := range s.known {
		if m.core.Lapsed(j.Worker, j.Incarnation) {
			r.lapsed[j.Worker] = max(r.lapsed[j.Worker], j.Incarnation)
		}
	}
	for j, until := range s.members.wrong {
		if s.w.now < until {
			r.wrong[j] = true
		}
	}
	key := fmt.Sprint(takers)
	if s.w.tables[key] == nil {
		s.w.tables[key] = hint.New(takers)
	}
	r.table = s.w.tables[key]
	r.key = fmt.Sprint(key, r.lapsed, r.wrong, r.frozen)
	if r.key == s.ringKey() {
		return s.ring
	}
	return r
}

func (s *start) ringKey() string {
	if s.ring == nil {
		return ""
	}
	return s.ring.key
}

// shardOf is a thing's place in the table.
func shardOf(what string) uint16 {
	var r job.Range
	if n, err := fmt.Sscanf(what, string(ledger.ClaimRange)+" %d", &r); n == 1 && err == nil {
		return uint16(r)
	}
	return hint.Shard([]byte(what))
}
