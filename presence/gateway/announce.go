package gateway

import (
	"slices"
	"time"

	"crier/internal/idset"
	"crier/job"
	"crier/presence/handoff"
)

// Bounds of one announcement: a request of at most some 600 KB.
const (
	maxJoins     = 32 << 10
	maxHelloData = 512 << 10
)

// announcer tells the home of one range who came and who left. One announcement is
// under way at a time; what changes meanwhile goes into the next. They are kept for
// the life of the incarnation, for their counts: 4,096 at most.
type announcer struct {
	rng    job.Range
	round  uint64                 // how often it began to tell everything
	seq    uint64                 // of this round
	dirty  map[job.Recipient]bool // to be in the next announcement; true: came or left since the last one
	since  time.Duration          // when the first of them did
	force  bool                   // announce although nobody came or left
	flight *flight
}

// flight is an announcement that is not taken in yet. It is repeated as it was.
type flight struct {
	number      uint64
	join, leave []job.Recipient
	hellos      []handoff.Hello
	sent        time.Duration
}

func (s *State) announcer(r job.Range) *announcer {
	a := s.announcers[r]
	if a == nil {
		a = &announcer{rng: r, round: 1, dirty: map[job.Recipient]bool{}}
		s.announcers[r] = a
		s.announcing = append(s.announcing, a)
	}
	return a
}

// dirty notes that a recipient came, left, or said hello.
func (s *State) dirty(id job.Recipient) { s.announceSoon(id, true) }

// announceSoon puts a recipient into the next announcement. One that did not move is not
// among those who came: it may be elsewhere by now.
func (s *State) announceSoon(id job.Recipient, moved bool) {
	a := s.announcer(id.Range())
	if len(a.dirty) == 0 {
		a.since = s.now
	}
	a.dirty[id] = a.dirty[id] || moved
	s.flushSoon(a)
}

func (s *State) flushSoon(a *announcer) {
	if at := a.since + batchWithin; a.flight == nil && (s.flushAt == 0 || at < s.flushAt) {
		s.flushAt = at
	}
}

func (s *State) flushAnnouncements() {
	s.flushAt = 0
	for _, a := range s.announcing {
		if a.flight != nil || len(a.dirty) == 0 && !a.force {
			continue
		}
		if len(a.dirty) > 0 && !a.force && s.now < a.since+batchWithin {
			s.flushSoon(a)
			continue
		}
		s.announce(a)
	}
}

// announce makes the next announcement of a range from how things stand now.
func (s *State) announce(a *announcer) {
	ids := make([]job.Recipient, 0, len(a.dirty))
	for id := range a.dirty {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	s.flights++
	f := &flight{number: s.flights}
	bytes := 0
	for _, id := range ids {
		if len(f.join)+len(f.leave) >= maxJoins || bytes >= maxHelloData {
			break
		}
		moved := a.dirty[id]
		delete(a.dirty, id)
		p := s.people[id]
		if p == nil || len(p.conns) == 0 {
			f.leave = append(f.leave, id)
			continue
		}
		if moved {
			f.join = append(f.join, id)
		}
		for _, c := range p.conns {
			if !c.told {
				c.told, c.toldAt = true, s.now
				h := c.hello()
				f.hellos = append(f.hellos, h)
				bytes += 20 + len(h.Have)*len(job.ID{})
			}
		}
	}
	a.force = false
	a.since = s.now
	a.seq++
	a.flight = f
	s.sendFlight(a)
}

func (c *conn) hello() handoff.Hello {
	h := handoff.Hello{Recipient: c.person.id, Client: c.client, Speaks: c.speaks}
	for _, e := range c.entries {
		if e.has && !e.settled {
			h.Have = append(h.Have, e.job)
		}
	}
	return h
}

func (s *State) sendFlight(a *announcer) {
	f := a.flight
	f.sent = s.now
	m := handoff.Announce{Inc: s.inc, Round: a.round, Seq: a.seq, Range: a.rng, Join: idset.New(a.rng), Leave: idset.New(a.rng), Hellos: f.hellos}
	for _, id := range f.join {
		m.Join.Add(uint32(id))
	}
	for _, id := range f.leave {
		m.Leave.Add(uint32(id))
	}
	s.emit(Announce{f.number, m})
}

func (s *State) repeatAnnouncements() {
	for _, a := range s.announcing {
		if a.flight != nil && s.now-a.flight.sent >= repeatEvery {
			s.sendFlight(a)
		}
	}
}

// announced goes on when a home has taken an announcement in. A home that asks for
// everything gets it from 1 on: all who are connected, with what their clients have.
func (s *State) announced(ev Announced) {
	a := s.announcers[ev.Range]
	if a == nil || a.flight == nil || ev.Flight != a.flight.number {
		return
	}
	a.flight = nil
	if ev.Again {
		s.anew(ev.Range)
	}
	if len(a.dirty) > 0 || a.force {
		s.flushSoon(a)
	}
}

// askedAnew begins to tell everything, unless that has just begun and is not answered: it is
// repeated, and a home that is slow to take it in asks again and again meanwhile.
func (s *State) askedAnew(r job.Range) {
	if a := s.announcers[r]; a != nil && (a.seq == 0 || a.seq == 1 && a.flight != nil) {
		return
	}
	s.anew(r)
}

// anew begins to tell a range's home everything, from 1 on. Whatever is under way to
// the one before is forgotten.
func (s *State) anew(r job.Range) {
	a := s.announcers[r]
	if a == nil {
		return // nobody of the range was ever here
	}
	a.flight, a.round, a.seq, a.force, a.since = nil, a.round+1, 0, true, s.now
	for _, c := range s.order {
		if c.person.id.Range() == r {
			c.told = false
			a.dirty[c.person.id] = true
		}
	}
	s.flushSoon(a)
}

// beat tells all homes that this incarnation is there and how far its announcements are.
func (s *State) beat() {
	m := handoff.Beat{Inc: s.inc, URL: s.cfg.URL}
	for _, a := range s.announcing {
		if a.seq == 0 {
			continue // everything is about to be told
		}
		m.Ranges = append(m.Ranges, handoff.Announced{Range: a.rng, Round: a.round, Seq: a.seq})
	}
	s.emit(Beat{m})
}
