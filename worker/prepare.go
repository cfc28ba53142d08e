package worker

import (
	"context"
	"fmt"

	"crier/job"
	"crier/state/ledger"
	"crier/worker/lane"
)

// prepareBlock works out a block and tells the lanes.
func (w *Worker) prepareBlock(ctx context.Context, t lane.Task) {
	select {
	case w.prepare <- struct{}{}:
		defer func() { <-w.prepare }()
	case <-ctx.Done():
		return
	}
	res, took, err := w.block(ctx, t)
	if err != nil {
		w.log.Error("working out a block; it is tried again", "job", t.Job.String(), "span", t.Span.String(), "error", err)
		w.post(ctx, lane.Failed{Lane: t.Lane})
		return
	}
	w.post(ctx, lane.Prepared{Lane: t.Lane, Took: took, Reserve: res})
}

// block takes the ids of the package in the task's span through the filters,
// splits them by gateway, and cuts the span where the budget ends.
func (w *Worker) block(ctx context.Context, t lane.Task) (*ledger.Reserve, job.Span, error) {
	j, err := w.cfg.Jobs.Get(ctx, t.Job)
	if err != nil {
		return nil, t.Span, err
	}
	pkg, err := w.cfg.Content.Package(ctx, j.Spec)
	if err != nil {
		return nil, t.Span, fmt.Errorf("opening the package: %w", err)
	}
	ids, err := pkg.Range(job.Range(t.Span.Lo >> job.RangeBits))
	if err != nil {
		return nil, t.Span, fmt.Errorf("reading the package: %w", err)
	}
	ids.KeepSpan(t.Span)
	if ids.IsEmpty() {
		return nil, t.Span, nil
	}
	res := &ledger.Reserve{Job: t.Job, Slice: t.Slice, Span: t.Span, Rest: t.Void}
	if t.Void == job.Parked {
		if err := w.verdict(ctx, j.Spec, res); err != nil {
			return nil, t.Span, err
		}
		w.leaveOutFull(res)
		res.Cut(t.Budget)
	}
	ids.KeepSpan(res.Span)
	res.IDs = uint32(ids.Card())
	ids.Release()
	return res, res.Span, nil
}

// decide fills in who of a block's span is dropped and who is a target. Only the home
// of the range decides.
func (w *Worker) decide(ctx context.Context, spec job.Spec, res *ledger.Reserve) error {
	if err := w.learn(ctx, res.Range()); err != nil {
		return err
	}
	pkg, err := w.cfg.Content.Package(ctx, spec)
	if err != nil {
		return fmt.Errorf("opening the package: %w", err)
	}
	ids, err := pkg.Range(res.Range())
	if err != nil {
		return fmt.Errorf("reading the package: %w", err)
	}
	ids.KeepSpan(res.Span)
	lists, err := w.cfg.Content.Lists(ctx, spec)
	if err != nil {
		return fmt.Errorf("opening the filters' lists: %w", err)
	}
	batch, err := w.cfg.Filters(lists).Run(ctx, ids)
	if err != nil {
		return err
	}
	for _, d := range batch.Dropped {
		res.Dropped = append(res.Dropped, ledger.Drop{Reason: d.Reason, Set: d.Set})
	}
	targets, offline := w.cfg.Presence.Split(batch.Keep)
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
func (w *Worker) leaveOutFull(res *ledger.Reserve) {
	full := *w.full.Load()
	var t ledger.Targets
	for i, inc := range res.Targets.Incs {
		if full[inc] {
			res.Targets.Sets[i].Release()
			continue
		}
		t.Incs, t.Sets = append(t.Incs, inc), append(t.Sets, res.Targets.Sets[i])
	}
	res.Targets = t
}
