package apta

import (
	"encoding/json"
	"slices"
	"strings"

	"crier/scheduler/apta/link"
	"crier/scheduler/apta/wire"
)

// call is a request of this member that waits for its answer.
type call struct {
	req   uint64
	kind  string
	sent  Instant
	until Instant
	asked bool // by the application; else a renewal of the lease
}

const maxCalls = 1024

// ask sends a request of the application.
func (s *State) ask(ev Ask) {
	if ev.Kind == leaseKind || len(ev.Body) > wire.MaxBody || len(s.calls) >= maxCalls {
		s.out = append(s.out, Answered{Req: ev.Req, Err: "the request is too large, of a kind that is not for it, or one of too many"})
		return
	}
	s.start(call{req: ev.Req, kind: ev.Kind, sent: s.now, until: s.now.Add(2 * s.t.Answer), asked: true}, ev.To, ev.Body)
}

// start sends a request to a member, or to the next neighbour.
func (s *State) start(c call, to string, body []byte) {
	if p := s.anyNeighbour(""); to == "" && p != nil {
		to = p.id
	}
	r := wire.Relay{Source: s.cfg.ID, Target: to, TTL: wire.MaxTTL, Req: wireID(c), Kind: c.kind, Body: body}
	if to == s.cfg.ID {
		s.calls = append(s.calls, c)
		s.relay(r, s.cfg.ID)
		return
	}
	if !s.forward(r, s.cfg.ID) {
		if c.asked {
			s.out = append(s.out, Answered{Req: c.req, Err: NoRoute})
		}
		return
	}
	s.calls = append(s.calls, c)
}

// wireID keeps the numbers of the application apart from those of the leases.
func wireID(c call) uint64 {
	if c.asked {
		return c.req<<1 | 1
	}
	return c.req << 1
}

// anyNeighbour gives the two-way neighbours in turn, but for one; nil if there is none.
func (s *State) anyNeighbour(but string) *peer {
	for range s.peers {
		s.turn = (s.turn + 1) % len(s.peers)
		if p := s.peers[s.turn]; p.twoWay && p.id != but {
			return p
		}
	}
	return nil
}

// forward sends a request or an answer on its way: to a neighbour directly, to others
// along the routes. If these have not caught up with a link that was just lost, any
// neighbour but the one that it came from may know better; the TTL ends its wandering.
func (s *State) forward(r wire.Relay, from string) bool {
	if r.TTL <= 0 {
		return false
	}
	r.TTL--
	by := s.peer(r.Target)
	if by == nil || !by.twoWay {
		h, ok := s.routes.hops.Find(r.Target)
		if !ok {
			return false
		}
		if by = s.peer(h.By); by == nil || !by.twoWay {
			by = s.anyNeighbour(from)
		}
	}
	if by == nil {
		return false
	}
	s.send(by.addr, wire.Message{Relay: &r})
	return true
}

// relay takes a request or an answer: for itself, or to pass on. What cannot be
// passed on is dropped, and its sender hears of no answer.
func (s *State) relay(r wire.Relay, from string) {
	switch {
	case r.Target != s.cfg.ID:
		s.forward(r, from)
	case r.Answer:
		s.answered(r)
	case r.Kind == leaseKind:
		s.renewFor(r, from)
	default:
		s.out = append(s.out, Execute{Call{r.Source, r.Req, r.Kind, from}, r.Body})
	}
}

// answer sends the answer to a request of another member back.
func (s *State) answer(c Call, body []byte, err string) {
	if len(body) > wire.MaxBody {
		body, err = nil, "the answer is too large"
	}
	r := wire.Relay{Source: s.cfg.ID, Target: c.Source, TTL: wire.MaxTTL, Req: c.Req, Answer: true, Kind: c.Kind, Body: body, Err: err}
	if c.Source == s.cfg.ID {
		s.answered(r)
		return
	}
	if p := s.peer(c.By); p != nil && p.twoWay {
		s.send(p.addr, wire.Message{Relay: &r})
		return
	}
	s.forward(r, s.cfg.ID)
}

func (s *State) answered(r wire.Relay) {
	i := slices.IndexFunc(s.calls, func(c call) bool { return wireID(c) == r.Req })
	if i < 0 {
		return // too late
	}
	c := s.calls[i]
	s.calls = slices.Delete(s.calls, i, i+1)
	if c.asked {
		s.out = append(s.out, Answered{Req: c.req, Body: r.Body, Err: r.Err})
		return
	}
	var reply leaseReply
	if r.Err == "" && json.Unmarshal(r.Body, &reply) == nil {
		s.outcome(c.sent, reply.Outcome, reply.Holder)
	}
}

// expireCalls gives up requests whose time is over.
func (s *State) expireCalls() {
	s.calls = slices.DeleteFunc(s.calls, func(c call) bool {
		if s.now < c.until {
			return false
		}
		if c.asked {
			s.out = append(s.out, Answered{Req: c.req, Err: NoAnswer})
		}
		return true
	})
}

// operate takes an operator's wish, for this member or for another one: then it is a
// record, which reaches its target by whatever way there is.
func (s *State) operate(ev Operate) {
	if ev.Target == "" || ev.Target == s.cfg.ID {
		s.obeyed(ev.Action, ev.Reason)
		return
	}
	h := link.Header{Key: link.Key{Kind: link.Command, ID: ev.Target}, Version: link.Version{Seq: uint64(s.wall.UnixMilli()), Nonce: s.cfg.Nonce}}
	target := s.db.Get(link.Key{Kind: link.Membership, ID: ev.Target})
	if target == nil {
		return
	}
	h.Incarnation = target.Incarnation
	if last := s.db.Get(h.Key); last != nil && last.Incarnation == h.Incarnation {
		h.Seq = max(h.Seq, last.Seq+1)
	}
	s.spread(&link.Record{Header: h, Data: []byte(string(ev.Action) + " " + ev.Reason)}, nil)
}

// obey executes a command for this incarnation, each once.
func (s *State) obey(r *link.Record) {
	if r.Dead || r.Incarnation != s.cfg.Incarnation || r.Seq <= s.wish.commanded {
		return
	}
	s.wish.commanded = r.Seq
	action, reason, _ := strings.Cut(string(r.Data), " ")
	s.obeyed(Action(action), reason)
}

// obeyed notes what an operator wants of this member.
func (s *State) obeyed(action Action, reason string) {
	wish := ""
	if action == GoSilent {
		wish = strings.TrimSuffix("an operator asked for it: "+reason, ": ")
	}
	if wish != s.wish.silent {
		s.wish.silent = wish
		s.out = append(s.out, Silenced{wish})
	}
}
