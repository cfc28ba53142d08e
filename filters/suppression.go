package filters

import (
	"context"

	"crier/internal/idset"
	"crier/job"
)

// Suppression takes out who is on a suppression list: the global one or the
// account's.
type Suppression struct{ Suppressed Set }

// Reason names the stage.
func (Suppression) Reason() job.Reason { return job.ReasonSuppressed }

// Refuse gives who of keep is on a list.
func (s Suppression) Refuse(_ context.Context, keep *idset.Set) (*idset.Set, error) {
	out, err := s.Suppressed.Range(keep.Range)
	if err != nil {
		return nil, err
	}
	out.And(keep)
	return out, nil
}
