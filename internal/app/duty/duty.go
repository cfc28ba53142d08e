// Package duty runs what one process of all does for them: it is claimed in the ledger, and
// passes to another when its process is gone.
//
// It guarantees that somebody has each duty within a second of the end of whoever had it.
// Two may have one for a moment: what a duty writes is idempotent and never goes back.
package duty

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"crier/internal/pause"
	"crier/job"
	"crier/state/ledger"
)

const (
	look       = 500 * time.Millisecond // between looks at who has a duty
	takeWithin = 2 * time.Second        // for the claim to be made
)

// Claims is the table of claims.
type Claims interface {
	Of(thing ledger.Thing) ledger.Claim
}

// Roster is the duties of one start of a process.
type Roster struct {
	Self   job.Journal // as which it claims
	Log    ledger.Log
	Claims Claims
	Lapsed func(holder job.Journal) bool // what it claimed is nobody's now
	Frozen func() bool                   // nothing new may be claimed
	Silent func() bool                   // the process is to take no work
	Logger *slog.Logger
}

// dead reports whether what a process claimed is nobody's now.
func (r *Roster) dead(holder job.Journal) bool {
	if holder.Worker == r.Self.Worker {
		return holder.Incarnation < r.Self.Incarnation
	}
	return r.Lapsed(holder)
}

// Duty makes a part of a process of a duty: what it does while it has that, until ctx ends
// or it fails.
func (r *Roster) Duty(name string, run func(context.Context) error) func(context.Context) error {
	thing := ledger.Thing{Kind: ledger.ClaimRole, ID: name}
	return func(ctx context.Context) error {
		for {
			if r.take(ctx, thing) {
				if err := r.work(ctx, thing, run); err != nil {
					return err
				}
			}
			if !pause.For(ctx, look) {
				return nil
			}
		}
	}
}

// take reports whether this process has the duty, claiming it if nobody has it.
func (r *Roster) take(ctx context.Context, thing ledger.Thing) bool {
	if r.Silent() {
		return false
	}
	last := r.Claims.Of(thing)
	if last.Journal == r.Self {
		return true
	}
	if !last.Journal.IsZero() && !r.dead(last.Journal) || r.Frozen() {
		return false
	}
	try, cancel := context.WithTimeout(ctx, takeWithin)
	defer cancel()
	_, err := ledger.Take(try, r.Log, thing, ledger.Taker{Journal: r.Self, Sealed: r.dead})
	if err != nil && !errors.Is(err, ledger.ErrHeld) && ctx.Err() == nil {
		r.Logger.Warn("taking a duty; it is tried again", "duty", thing.ID, "error", err)
	}
	return err == nil
}

// work runs until ctx ends or another has the duty.
func (r *Roster) work(ctx context.Context, thing ledger.Thing, run func(context.Context) error) error {
	r.Logger.Info("on duty", "duty", thing.ID)
	working, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- run(working) }()
	for {
		select {
		case err := <-ended:
			return err
		case <-time.After(look):
		}
		c := r.Claims.Of(thing)
		switch {
		case c.Journal != r.Self && !c.Journal.IsZero() && !r.dead(c.Journal):
			// Another has it. The table may not have this process's own claim yet.
			stop()
			return <-ended
		case c.Journal == r.Self && r.Silent():
			stop()
			err := <-ended
			if given := ledger.Give(ctx, r.Log, c, 0); given != nil && ctx.Err() == nil {
				r.Logger.Warn("giving up a duty", "duty", thing.ID, "error", given)
			}
			return err
		}
	}
}
