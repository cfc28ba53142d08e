package proof

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"crier/internal/idset"
	"crier/job"
	"crier/state/ledger"
	"crier/state/report"
)

// ErrOpen says that the ledger has somebody handed off or in doubt, so that it cannot be
// told for good who may have seen a message.
var ErrOpen = errors.New("somebody is handed off or in doubt")

// MayHaveSeen gives fn who may have been shown a job's message, range by range in
// ascending order; fn must not keep the sets. These are the delivered, and all others to
// whom it may have been written: who failed because nobody knows, and who did not
// acknowledge and was parked again, whatever became of them then. Who was refused, or not
// there, is not among them.
//
// It needs the job's entries only, not its package, which may be damaged.
func (p *Prover) MayHaveSeen(ctx context.Context, id job.ID, fn func(*idset.Set) error) error {
	h, err := p.read(ctx, id, nil)
	if err != nil {
		return err
	}
	defer h.close()
	ranges, err := h.ranges()
	if err != nil {
		return err
	}
	for _, r := range slices.Sorted(maps.Keys(ranges)) {
		if err := h.mayHaveSeen(ctx, r, fn); err != nil {
			return fmt.Errorf("who may have seen job %s in range %s: %w", id, r, err)
		}
	}
	return ctx.Err()
}

func (h *history) mayHaveSeen(ctx context.Context, r job.Range, fn func(*idset.Set) error) error {
	targets := idset.New(r)
	err := h.entries(ctx, r, func(e report.Entry, _ job.Digest) error {
		var to ledger.Targets
		switch e := e.Entry.(type) {
		case *ledger.Reserve:
			to = e.Targets
		case *ledger.Drain:
			to = e.Targets
		}
		for _, s := range to.Sets {
			targets.Or(s)
		}
		return nil
	})
	if err != nil || targets.IsEmpty() {
		targets.Release()
		return err
	}
	// Of a package of the targets alone, only the counts of its reserves are wrong.
	f := newFold(r, targets)
	defer f.release()
	f.seen = idset.New(r)
	defer f.seen.Release()
	err = h.entries(ctx, r, func(e report.Entry, _ job.Digest) error {
		f.apply(e.Ref, e.Entry)
		return nil
	})
	if err != nil {
		return err
	}
	for _, o := range f.outcomes() {
		if (o.outcome == job.HandedOff || o.outcome == job.InDoubt) && !o.set.IsEmpty() {
			return ErrOpen
		}
	}
	if f.seen.IsEmpty() {
		return nil
	}
	return fn(f.seen)
}

// Readable reports whether everything that the ledger and its reports say of a job is
// still there: an error says what is not.
func (p *Prover) Readable(ctx context.Context, id job.ID) error {
	h, err := p.read(ctx, id, new(job.Range))
	if err != nil {
		return err
	}
	h.close()
	return nil
}
