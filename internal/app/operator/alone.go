package operator

import (
	"context"
	"time"

	"crier/job"
	"crier/scheduler/apta"
	"crier/scheduler/apta/link"
)

// Alone is the membership of a process that has no others.
type Alone struct {
	ID          string
	Incarnation uint32
	Roles       []string // as link.ParseRole reads them
	Since       time.Time
	// Leased reports whether the process's lease stands in the coordination store. Nil: it
	// does not.
	Leased func(context.Context) bool
}

// Snapshot implements Membership.
func (a Alone) Snapshot(ctx context.Context) Snapshot {
	var weights link.Weights
	for _, name := range a.Roles {
		if r, err := link.ParseRole(name); err == nil {
			weights[r] = 1
		}
	}
	me := link.Seen{ID: a.ID, Incarnation: a.Incarnation, State: link.Working, Weights: weights, Takes: true}
	s := Snapshot{Self: apta.Status{ID: a.ID, Incarnation: a.Incarnation, State: link.Working, Reason: "it is alone"}, Since: a.Since,
		View:   link.NewView(a.ID, []link.Seen{me}),
		Lapsed: func(id string, incarnation uint32) bool { return id == a.ID && incarnation < a.Incarnation }}
	s.View.Members[0].ViewHash = s.View.Hash
	if a.Leased != nil {
		try, cancel := context.WithTimeout(ctx, LookWithin)
		defer cancel()
		s.Leased = a.Leased(try)
	}
	return s
}

// Operate implements Membership: there is nobody to hand over to.
func (a Alone) Operate(_ context.Context, id string, action apta.Action, _ string) error {
	if action == apta.Resume {
		return nil
	}
	return job.Conflict("member " + id + " is alone: there is nobody to whom it could hand over; pause its jobs, or stop it")
}
