// Package operator is what a process tells whoever runs the cluster: who its members
// are and what they hold, who should hold what, the journals of the ledger, and what
// the lanes of the workers are at.
//
// It decides nothing and changes nothing but by Operate, which asks a member. It puts
// together what the process sees by itself (its view, the leases, the claims) with what
// the others say when they are asked, and asks them within a bound: who does not answer
// in time is told to be silent, never counted as nothing.
package operator

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"crier/api"
	"crier/internal/bus"
	"crier/internal/crew"
	"crier/job"
	"crier/scheduler/apta"
	"crier/scheduler/apta/link"
	"crier/scheduler/apta/wire"
	"crier/state/claims"
	"crier/state/jobs"
	"crier/state/ledger"
	"crier/state/parked"
)

// Membership is a process's part in the cluster. It is safe for concurrent use.
type Membership interface {
	// Snapshot is what the process knows now. It takes no longer than LookWithin.
	Snapshot(ctx context.Context) Snapshot
	// Operate asks a member that is in the snapshot to be silent, or to resume. Idempotent.
	// When it returns nil the wish is on its way.
	Operate(ctx context.Context, id string, action apta.Action, reason string) error
}

// LookWithin bounds Membership.Snapshot.
const LookWithin = 300 * time.Millisecond

// Snapshot is what a process knows of its cluster at one moment.
type Snapshot struct {
	Self    apta.Status
	Since   time.Time // since when Self is in its state
	Address string    // where other members reach this one; "" if there can be none
	Leased  bool      // its own lease is held
	View    *link.View
	Leases  []wire.Lease // of others, that are live or may be
	// Lapsed reports whether an incarnation of a member is over, as far as is known when it
	// is asked.
	Lapsed func(id string, incarnation uint32) bool
	// Recorded reports whether a member is recorded: who has left is not, who has died is for
	// some minutes. Nil: nobody is.
	Recorded func(id string) bool
}

// Counts is what only one process knows, and what is added up over all.
type Counts struct {
	Online  uint64     `json:"online"`         // recipients in the ranges that it is home to
	Sockets uint64     `json:"sockets"`        // of recipients
	Disks   []api.Disk `json:"disks,omitzero"` // of the process
}

// Config is what an Operator works with.
type Config struct {
	Membership Membership
	Claims     *claims.Table
	Jobs       *jobs.Table
	Index      *parked.Index // nil in a process that has none; it then knows no journals
	Log        ledger.Log
	Bus        bus.Bus
	Counts     func() Counts // of this process
	// Here tells what this process knows of a recipient. Nil: it has neither gateway nor worker.
	Here   func(job.Recipient) Here
	Logger *slog.Logger
}

// Operator is the part of a process that answers whoever runs the cluster, and the
// other processes about itself. It is safe for concurrent use.
type Operator struct {
	cfg        Config
	marks      marks
	departures departures
}

// New makes an Operator; Run lets it answer others.
func New(cfg Config) *Operator { return &Operator{cfg: cfg} }

// report is what a process says of itself when another one asks.
type report struct {
	Counts
	ID          string            `json:"id"`
	Incarnation uint32            `json:"incarnation"`
	State       string            `json:"state"`
	Since       time.Time         `json:"since"`
	Reason      string            `json:"reason"`
	Frozen      bool              `json:"frozen"`
	Neighbours  []string          `json:"neighbours"`
	Roles       map[string]uint16 `json:"roles"`
	View        string            `json:"view"` // hash; what is flooded of it comes much later
	Gone        []gone            `json:"gone,omitzero"`
}

// aboutTo is where a member is asked about itself.
func aboutTo(id string) string { return "crier.member." + id + ".about" }

// watchEvery is how often it is looked how long something has been so.
const watchEvery = time.Second

func (o *Operator) answer(ctx context.Context, m bus.Msg) {
	b, err := json.Marshal(o.report(o.cfg.Membership.Snapshot(ctx)))
	if err == nil {
		err = m.Respond(b)
	}
	if err != nil {
		o.cfg.Logger.Debug("answering about this member", "error", err)
	}
}

// Run answers others, and notes since when things are as they are, until ctx ends.
func (o *Operator) Run(ctx context.Context) error {
	id := o.cfg.Membership.Snapshot(ctx).Self.ID
	var answers crew.Crew // what they read is closed behind this
	defer answers.Close()
	sub, err := o.cfg.Bus.Subscribe(aboutTo(id), func(m bus.Msg) {
		answers.Do(func() { o.answer(ctx, m) })
	})
	if err != nil {
		return fmt.Errorf("subscribing to questions about member %s: %w", id, err)
	}
	defer sub.Unsubscribe()
	whether, err := o.cfg.Bus.Subscribe(recipientTo(id), func(m bus.Msg) {
		answers.Do(func() { o.answerRecipient(id, m) })
	})
	if err != nil {
		return fmt.Errorf("subscribing to questions about recipients to member %s: %w", id, err)
	}
	defer whether.Unsubscribe()
	t := time.NewTicker(watchEvery)
	defer t.Stop()
	for {
		o.observe(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

func (o *Operator) report(s Snapshot) report {
	r := report{Counts: o.cfg.Counts(), ID: s.Self.ID, Incarnation: s.Self.Incarnation, State: s.Self.State.String(), Since: s.Since, Reason: s.Self.Reason,
		Frozen: s.Self.Frozen, Neighbours: s.Self.Neighbours, View: hashText(s.View.Hash), Gone: o.departures.list()}
	if me, ok := s.View.Find(s.Self.ID); ok {
		r.Roles = roles(me.Weights)
	}
	return r
}

// roles names the shares of a member.
func roles(w link.Weights) map[string]uint16 {
	out := map[string]uint16{}
	for r, n := range w {
		if n > 0 {
			out[link.Role(r).String()] = n
		}
	}
	return out
}
