package proof

import (
	"context"
	"errors"
	"fmt"

	"crier/internal/idset"
	"crier/job"
)

// ErrViolated says that the ledger tells of a job what cannot be true, so that nobody knows
// where its recipients stand; Reconcile lists what it is.
var ErrViolated = errors.New("the job is not conserved")

// Standing gives fn, range by range in ascending order, the recipients of a job who stand
// where chosen says, all of them at one moment: that at which the ledger was read. fn must
// not keep the set, and is not called for an empty one.
func (p *Prover) Standing(ctx context.Context, id job.ID, pkg Package, chosen func(job.Standing) bool, fn func(*idset.Set) error) error {
	h, err := p.read(ctx, id, nil)
	if err != nil {
		return err
	}
	defer h.close()
	for r := range pkg.Ranges() {
		if err := h.standing(ctx, pkg, r, chosen, fn); err != nil {
			return fmt.Errorf("where the recipients of job %s in range %s stand: %w", id, r, err)
		}
	}
	return ctx.Err()
}

func (h *history) standing(ctx context.Context, pkg Package, r job.Range, chosen func(job.Standing) bool, fn func(*idset.Set) error) error {
	f, err := h.fold(ctx, pkg, r, nil)
	if err != nil {
		return err
	}
	defer f.release()
	if f.check(&job.Counts{Dropped: map[job.Reason]uint64{}}); len(f.violations) > 0 {
		return fmt.Errorf("%w: %s", ErrViolated, f.violations[0])
	}
	all := idset.New(r)
	defer all.Release()
	for _, o := range f.outcomes() {
		if chosen(job.Standing{Outcome: o.outcome, Reason: o.reason}) {
			all.Or(o.set)
		}
	}
	if all.IsEmpty() {
		return nil
	}
	return fn(all)
}
