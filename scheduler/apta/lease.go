package apta

import (
	"encoding/json"
	"fmt"

	"crier/scheduler/apta/link"
	"crier/scheduler/apta/wire"
)

// renewal is when and how the member's lease is renewed.
type renewal struct {
	at     Instant // when it is due
	direct bool    // the last one without help of a neighbour was answered
}

func (s *State) held() bool { return s.book.Held(s.now) }

func (s *State) ownLease() wire.Lease {
	return wire.Lease{Identity: s.identity(), Addr: s.cfg.Addr, Profile: s.t.Profile, Protocol: wire.Protocol}
}

// renewals sends what is due: to the store, and while the store does not answer this
// member also by way of a neighbour. A stalled member renews nothing.
func (s *State) renewals() {
	if s.now < s.renewal.at {
		return
	}
	s.renewal.at = s.now.Add(s.t.Renew)
	if !s.alive || s.state == link.Offline || s.leaving > 0 || s.wish.used > 0 {
		return
	}
	s.out = append(s.out, Renew{Lease: s.ownLease(), TTL: s.t.Lease, Sent: s.now})
	if !s.renewal.direct && s.book.Had() {
		s.renewBy()
	}
}

// leaseKind is the kind of the requests by which members renew leases for others.
const leaseKind = "lease"

// leaseCall is the body of such a request, leaseReply that of the answer.
type (
	leaseCall struct {
		Lease wire.Lease `json:"l"`
	}
	leaseReply struct {
		Outcome Outcome    `json:"o"`
		Holder  wire.Lease `json:"h,omitzero"`
	}
)

// renewBy sends a renewal by way of a neighbour, the next one each time.
func (s *State) renewBy() {
	body, err := json.Marshal(leaseCall{s.ownLease()})
	if err != nil {
		return // it is made of numbers and strings
	}
	s.nextReq++
	s.start(call{req: s.nextReq, kind: leaseKind, sent: s.now, until: s.now.Add(2 * s.t.Answer)}, "", body)
}

// renewFor renews a lease in the store for a member that does not reach it.
func (s *State) renewFor(r wire.Relay, from string) {
	c, body := Call{r.Source, r.Req, r.Kind, from}, leaseCall{}
	if err := json.Unmarshal(r.Body, &body); err != nil || body.Lease.ID != r.Source {
		s.answer(c, nil, "the lease cannot be read, or is not the sender's")
		return
	}
	s.out = append(s.out, Renew{Lease: body.Lease, TTL: s.t.Lease, Sent: s.now, For: c})
}

func (s *State) leaseAnswer(ev LeaseAnswer) {
	if ev.Outcome != Silent {
		s.book.Spoke(s.now)
	}
	if ev.For != (Call{}) {
		body, err := json.Marshal(leaseReply{ev.Outcome, ev.Holder})
		if err != nil {
			return // it is made of numbers and strings
		}
		s.answer(ev.For, body, "")
		return
	}
	if ev.Outcome == Silent && (s.renewal.direct || !s.book.Had()) {
		s.renewBy()
	}
	s.renewal.direct = ev.Outcome != Silent
	s.outcome(ev.Sent, ev.Outcome, ev.Holder)
}

// outcome takes what a renewal came to, whichever way it went.
func (s *State) outcome(sent Instant, o Outcome, holder wire.Lease) {
	if s.state == link.Offline || s.leaving > 0 {
		return // it is to lapse
	}
	switch o {
	case Renewed:
		s.book.Renewed(s.now, sent)
	case Taken:
		if s.book.Taken(s.now, sent) {
			s.out = append(s.out, Refused{Code: wire.RefusedDuplicate, Peer: holder.ID, Addr: holder.Addr, Incarnation: holder.Incarnation,
				Text: fmt.Sprintf("the lease of %s is held by another process, incarnation %d at %s", s.cfg.ID, holder.Incarnation, holder.Addr)})
		}
	}
}

// Lapsed reports whether an incarnation of a member is over: this member does not
// reach it, and has itself seen the store answer for the time of a lease, in which
// that one's lease is gone. Then its journal may be sealed.
func (s *State) Lapsed(id string, incarnation uint32) bool {
	if id == s.cfg.ID {
		return incarnation < s.cfg.Incarnation
	}
	return !s.reaches(id, incarnation) && s.book.Gone(s.now, id, incarnation)
}

// Recorded reports whether there is a member's record that it did not withdraw.
func (s *State) Recorded(id string) bool {
	r := s.db.Get(link.Key{Kind: link.Membership, ID: id})
	return r != nil && !r.Dead
}

// reaches reports whether an incarnation of a member is reachable.
func (s *State) reaches(id string, incarnation uint32) bool {
	r := s.db.Get(link.Key{Kind: link.Membership, ID: id})
	_, ok := s.routes.hops.Find(id)
	return ok && r != nil && r.Incarnation == incarnation
}
