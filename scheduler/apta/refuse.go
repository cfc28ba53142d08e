package apta

import (
	"fmt"
	"slices"
	"time"

	"crier/scheduler/apta/link"
	"crier/scheduler/apta/wire"
)

// refusal remembers whom this member has refused, so that it is not told of each
// hello.
type refusal struct {
	nonce uint64
	code  wire.RefuseCode
	at    Instant
}

const maxRefusals = 64 // nobody is told of more

// unfit says why a hello is not taken; code is "" if it is. used is the highest
// incarnation known of the id, with wire.RefusedUsed.
func (s *State) unfit(from wire.Identity, h *wire.Hello) (code wire.RefuseCode, text string, used uint32) {
	off := time.UnixMilli(h.Wall).Sub(s.wall)
	switch {
	case h.Cluster != s.cfg.Cluster:
		return wire.RefusedCluster, fmt.Sprintf("cluster %q is not %q", h.Cluster, s.cfg.Cluster), 0
	case h.Protocol != wire.Protocol:
		return wire.RefusedProtocol, fmt.Sprintf("protocol version %d is not %d", h.Protocol, wire.Protocol), 0
	case h.Profile != "" && h.Profile != s.t.Profile:
		return wire.RefusedProfile, fmt.Sprintf("cluster.profile: %q is not %q", h.Profile, s.t.Profile), 0
	case from.ID == s.cfg.ID:
		return wire.RefusedDuplicate, fmt.Sprintf("member %s is at %s: its id is taken", s.cfg.ID, s.cfg.Addr), 0
	case off.Abs() > s.cfg.ClockLimit:
		return wire.RefusedClock, fmt.Sprintf("the clock of %s is off by %s from that of %s, more than %s: set the clocks", from.ID,
			off.Round(time.Second), s.cfg.ID, s.cfg.ClockLimit), 0
	}
	if p := s.peer(from.ID); p != nil && p.heard && p.who.Nonce != from.Nonce && !successor(from, p.who) {
		return wire.RefusedDuplicate, fmt.Sprintf("another process of %s is at %s: its id is taken", from.ID, p.addr), 0
	}
	r := s.db.Get(link.Key{Kind: link.Membership, ID: from.ID})
	if r == nil || r.Nonce == from.Nonce || r.Incarnation == 0 {
		return "", "", 0
	}
	known := wire.Identity{ID: r.ID, Incarnation: r.Incarnation, Nonce: r.Nonce}
	addr := ""
	if r.Member != nil {
		known.Home, addr = r.Member.Home, r.Member.Addr
	}
	if _, there := s.routes.hops.Find(from.ID); there && !successor(from, known) {
		return wire.RefusedDuplicate, fmt.Sprintf("another process of %s is at %s: its id is taken", from.ID, addr), 0
	}
	if from.Incarnation <= r.Incarnation {
		return wire.RefusedUsed, fmt.Sprintf("incarnation %d of %s is used up: take a higher one than %d", from.Incarnation, from.ID, r.Incarnation), r.Incarnation
	}
	return "", "", 0
}

// successor reports whether a process holds the lock that the other one held: then
// that one is dead.
func successor(one, former wire.Identity) bool {
	return one.Home != 0 && one.Home == former.Home && one.Incarnation > former.Incarnation
}

func (s *State) refuse(from wire.Identity, addr string, r wire.Refuse) {
	i := slices.IndexFunc(s.refusals, func(x refusal) bool { return x.nonce == from.Nonce && x.code == r.Code })
	if i >= 0 && s.now.Since(s.refusals[i].at) < s.t.Hello/2 {
		return
	}
	s.send(addr, wire.Message{Refuse: &r})
	if i >= 0 {
		s.refusals[i].at = s.now
		return
	}
	if len(s.refusals) < maxRefusals {
		s.refusals = append(s.refusals, refusal{from.Nonce, r.Code, s.now})
		s.out = append(s.out, Refused{Code: r.Code, Peer: from.ID, Addr: addr, Incarnation: from.Incarnation, Text: r.Text})
	}
}

// dropRefusals forgets who has not called for a while.
func (s *State) dropRefusals() {
	s.refusals = slices.DeleteFunc(s.refusals, func(x refusal) bool { return s.now.Since(x.at) > s.t.Redial })
}

// refused takes the answer of a member that does not take this one. It ends for good
// if its id is another's; who holds the lease is no duplicate, whatever others say.
func (s *State) refused(from wire.Identity, r *wire.Refuse) {
	if r.Nonce != s.cfg.Nonce || s.ended {
		return
	}
	switch r.Code {
	case wire.RefusedUsed:
		s.usedUp(r.Incarnation)
	case wire.RefusedDuplicate:
		if !s.held() {
			s.endBy(Refused{Code: r.Code, Peer: from.ID, Text: r.Text, Final: true})
		}
	default:
		i := slices.IndexFunc(s.refusals, func(x refusal) bool { return x.nonce == from.Nonce && x.code == r.Code })
		if i < 0 && len(s.refusals) < maxRefusals {
			s.refusals = append(s.refusals, refusal{from.Nonce, r.Code, s.now})
			s.out = append(s.out, Refused{Code: r.Code, Peer: from.ID, Text: "this member is refused by " + from.ID + ": " + r.Text})
		}
	}
}

// endBy ends the member: it says and takes nothing any more.
func (s *State) endBy(r Refused) {
	s.out = append(s.out, r)
	if s.state != link.Offline {
		s.become(link.Offline, r.Text)
	}
	s.ended, s.peers = true, nil
	s.book.Drop()
	s.see()
}

// dialling is the calling of members that are not neighbours.
type dialling struct {
	at   Instant
	next int // of the list
}

const (
	dialsAlone  = 4  // addresses called at a time while there is no neighbour
	dialsRedial = 32 // and of those not reachable, at a redial
)

// call says hello to members that should be there: while there is no neighbour to
// some of all that are known, as often as hellos go; else at times to those that are
// registered, or were there, and are not reachable.
func (s *State) call() {
	if s.now < s.dial.at {
		return
	}
	s.dial.at = s.now.Add(s.random.Vary(s.t.Hello, s.t.Jitter))
	if !s.alive {
		return
	}
	alone, n := true, dialsAlone
	for _, p := range s.peers {
		alone = alone && !p.twoWay
	}
	if !alone {
		n = dialsRedial
		s.dial.at = s.now.Add(s.random.Vary(s.t.Redial, s.t.Jitter))
	}
	list := s.callable(alone)
	for range min(n, len(list)) {
		s.dial.next = (s.dial.next + 1) % len(list)
		s.greetAddr(list[s.dial.next], false)
	}
}

// callable lists the addresses of members that are not known to be heard.
func (s *State) callable(seeds bool) []string {
	var list []string
	add := func(id, addr string) {
		if addr == "" || addr == s.cfg.Addr || slices.Contains(list, addr) {
			return
		}
		if _, there := s.routes.hops.Find(id); there {
			return
		}
		if !slices.ContainsFunc(s.peers, func(p *peer) bool { return p.addr == addr }) {
			list = append(list, addr)
		}
	}
	for _, l := range s.book.Live(s.now) {
		add(l.ID, l.Addr)
	}
	for _, r := range s.db.Records(link.Membership) {
		add(r.ID, r.Member.Addr)
	}
	if seeds {
		for _, a := range s.cfg.Seeds {
			add("", a)
		}
	}
	return list
}
