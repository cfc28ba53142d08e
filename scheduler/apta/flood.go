package apta

import (
	"slices"

	"crier/scheduler/apta/link"
	"crier/scheduler/apta/wire"
)

// exchange asks a two-way neighbour for its list of records until it has come, and
// for records until they have come; then the neighbour is full.
func (s *State) exchange(p *peer) {
	if p.full && p.strayed >= driftHellos && p.out.IsEmpty() && s.now >= p.askAt {
		p.strayed, p.described, p.askAt = 0, false, s.now // compare again
	}
	if p.described && len(p.awaiting) == 0 {
		p.full = true
		return
	}
	if s.now < p.askAt {
		return
	}
	p.askAt = s.now.Add(s.t.Retransmit)
	if !p.described {
		s.send(p.addr, wire.Message{Describe: &wire.Describe{Headers: s.db.Headers(), Ask: true}})
		return
	}
	s.request(p)
}

func (s *State) request(p *peer) {
	keys := make([]link.Key, 0, len(p.awaiting))
	for _, h := range p.awaiting {
		keys = append(keys, h.Key)
	}
	s.send(p.addr, wire.Message{Request: keys})
}

// described compares a neighbour's list with what there is here: what it has newer is
// asked for, what it lacks is sent.
func (s *State) described(p *peer, d *wire.Describe) {
	if d.Ask {
		s.send(p.addr, wire.Message{Describe: &wire.Describe{Headers: s.db.Headers()}})
	}
	if !p.heard || !p.hearsMe {
		return // its next hello makes it two-way, and then it is asked
	}
	theirs := slices.Clone(d.Headers)
	slices.SortFunc(theirs, func(a, b link.Header) int { return a.Key.Compare(b.Key) })
	lacks, ahead := s.db.Diff(theirs)
	for _, h := range ahead {
		p.out.Put(s.now, h)
	}
	p.awaiting = lacks
	p.described = true
	if len(p.awaiting) > 0 {
		p.askAt = s.now.Add(s.t.Retransmit)
		s.request(p)
	}
}

func (s *State) requested(p *peer, keys []link.Key) {
	for _, k := range keys[:min(len(keys), link.MaxRecords)] {
		if r := s.db.Get(k); r != nil {
			p.out.Put(s.now, r.Header)
		}
	}
}

// has notes that a neighbour has sent what it was asked for.
func (p *peer) has(h link.Header) {
	p.awaiting = slices.DeleteFunc(p.awaiting, func(w link.Header) bool {
		return w.Key == h.Key && w.Version.Compare(h.Version) <= 0
	})
}

func (s *State) update(p *peer, records []link.Record) {
	acks := make([]link.Header, 0, len(records))
	for i := range records {
		r := &records[i]
		mine := s.db.Get(r.Key)
		p.has(r.Header)
		switch {
		case mine == nil && r.Dead:
			acks = append(acks, r.Header) // nothing to withdraw
		case mine != nil && mine.Version.Compare(r.Version) > 0:
			p.out.Put(s.now, mine.Header) // it is newer; it is told instead of an acknowledgement
		default:
			p.out.Acked(r.Header)
			if mine == nil || mine.Version != r.Version {
				if !s.take(r, p) {
					continue
				}
			}
			acks = append(acks, r.Header)
		}
	}
	if len(acks) > 0 {
		s.send(p.addr, wire.Message{Ack: acks})
	}
}

// take stores a newer record and passes it on, unless it is this member's own; it
// reports whether it was taken.
func (s *State) take(r *link.Record, from *peer) bool {
	if r.ID == s.cfg.ID && r.Kind != link.Command {
		return s.ownCame(r)
	}
	if !s.spread(r, from) {
		return false
	}
	if r.Kind == link.Command && r.ID == s.cfg.ID {
		s.obey(r)
	}
	return true
}

// spread stores a record and puts it on its way to all neighbours but the one that it
// came from.
func (s *State) spread(r *link.Record, from *peer) bool {
	c := s.db.Put(s.now, r)
	if !c.Stored {
		return false
	}
	if c.Routes {
		s.routes.ask(s.now)
	}
	if c.View {
		s.routes.stale = true
	}
	if at := s.now.Add(s.t.ViewHash); c.Hash && (s.routes.changesAt == 0 || at < s.routes.changesAt) {
		s.routes.changesAt = at // not for each: all say so after a change
	}
	// Others send it too, and what comes meanwhile need not be sent. What changes
	// neither routes nor view waits for a common moment, until there is more of it.
	at := s.now.Add(s.t.Pace)
	if !c.Routes && !c.View && r.Kind != link.Command {
		lazy := Instant(s.t.Lazy)
		at = (s.now + lazy) / lazy * lazy
	}
	for _, p := range s.peers {
		if p != from && p.twoWay {
			p.out.Put(at, r.Header)
		}
	}
	return true
}

// age withdraws records that have come to their age, and forgets those that have been
// withdrawn for a while.
func (s *State) age() {
	if s.now < s.agingAt {
		return
	}
	s.agingAt = s.now.Add(s.t.MaxAge / 60)
	old, forget := s.db.Expire(s.now, s.t.MaxAge, s.t.MaxAge/4)
	for _, k := range old {
		if k.ID == s.cfg.ID && k.Kind != link.Command {
			continue // it is sent anew instead
		}
		r := *s.db.Get(k)
		r.Dead, r.Member, r.Data, r.Age = true, nil, nil, 0
		s.spread(&r, nil)
	}
	for _, k := range forget {
		if k.ID != s.cfg.ID || k.Kind == link.Command {
			s.db.Remove(k)
		}
	}
	s.dropRefusals()
	s.book.Forget(s.now)
}

// flush sends what is on its way to each neighbour, in batches.
func (s *State) flush() {
	for _, p := range s.peers {
		if at := p.out.Next(s.t.Pace); p.twoWay && at > 0 && s.now >= at {
			if batch := p.out.Take(s.now, &s.db, s.t.Retransmit); len(batch) > 0 {
				s.send(p.addr, wire.Message{Update: batch})
			}
		}
	}
}
