// Package block works out blocks: who of a span of a package is dropped, who is online
// where, and who is to be parked. Only the home of a range can tell, so that a maker asks
// another worker, and answers others, where need be.
//
// It guarantees nothing about the ledger: what it works out is a proposal until its
// reserve is appended.
package block

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"runtime"
	"time"

	"crier/filters"
	"crier/internal/bus"
	"crier/internal/guard"
	"crier/internal/idset"
	"crier/internal/inhand"
	"crier/job"
	"crier/presence"
	"crier/state/jobs"
	"crier/state/ledger"
	"crier/worker/holds"
	"crier/worker/lane"
)

// Package is a job's recipients.
type Package interface {
	filters.Set
	// Ranges yields the ranges that have ids, ascending, and how many.
	Ranges() iter.Seq2[job.Range, int]
}

// Content gives to whom a job goes. All of it is immutable, so that implementations may
// cache.
type Content interface {
	// Package opens the job's recipient package.
	Package(ctx context.Context, spec job.Spec) (Package, error)
	// Lists gives what the filters of the job read.
	Lists(ctx context.Context, spec job.Spec) (filters.Lists, error)
}

// Config is what a maker is made of.
type Config struct {
	Name    string // of this worker
	Job     func(context.Context, job.ID) (jobs.Job, error)
	Content Content
	Filters func(filters.Lists) filters.Chain
	Split   func(keep *idset.Set) (targets []presence.Target, offline *idset.Set) // by who is online where
	Holds   *holds.Ranges                                                         // what this worker is home to
	Home    func(job.Range) string                                                // the worker that is home to a range; empty: nobody
	Want    func(...job.Range)                                                    // asks whoever should be home to ranges to be so
	Full    func(job.Incarnation) bool                                            // an incarnation has no room for another reserve of this worker
	Charges Charges
	// Charge appends a charge as the home of its range, and returns when Charges shows it.
	// Its answer is awaited whatever becomes of the context: else the next would not know.
	Charge func(context.Context, *ledger.Charge) error
	Policy Policy
	Now    func() time.Time
	InHand *inhand.Book // nil: none
	Bus    bus.Bus
	Logger *slog.Logger
}

// Maker works out blocks. It is safe for concurrent use.
type Maker struct {
	cfg   Config
	turns chan struct{} // to compute, one per processor

	charging turnstile
}

// New makes a maker.
func New(cfg Config) *Maker {
	return &Maker{cfg: cfg, turns: make(chan struct{}, runtime.GOMAXPROCS(0))}
}

// turn waits for one of as many turns to compute as there are processors; whoever has
// one does not wait for others.
func (m *Maker) turn(ctx context.Context) (done func(), err error) {
	select {
	case m.turns <- struct{}{}:
		return func() { <-m.turns }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Make takes the ids of the package in the task's span through the filters,
// splits them by gateway, and cuts the span where the budget ends. A block that breaks it,
// here or at its home, is a *guard.Broken; so is one at which the process died too often.
func (m *Maker) Make(ctx context.Context, t lane.Task) (res *ledger.Reserve, took job.Span, err error) {
	err = guard.Run(func() error {
		res, took, err = m.make(ctx, t)
		return err
	})
	return res, took, err
}

func (m *Maker) make(ctx context.Context, t lane.Task) (*ledger.Reserve, job.Span, error) {
	j, err := m.cfg.Job(ctx, t.Job)
	if err != nil {
		return nil, t.Span, err
	}
	book := m.cfg.InHand
	if t.Void != job.Parked { // it is closed, and nothing is worked out
		book = nil
	} else if err := m.homed(ctx, job.Range(t.Span.Lo>>job.RangeBits)); err != nil {
		return nil, t.Span, err // who waits has nothing in hand: were the process killed now, it would be no sign
	}
	var res *ledger.Reserve
	var took job.Span
	err = book.Do(ctx, inhand.Work{Kind: inhand.Block, Job: t.Job, At: t.Span.Lo, Again: j.Controls.Again}, func() (err error) {
		res, took, err = m.workOut(ctx, j, t)
		return err
	})
	return res, took, err
}

// workOut is make, of a job that is known.
func (m *Maker) workOut(ctx context.Context, j jobs.Job, t lane.Task) (*ledger.Reserve, job.Span, error) {
	pkg, err := m.cfg.Content.Package(ctx, j.Spec)
	if err != nil {
		return nil, t.Span, fmt.Errorf("opening the package: %w", err)
	}
	ids, err := m.idsOf(ctx, pkg, t.Span)
	if err != nil {
		return nil, t.Span, err
	}
	if ids.IsEmpty() {
		return nil, t.Span, nil
	}
	res := &ledger.Reserve{Job: t.Job, Slice: t.Slice, Span: t.Span, Rest: t.Void}
	if t.Void == job.Parked {
		if err := m.verdict(ctx, j.Spec, res); err != nil {
			return nil, t.Span, err
		}
		m.leaveOutFull(res)
		res.Cut(t.Budget)
	}
	ids.KeepSpan(res.Span)
	res.IDs = uint32(ids.Card())
	ids.Release()
	return res, res.Span, nil
}

// idsOf reads the ids of a package in a span, which lies in one range.
func (m *Maker) idsOf(ctx context.Context, pkg Package, span job.Span) (*idset.Set, error) {
	done, err := m.turn(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	ids, err := pkg.Range(job.Range(span.Lo >> job.RangeBits))
	if err != nil {
		return nil, fmt.Errorf("reading the package: %w", err)
	}
	ids.KeepSpan(span)
	return ids, nil
}

// decide fills in who of a block's span is dropped and who is a target. Only the home
// of the range decides.
func (m *Maker) decide(ctx context.Context, spec job.Spec, res *ledger.Reserve) error {
	if err := m.learn(ctx, res.Range()); err != nil {
		return err
	}
	pkg, err := m.cfg.Content.Package(ctx, spec)
	if err != nil {
		return fmt.Errorf("opening the package: %w", err)
	}
	ids, err := m.idsOf(ctx, pkg, res.Span)
	if err != nil {
		return err
	}
	lists, err := m.cfg.Content.Lists(ctx, spec)
	if err != nil {
		return fmt.Errorf("opening the filters' lists: %w", err)
	}
	if err := m.takeRefused(ctx, spec, lists, res.Span, ids); err != nil {
		return err
	}
	done, err := m.turn(ctx)
	if err != nil {
		return err
	}
	defer done()
	batch, err := m.cfg.Filters(lists).Run(ctx, ids)
	if err != nil {
		return err
	}
	for _, d := range batch.Dropped {
		res.Dropped = append(res.Dropped, ledger.Drop{Reason: d.Reason, Set: d.Set})
	}
	targets, offline := m.cfg.Split(batch.Keep)
	for _, t := range targets {
		if t.Set.IsEmpty() {
			t.Set.Release()
			continue
		}
		res.Targets.Incs = append(res.Targets.Incs, t.Inc)
		res.Targets.Sets = append(res.Targets.Sets, t.Set)
	}
	offline.Release()
	batch.Keep.Release()
	return nil
}

// leaveOutFull takes out the targets at incarnations that have no room for another
// reserve of this worker: they are parked.
func (m *Maker) leaveOutFull(res *ledger.Reserve) {
	var t ledger.Targets
	for i, inc := range res.Targets.Incs {
		if m.cfg.Full(inc) {
			res.Targets.Sets[i].Release()
			continue
		}
		t.Incs, t.Sets = append(t.Incs, inc), append(t.Sets, res.Targets.Sets[i])
	}
	res.Targets = t
}
