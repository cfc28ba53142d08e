package apta

import (
	"slices"
	"time"

	"crier/scheduler/apta/lease"
	"crier/scheduler/apta/link"
	"crier/scheduler/apta/timing"
	"crier/scheduler/apta/wire"
)

// State is the core of a member. It is owned by one goroutine.
type State struct {
	cfg    Config
	t      timing.Timers
	now    Instant
	wall   time.Time
	random timing.Random
	out    []Effect

	state   link.State
	since   Instant
	reason  string
	wish    wish
	health  Health
	unwell  timing.Lasting // its health is bad
	check   bool           // self-check passed
	ledger  bool
	alive   bool // the application's loop goes on
	claims  int
	ended   bool // refused for good, or left
	leaving Instant

	peers     []*peer // by id
	aloneFrom Instant // when a two-way neighbour was heard last
	helloAt   Instant // when the next hellos are due
	dial      dialling
	refusals  []refusal

	db      link.DB
	agingAt Instant
	own     origin
	routes  routing
	view    *link.View
	agreed  Instant // since when all that are reachable show my view's hash; 0: they do not

	book    lease.Book
	renewal renewal
	calls   []call
	nextReq uint64
	turn    int // of the neighbour that is asked next
}

// wish is what was asked of the member.
type wish struct {
	silent    string // why an operator wants it silent; "": nobody does
	stop      bool
	rejoining bool   // Rejoin waits for its answer
	used      uint32 // others know a process with this incarnation, which is not below ours
	commanded uint64 // the last command that was executed
	mayLeave  Instant
}

// New makes a member that has just started; the first Step begins to call others.
func New(cfg Config, now Now) (*State, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	s := &State{cfg: cfg, t: cfg.Timers, now: now.Mono, wall: now.Wall, random: timing.Random(cfg.Seed), state: link.Joining, since: now.Mono,
		reason: "started", alive: true, aloneFrom: now.Mono, helloAt: now.Mono, agingAt: now.Mono, unwell: timing.Lasting{Since: now.Mono}}
	s.wish.silent = cfg.Silence
	s.own.gap = timing.Throttle{Least: s.t.Originate, Most: s.t.OriginateMax}
	s.routes.gap = timing.Throttle{Least: s.t.Compute, Most: s.t.ComputeMax}
	s.dial.at = now.Mono
	s.renewal.at = now.Mono
	s.book = lease.New(s.t)
	s.view = link.NewView(cfg.ID, nil)
	s.originate()
	s.compute()
	return s, nil
}

// Step takes an event and returns what is to be done, in this order. now is not
// before the last Step's.
func (s *State) Step(now Now, ev Event) []Effect {
	s.wake(now)
	s.handle(ev)
	if !s.ended {
		s.watchPeers()
		s.greet()
		s.call()
		s.renewals()
		s.age()
		s.judge()
		s.publish()
	}
	s.expireCalls()
	s.flush()
	out := s.out
	s.out = nil
	return out
}

// wake moves the clocks. If the member did not run for a while it could not hear:
// what it did not hear meanwhile says nothing about its neighbours.
func (s *State) wake(now Now) {
	if gap := now.Mono.Since(s.now); gap > s.t.Dead/2 {
		for _, p := range s.peers {
			if p.heard {
				p.heardAt = p.heardAt.Add(gap)
			}
		}
	}
	s.now, s.wall = max(s.now, now.Mono), now.Wall
}

func (s *State) handle(ev Event) {
	switch ev := ev.(type) {
	case Received:
		s.receive(ev.Message)
	case Pulse:
		s.alive = ev.Alive
	case LeaseAnswer:
		s.leaseAnswer(ev)
	case StoreAnswered:
		s.book.Watched(s.now)
	case LeaseSeen:
		if ev.Lease.ID != s.cfg.ID { // the answers to renewals tell of its own
			s.book.Saw(ev.Lease, ev.Alive)
		}
	case Ledger:
		s.ledger = ev.Answers
	case SelfCheck:
		s.check = ev.OK
	case Health:
		s.health.Level = min(max(ev.Level, 0), MaxHealth)
		s.unwell.Note(s.now, ev.Bad)
	case Owned:
		s.claims = ev.Claims
	case Operate:
		s.operate(ev)
	case Stop:
		s.wish.stop = true
	case Rejoined:
		s.rejoined(ev)
	case Publish:
		s.publishData(ev)
	case Reweigh:
		s.cfg.Weights, s.routes.stale = ev.Weights, true
	case Ask:
		s.ask(ev)
	case Executed:
		s.answer(ev.For, ev.Body, ev.Err)
	}
}

// receive takes a message. Only hellos come from anybody; the rest counts only from
// the process that was heard as a neighbour.
func (s *State) receive(m *wire.Message) {
	switch {
	case m.Hello != nil && !s.ended:
		s.hello(m.From, m.Hello)
		return
	case m.Refuse != nil:
		s.refused(m.From, m.Refuse)
		return
	}
	p := s.peer(m.From.ID)
	if p == nil || !p.heard || p.who.Nonce != m.From.Nonce {
		return
	}
	switch {
	case m.Bye:
		if p.wantsMe = false; !p.want {
			s.drop(p)
		}
	case m.Describe != nil:
		s.described(p, m.Describe)
	case m.Request != nil:
		s.requested(p, m.Request)
	case m.Update != nil:
		s.update(p, m.Update)
	case m.Ack != nil:
		for _, h := range m.Ack {
			p.out.Acked(h)
		}
	case m.Relay != nil:
		s.relay(*m.Relay, p.id)
	}
}

// Next is when Step wants to be called with a Tick, if nothing happens before.
func (s *State) Next() Instant {
	next := s.now.Add(time.Second)
	at := func(i Instant) { // 0 is no time
		if i > 0 {
			next = min(next, i)
		}
	}
	for _, p := range s.peers {
		at(p.next(s))
	}
	for _, c := range s.calls {
		at(c.until)
	}
	if s.ended {
		return max(next, s.now)
	}
	at(s.helloAt)
	at(s.dial.at)
	at(s.agingAt)
	at(s.own.due)
	at(s.routes.due)
	at(s.renewal.at)
	at(s.routes.changesAt)
	for _, i := range []Instant{s.book.Fence(), s.book.Grace(), s.since.Add(s.t.Join), s.aloneFrom.Add(s.dead()), s.wish.mayLeave} {
		if i > s.now {
			at(i)
		}
	}
	if s.state == link.Online && s.own.activeFrom > 0 {
		at(s.now.Add(time.UnixMilli(s.own.activeFrom).Sub(s.wall)))
	}
	return max(next, s.now)
}

func (s *State) send(addr string, m wire.Message) {
	m.From = s.identity()
	s.out = append(s.out, Send{addr, &m})
}

func (s *State) identity() wire.Identity {
	return wire.Identity{ID: s.cfg.ID, Incarnation: s.cfg.Incarnation, Nonce: s.cfg.Nonce, Home: s.cfg.Home}
}

func (s *State) become(to link.State, reason string) {
	s.out = append(s.out, Changed{s.state, to, reason})
	s.state, s.since, s.reason, s.routes.stale = to, s.now, reason, true
	s.agreed = 0
}

func (s *State) peer(id string) *peer {
	if i, ok := s.findPeer(id); ok {
		return s.peers[i]
	}
	return nil
}

func (s *State) findPeer(id string) (int, bool) {
	return slices.BinarySearchFunc(s.peers, id, func(p *peer, id string) int {
		switch {
		case p.id < id:
			return -1
		case p.id > id:
			return 1
		}
		return 0
	})
}
