package apta

import (
	"cmp"
	"time"

	"crier/scheduler/apta/link"
)

// judge makes the member's transitions, of the table in scheduler/DESIGN.md, until none is due.
func (s *State) judge() {
	for range 4 {
		before, from := s.state, s.own.activeFrom
		s.see()
		s.transit()
		s.routes.stale = s.routes.stale || s.own.activeFrom != from
		if s.state == before {
			break
		}
	}
	s.leave()
	s.see()
}

func (s *State) transit() {
	if s.state != link.Offline && s.state != link.Joining && s.lonely() && !s.ledger { // who joins has nothing to lose
		s.own.activeFrom = 0
		s.become(link.Offline, "no neighbour and no ledger")
		return
	}
	switch s.state {
	case link.Joining:
		s.own.activeFrom = 0
		if reason := s.joined(); reason != "" {
			s.become(link.Online, reason)
		}
	case link.Online:
		s.announce()
		if s.fit() && s.own.activeFrom > 0 && s.wall.UnixMilli() >= s.own.activeFrom {
			s.become(link.Working, "ready, and working since the moment it announced to all")
		} else if s.wish.silent != "" && s.held() && s.check {
			s.fallSilent()
		}
	case link.Working:
		switch {
		case s.book.Lost(s.now):
			s.own.activeFrom = 0
			s.become(link.Online, "the lease is not renewed, although the store answers others")
		default:
			s.fallSilent()
		}
	case link.Silence:
		s.reason = cmp.Or(s.quiet(), s.reason) // an operator may have said another one
		if s.quiet() == "" && s.held() {
			s.become(link.Working, "resumed")
		}
	case link.Offline:
		switch {
		case !s.lonely():
			s.rejoin("a neighbour is there again")
		case s.ledger && s.book.Survivor(s.now):
			s.rejoin("ledger and store answer, and nobody else is left")
		}
	}
}

// fallSilent takes no more work, if there is a reason.
func (s *State) fallSilent() {
	if reason := s.quiet(); reason != "" {
		s.own.activeFrom = 0
		s.become(link.Silence, reason)
	}
}

func (s *State) rejoin(reason string) {
	s.wish.rejoining = true
	s.become(link.Joining, reason)
	s.out = append(s.out, Rejoin{})
	s.renewal.at = s.now
}

// joined says why JOINING is over, or "" if it is not.
func (s *State) joined() string {
	if s.wish.rejoining || s.wish.used > 0 {
		return ""
	}
	if len(s.routes.hops) <= 1 {
		s.agreed = 0
		if s.ledger && s.book.Looked() && !s.book.AnyAlive() && !s.anyHeard() {
			return "nobody else is registered"
		}
		return ""
	}
	if len(s.view.Disagreeing()) > 0 {
		s.agreed = 0
	} else if s.agreed == 0 {
		s.agreed = s.now
	}
	switch {
	case s.agreed > 0 && s.now.Since(s.agreed) >= 2*s.t.Hello:
		return "all members that are reachable have the same view"
	case s.now.Since(s.since) >= s.t.Join:
		return "waited for the others' views long enough"
	}
	return ""
}

func (s *State) anyHeard() bool {
	for _, p := range s.peers {
		if p.heard {
			return true
		}
	}
	return false
}

// fit reports whether an ONLINE member may take work.
func (s *State) fit() bool { return s.held() && s.check && s.quiet() == "" }

// announce says from which second an ONLINE member will work, so that all count it
// from then on; whom nobody hears need not wait.
func (s *State) announce() {
	const ahead = 500 * time.Millisecond // for the record to get around
	switch wait := time.UnixMilli(s.own.activeFrom).Sub(s.wall); {
	case !s.fit():
		s.own.activeFrom = 0
	case s.own.activeFrom > 0 && wait <= ahead+time.Second: // more if the clock was set back
	case len(s.routes.hops) <= 1:
		s.own.activeFrom = s.wall.UnixMilli()
	default:
		s.own.activeFrom = s.wall.Add(ahead + time.Second - 1).Truncate(time.Second).UnixMilli()
	}
}

// quiet says why the member must not take work, or "".
func (s *State) quiet() string {
	switch {
	case s.wish.stop:
		return "it is to stop"
	case s.wish.silent == "" && s.unwell.Counts(s.now, s.t.BadHealth):
		return "its health was bad for too long"
	}
	return s.wish.silent
}

// leave withdraws a member that is to stop and owns nothing, and ends it when its
// neighbours know, or have had the time to.
func (s *State) leave() {
	switch {
	case s.leaving == 0 && s.wish.stop && s.claims == 0 && s.state != link.Working:
		s.leaving, s.wish.mayLeave = s.now, s.now.Add(4*s.t.Retransmit)
		s.own.seq++
		h := s.ownHeader(link.Membership)
		h.Dead = true
		s.spread(&link.Record{Header: h}, nil)
		s.compute()
		if s.book.Had() {
			s.out = append(s.out, Release{s.ownLease()})
			s.book.Drop()
		}
	case s.leaving > 0 && (s.now >= s.wish.mayLeave || !s.flooding()):
		s.flush()
		s.out = append(s.out, Left{})
		s.ended = true
	}
}

// flooding reports whether a neighbour has not acknowledged the withdrawal.
func (s *State) flooding() bool {
	k := link.Key{Kind: link.Membership, ID: s.cfg.ID}
	for _, p := range s.peers {
		if p.twoWay && p.out.Has(k) {
			return true
		}
	}
	return false
}

// Frozen reports whether the member is WORKING but takes nothing new: its lease is
// not renewed, or it has no neighbour while others' leases live. It goes on with what
// it holds while its journal accepts.
func (s *State) Frozen() bool {
	return s.state == link.Working && (!s.held() || s.lonely() && s.book.OthersLive(s.now))
}
