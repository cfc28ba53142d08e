package apta

import (
	"slices"
	"time"

	"crier/scheduler/apta/link"
	"crier/scheduler/apta/wire"
)

// peer is a member that this one says hello to: as the overlay wants it, or because
// it says hello itself.
type peer struct {
	id, addr string
	who      wire.Identity // of the process that was heard; zero before
	since    Instant       // since when it is called or known
	chosen   bool          // by the overlay here
	blocked  bool          // it could not be reached directly for a while
	want     bool          // here: it is chosen, or stays until those who are chosen are there
	wantsMe  bool          // there
	idle     Instant       // since when neither does

	heard   bool
	heardAt Instant
	hearsMe bool
	twoWay  bool
	greeted Instant // when it was sent a hello last
	health  int
	storeAt Instant // when the store answered it, by this member's clock; 0: never

	// The exchange of databases that begins when it becomes two-way.
	described bool
	askAt     Instant
	awaiting  []link.Header // what it has and was asked for
	full      bool
	strayed   int // hellos in a row with another digest

	// Flap damping: a link that was lost often is not named before holdTo.
	flaps  int
	upAt   Instant
	holdTo Instant

	out link.Outbox
}

const (
	// maxPeers bounds the neighbours; who comes later is not answered.
	maxPeers = 128
	// driftHellos is after how many hellos with another digest databases are compared.
	driftHellos = 10
	holdMost    = 30 * time.Second
	steady      = time.Minute // up, after which a neighbour's flaps are forgotten
)

// dead is the silence after which a neighbour is lost: longer if this member itself
// is slow.
func (s *State) dead() time.Duration { return s.t.Dead * time.Duration(1+s.health.Level) }

func (s *State) hello(from wire.Identity, h *wire.Hello) {
	if code, text, used := s.unfit(from, h); code != "" {
		s.refuse(from, h.Addr, wire.Refuse{Code: code, Nonce: from.Nonce, Incarnation: used, Text: text})
		return
	}
	p := s.peer(from.ID)
	if p == nil {
		// Who is reachable and is wanted by neither side just has not heard Bye yet.
		_, there := s.routes.hops.Find(from.ID)
		if len(s.peers) >= maxPeers || there && !h.Want {
			return
		}
		p = s.addPeer(from.ID, h.Addr)
		_, p.chosen = slices.BinarySearch(s.routes.overlay, p.id)
	}
	if p.who.Nonce != from.Nonce {
		s.lose(p) // another process: nothing of the old one counts
		p.flaps, p.holdTo, p.heard, p.greeted = 0, 0, false, 0
	}
	fresh := !p.heard
	p.who, p.addr, p.heard, p.heardAt = from, h.Addr, true, s.now
	p.hearsMe = slices.Contains(h.Heard, wire.Heard{ID: s.cfg.ID, Nonce: s.cfg.Nonce})
	p.wantsMe, p.health = h.Want, h.Health
	if h.StoreAge >= 0 && h.StoreAge < time.Hour.Milliseconds() {
		at := s.now.Add(-time.Duration(h.StoreAge) * time.Millisecond)
		p.storeAt = max(p.storeAt, at)
		s.book.Sign(s.now, at)
	}
	if p.full && h.Digest != s.db.Digest() {
		p.strayed++
	} else {
		p.strayed = 0
	}
	// Who does not know yet that it is heard is told at once, so that two find each
	// other in one round trip; not again and again, if its ear is cut.
	if (fresh || !p.hearsMe) && s.now.Since(p.greeted) >= s.t.Hello/4 {
		s.greetOne(p)
	}
}

func (s *State) addPeer(id, addr string) *peer {
	p := &peer{id: id, addr: addr, since: s.now, idle: s.now}
	i, _ := s.findPeer(id)
	s.peers = slices.Insert(s.peers, i, p)
	return p
}

// lose ends what a two-way neighbour has been.
func (s *State) lose(p *peer) {
	if p.twoWay {
		p.flaps++
		hold := min(time.Second<<min(p.flaps-1, 10), holdMost)
		p.holdTo = s.now.Add(hold)
	}
	p.twoWay, p.full, p.described, p.awaiting, p.out, p.askAt, p.strayed = false, false, false, nil, link.Outbox{}, 0, 0
}

// watchPeers finds out who is a two-way neighbour, and drops who is not needed.
func (s *State) watchPeers() {
	for _, p := range s.peers {
		if p.heard && s.now.Since(p.heardAt) >= s.dead() {
			p.heard, p.hearsMe = false, false
			p.since = s.now
			s.lose(p)
			if s.alive {
				s.greetOne(p) // so that it learns at once, if it is only its ear that is cut
			}
		}
		if up := p.heard && p.hearsMe; up != p.twoWay {
			if !up {
				s.lose(p)
				p.since = s.now
			} else {
				p.twoWay, p.upAt, p.askAt = true, s.now, s.now
			}
		}
		if p.twoWay {
			s.aloneFrom = max(s.aloneFrom, p.heardAt)
			if s.now.Since(p.upAt) > steady {
				p.flaps = 0
			}
			s.exchange(p)
		}
	}
	s.choose()
}

// lonely reports whether there is no two-way neighbour for the dead interval.
func (s *State) lonely() bool { return s.now.Since(s.aloneFrom) >= s.dead() }

// choose says whom the overlay wants, calls them, and lets go of those whom neither
// side wants.
func (s *State) choose() {
	settled, up, changed := true, 0, false
	for _, p := range s.peers {
		if blocked := !p.twoWay && s.now.Since(p.since) >= 2*s.dead(); blocked != p.blocked {
			p.blocked, changed = blocked, true
		}
	}
	if s.routes.overlay == nil || changed {
		s.overlay()
	}
	for _, p := range s.peers {
		if p.chosen && p.full {
			up++
		}
		settled = settled && (!p.chosen || p.full || p.blocked)
	}
	settled = settled && up >= min(2, len(s.routes.overlay))
	for i := len(s.peers) - 1; i >= 0; i-- {
		p := s.peers[i]
		p.want = p.chosen || p.want && p.twoWay && !settled // nobody is let go before his successor is there
		if p.want || p.wantsMe && p.heard {
			p.idle = s.now
		}
		if settled && p.twoWay && s.now.Since(p.idle) > 4*s.t.Hello {
			s.send(p.addr, wire.Message{Bye: true})
			s.drop(p)
		}
	}
}

// overlay computes whom to be a neighbour of, among those who are reachable, and
// calls those of them who are not known yet. Somebody who could not be reached
// directly for a while has another stand in for him.
func (s *State) overlay() {
	ids := make([]string, 0, len(s.routes.hops))
	for _, h := range s.routes.hops {
		ids = append(ids, h.ID)
	}
	s.routes.overlay = link.Overlay(s.cfg.ID, ids, func(id string) bool {
		p := s.peer(id)
		return p != nil && p.blocked
	})
	if s.routes.overlay == nil {
		s.routes.overlay = []string{}
	}
	for _, id := range s.routes.overlay {
		r := s.db.Get(link.Key{Kind: link.Membership, ID: id})
		if s.peer(id) == nil && r != nil && r.Member != nil && len(s.peers) < maxPeers {
			p := s.addPeer(id, r.Member.Addr)
			p.want = true
			if s.alive {
				s.greetOne(p)
			}
		}
	}
	for _, p := range s.peers {
		_, p.chosen = slices.BinarySearch(s.routes.overlay, p.id)
	}
}

func (s *State) drop(p *peer) {
	s.lose(p)
	if p.blocked {
		s.routes.overlay = nil // it is tried again
	}
	if i, ok := s.findPeer(p.id); ok {
		s.peers = slices.Delete(s.peers, i, i+1)
	}
}

// greet says hello to all when it is time. A stalled member says none.
func (s *State) greet() {
	if s.now < s.helloAt {
		return
	}
	s.helloAt = s.now.Add(s.random.Vary(s.t.Hello, s.t.Jitter))
	if !s.alive {
		return
	}
	for i := len(s.peers) - 1; i >= 0; i-- {
		p := s.peers[i]
		// Who cannot be reached stays known for a while, so that another stands in for it.
		if !p.twoWay && !p.want && s.now.Since(p.since) > 2*s.dead()+s.t.Redial {
			s.drop(p)
			continue
		}
		s.greetOne(p)
	}
}

func (s *State) greetOne(p *peer) {
	p.greeted = s.now
	s.greetAddr(p.addr, p.want)
}

func (s *State) greetAddr(addr string, want bool) {
	h := &wire.Hello{Cluster: s.cfg.Cluster, Protocol: wire.Protocol, Profile: s.t.Profile, Wall: s.wall.UnixMilli(), Addr: s.cfg.Addr, State: s.state,
		Digest: s.db.Digest(), Health: s.health.Level, Want: want, StoreAge: -1}
	if spoke := s.book.LastSpoke(); spoke > 0 {
		h.StoreAge = s.now.Since(spoke).Milliseconds()
	}
	for _, p := range s.peers {
		if p.heard {
			h.Heard = append(h.Heard, wire.Heard{ID: p.id, Nonce: p.who.Nonce})
		}
	}
	s.send(addr, wire.Message{Hello: h})
}

// links are the neighbours that this member names in its record, added to a slice.
func (s *State) links(ids []string) []string {
	for _, p := range s.peers {
		if p.full && !s.damped(p) {
			ids = append(ids, p.id)
		}
	}
	return ids
}

// damped reports whether a link that came and went is held back. It is not, if it is
// the only way to its other end.
func (s *State) damped(p *peer) bool {
	if s.now >= p.holdTo {
		return false
	}
	h, ok := s.routes.hops.Find(p.id)
	return ok && h.By != p.id
}

// next is when something of a peer is due.
func (p *peer) next(s *State) Instant {
	next := Instant(0)
	at := func(i Instant) {
		if i > s.now && (next == 0 || i < next) {
			next = i
		}
	}
	if p.heard {
		at(p.heardAt.Add(s.dead()))
	}
	at(p.holdTo)
	at(p.askAt)
	at(p.since.Add(2 * s.dead()))
	if i := p.out.Next(s.t.Pace); p.twoWay && i > 0 {
		at(max(i, s.now+1))
	}
	return next
}
