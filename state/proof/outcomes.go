package proof

import (
	"context"
	"fmt"

	"crier/job"
)

// Outcomes gives where one recipient stands in several jobs, as Explain would, in their order; it
// reads the ledger once for all of them. The recipient is in all of their packages, which it reads
// in the recipient's range only.
func (p *Prover) Outcomes(ctx context.Context, who job.Recipient, ids []job.ID, pkgs []Package) ([]job.Standing, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	r := who.Range()
	h, err := p.read(ctx, ids[0], &r, ids[1:]...)
	if err != nil {
		return nil, err
	}
	defer h.close()
	out := make([]job.Standing, len(ids))
	for i, id := range ids {
		f, err := h.view(id).fold(ctx, pkgs[i], r, nil)
		if err != nil {
			return nil, fmt.Errorf("job %s: %w", id, err)
		}
		at := f.where(who)
		out[i] = job.Standing{Outcome: at.outcome, Reason: at.reason}
		f.release()
	}
	return out, nil
}
