package app

import (
	"context"
	"errors"
	"time"

	"crier/internal/pause"
	"crier/job"
	"crier/state/ledger"
)

const (
	dutyLook   = 500 * time.Millisecond // between looks at who has a duty
	dutyTake   = 2 * time.Second        // for the claim to be made
	pruneEvery = time.Minute
)

// self is this start of the process, as it claims duties.
func (a *app) self() job.Journal {
	return job.Journal{Worker: "p-" + a.node.Name, Incarnation: a.node.Starts}
}

// dead reports whether what a process claimed is nobody's now.
func (a *app) dead(holder job.Journal) bool {
	if holder.Worker == a.self().Worker {
		return holder.Incarnation < a.node.Starts
	}
	return a.ring().Lapsed(holder)
}

// duty makes a part of something that one process at a time does for all: it runs in
// the process that claimed it, and passes to another when that is gone. Two may run it
// for a moment; what it writes is idempotent and never goes back.
func (a *app) duty(name string, run func(context.Context) error) func(context.Context) error {
	thing := ledger.Thing{Kind: ledger.ClaimRole, ID: name}
	return func(ctx context.Context) error {
		for {
			if a.takeDuty(ctx, thing) {
				if err := a.onDuty(ctx, thing, run); err != nil {
					return err
				}
			}
			if !pause.For(ctx, dutyLook) {
				return nil
			}
		}
	}
}

// takeDuty reports whether this process has the duty, claiming it if nobody has it.
func (a *app) takeDuty(ctx context.Context, thing ledger.Thing) bool {
	if a.silent() {
		return false
	}
	last := a.claims.Of(thing)
	if last.Journal == a.self() {
		return true
	}
	if !last.Journal.IsZero() && !a.dead(last.Journal) || a.ring().Frozen() {
		return false
	}
	try, cancel := context.WithTimeout(ctx, dutyTake)
	defer cancel()
	_, err := ledger.Take(try, a.streams.ledger, thing, ledger.Taker{Journal: a.self(), Sealed: a.dead})
	if err != nil && !errors.Is(err, ledger.ErrHeld) && ctx.Err() == nil {
		a.log.Warn("taking a duty; it is tried again", "duty", thing.ID, "error", err)
	}
	return err == nil
}

// onDuty runs until ctx ends or another has the duty.
func (a *app) onDuty(ctx context.Context, thing ledger.Thing, run func(context.Context) error) error {
	a.log.Info("on duty", "duty", thing.ID)
	working, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- run(working) }()
	for {
		select {
		case err := <-ended:
			return err
		case <-time.After(dutyLook):
		}
		c := a.claims.Of(thing)
		switch {
		case c.Journal != a.self() && !c.Journal.IsZero() && !a.dead(c.Journal):
			// Another has it. The table may not have this process's own claim yet.
			stop()
			return <-ended
		case c.Journal == a.self() && a.silent():
			stop()
			err := <-ended
			if given := ledger.Give(ctx, a.streams.ledger, c, 0); given != nil && ctx.Err() == nil {
				a.log.Warn("giving up a duty", "duty", thing.ID, "error", given)
			}
			return err
		}
	}
}

// pruneClaims keeps the table of claims to the jobs that are not over.
func (a *app) pruneClaims(ctx context.Context) error {
	select {
	case <-a.jobs.Ready(): // it knows all of them
	case <-ctx.Done():
		return nil
	}
	for pause.For(ctx, pruneEvery) {
		a.claims.Prune(a.jobs.IsLive)
	}
	return nil
}
