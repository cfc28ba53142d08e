package apta

import (
	"slices"

	"crier/scheduler/apta/link"
	"crier/scheduler/apta/timing"
)

// routing is what is computed from the records.
type routing struct {
	hops    link.Routes
	due     Instant // when it is to be computed again; 0: nothing has changed
	gap     timing.Throttle
	overlay []string // whom to be a neighbour of; nil: to be computed

	stale     bool    // somebody says something else of himself
	changesAt Instant // when somebody's announced second is reached, or who has which view is looked at; 0: never
}

func (r *routing) ask(now Instant) {
	if r.due == 0 {
		r.due = r.gap.After(now, r.gap.Least)
	}
}

// see brings routes and view up to date, if it is time.
func (s *State) see() {
	if s.routes.due > 0 && s.now >= s.routes.due {
		s.routes.gap.Done(s.now)
		s.compute()
		return
	}
	if s.routes.stale || s.routes.changesAt > 0 && s.now >= s.routes.changesAt {
		s.look()
	}
}

func (s *State) compute() {
	s.routes.due = 0
	s.routes.hops = link.Compute(&s.db, s.cfg.ID)
	s.routes.overlay = nil
	s.look()
}

// look makes the view from the routes and the records. Of itself it counts what it is,
// not what it has told.
func (s *State) look() {
	self := link.Seen{State: s.state, Weights: s.cfg.Weights, Incarnation: s.cfg.Incarnation, Addr: s.cfg.Addr}
	view, wait := link.Look(&s.db, s.routes.hops, s.cfg.ID, link.Self{Seen: self, ActiveFrom: s.own.activeFrom, Wall: s.wall})
	s.view, s.routes.stale, s.routes.changesAt = view, false, 0
	if wait > 0 {
		s.routes.changesAt = s.now.Add(wait)
	}
}

// View gives the member's view; it is not changed later.
func (s *State) View() *link.View { return s.view }

// Status is what a member is.
type Status struct {
	ID          string
	Incarnation uint32
	State       link.State
	Since       Instant
	Reason      string  // why it is in this state
	Fence       Instant // from then on it takes nothing new, unless its lease is renewed
	Frozen      bool
	Neighbours  []string // two-way
	Links       []string // of them, those with the same records
}

// Status gives the member's own state.
func (s *State) Status() Status {
	st := Status{ID: s.cfg.ID, Incarnation: s.cfg.Incarnation, State: s.state, Since: s.since, Reason: s.reason, Fence: s.book.Fence(),
		Frozen: s.Frozen(), Links: s.links(nil)}
	for _, p := range s.peers {
		if p.twoWay {
			st.Neighbours = append(st.Neighbours, p.id)
		}
	}
	return st
}

// Data lists the load or demand of the members that are reachable, by id.
func (s *State) Data(k link.Kind) []*link.Record {
	return slices.DeleteFunc(s.db.Records(k), func(r *link.Record) bool {
		_, ok := s.routes.hops.Find(r.ID)
		return !ok || k == link.Membership
	})
}
