package apta

import (
	"fmt"
	"slices"

	"crier/scheduler/apta/link"
	"crier/scheduler/apta/timing"
	"crier/scheduler/apta/wire"
)

// origin is the member's own records.
type origin struct {
	seq        uint64 // of all kinds
	at         Instant
	due        Instant // when the next one is to be made; 0: nothing has changed
	gap        timing.Throttle
	hashAt     Instant // since when only the view's hash has changed; 0: it has not
	activeFrom int64
	links      []string  // room for links
	data       [2][]byte // load, demand
	dataAt     Instant
}

// publish makes the member's own record anew when something in it has changed or it
// has come to its age; not too often, and later if it is only the hash of the view.
func (s *State) publish() {
	o := &s.own
	if s.leaving > 0 || s.wish.used > 0 {
		o.due = 0 // withdrawn; or another process of this id and incarnation may be there
		return
	}
	have := s.db.Get(link.Key{Kind: link.Membership, ID: s.cfg.ID})
	switch {
	case !s.tells(have):
		if o.due == 0 || o.hashAt > 0 {
			o.due, o.hashAt = o.gap.After(s.now, 0), 0
		}
	case have.Member.ViewHash != s.view.Hash:
		if o.hashAt == 0 {
			o.hashAt = s.now
			o.due = s.now.Add(s.t.ViewHash)
		}
	case s.now.Since(o.at) >= s.t.Refresh:
		o.due = s.now
	default:
		o.due, o.hashAt = 0, 0
	}
	if o.due > 0 && s.now >= o.due {
		if o.hashAt == 0 { // what others wait for is not held back for a hash
			o.gap.Done(s.now)
		}
		s.originate()
	}
	if o.dataAt > 0 && s.now.Since(o.dataAt) >= s.t.Refresh {
		for i := range o.data {
			s.originateData(link.Load+link.Kind(i), o.data[i])
		}
	}
}

// tells reports whether a record says what there is to say, but for the view's hash.
func (s *State) tells(r *link.Record) bool {
	m := r.Member
	if m == nil || r.Incarnation != s.cfg.Incarnation || m.State != s.state || m.Weights != s.cfg.Weights || m.ActiveFrom != s.own.activeFrom {
		return false
	}
	s.own.links = s.links(s.own.links[:0])
	return slices.Equal(m.Links, s.own.links)
}

func (s *State) originate() {
	o := &s.own
	o.seq++
	o.due, o.hashAt, o.at = 0, 0, s.now
	s.spread(&link.Record{Header: s.ownHeader(link.Membership), Member: &link.Member{
		State: s.state, Weights: s.cfg.Weights, Addr: s.cfg.Addr, Links: s.links(nil), ViewHash: s.view.Hash,
		ActiveFrom: s.own.activeFrom, Home: s.cfg.Home}}, nil)
}

func (s *State) ownHeader(k link.Kind) link.Header {
	return link.Header{Key: link.Key{Kind: k, ID: s.cfg.ID},
		Version: link.Version{Incarnation: s.cfg.Incarnation, Seq: s.own.seq, Nonce: s.cfg.Nonce}}
}

func (s *State) publishData(ev Publish) {
	if (ev.Kind == link.Load || ev.Kind == link.Demand) && len(ev.Data) <= link.MaxData {
		s.own.data[ev.Kind-link.Load] = ev.Data
		s.originateData(ev.Kind, ev.Data)
	}
}

func (s *State) originateData(k link.Kind, data []byte) {
	if data == nil || s.leaving > 0 || s.wish.used > 0 {
		return
	}
	s.own.seq++
	s.own.dataAt = s.now
	s.spread(&link.Record{Header: s.ownHeader(k), Data: data}, nil)
}

// ownCame takes a record of this member that it has not made, or that somebody has
// withdrawn. It reports whether it is to be acknowledged.
func (s *State) ownCame(r *link.Record) bool {
	mine := r.Nonce == s.cfg.Nonce && r.Incarnation == s.cfg.Incarnation
	holds := s.held()
	switch {
	case s.leaving > 0 && mine:
		return true
	case mine, r.Incarnation < s.cfg.Incarnation, r.Incarnation == s.cfg.Incarnation && holds:
		// Whoever holds the lease is the right one: it outbids the record.
		s.own.seq = max(s.own.seq, r.Seq)
		switch {
		case r.Kind == link.Membership:
			s.originate()
		case s.own.data[r.Kind-link.Load] == nil: // of a former incarnation
			s.own.seq++
			h := s.ownHeader(r.Kind)
			h.Dead = true
			s.spread(&link.Record{Header: h}, nil)
		default:
			s.originateData(r.Kind, s.own.data[r.Kind-link.Load])
		}
		return false
	case r.Incarnation > s.cfg.Incarnation && s.state != link.Joining && !r.Dead:
		s.endBy(Refused{Code: wire.RefusedDuplicate, Peer: r.ID, Incarnation: r.Incarnation, Final: true,
			Text: fmt.Sprintf("incarnation %d of %s is there: this one, %d, is over", r.Incarnation, r.ID, s.cfg.Incarnation)})
		return true
	}
	s.usedUp(r.Incarnation)
	return true
}

// usedUp notes that others know a process with this id and an incarnation that is not
// below this one's. Until it has a higher one it says nothing.
func (s *State) usedUp(incarnation uint32) {
	if incarnation <= s.wish.used || incarnation < s.cfg.Incarnation {
		return
	}
	s.wish.used = incarnation
	s.out = append(s.out, Refused{Code: wire.RefusedUsed, Peer: s.cfg.ID, Incarnation: incarnation,
		Text: fmt.Sprintf("incarnation %d of %s is used up: take a higher one than %d", s.cfg.Incarnation, s.cfg.ID, incarnation)})
}

// rejoined takes the answer to Rejoin, or a new incarnation at any time: then the
// member begins anew.
func (s *State) rejoined(ev Rejoined) {
	s.wish.rejoining = false
	if ev.Incarnation <= s.cfg.Incarnation {
		return
	}
	s.cfg.Incarnation = ev.Incarnation
	s.book.Drop()
	if ev.Incarnation > s.wish.used {
		s.wish.used = 0
	}
	if s.state != link.Joining {
		s.own.activeFrom = 0
		s.become(link.Joining, fmt.Sprintf("has incarnation %d now", ev.Incarnation))
	}
}
