package filters

import (
	"context"

	"crier/internal/idset"
	"crier/job"
)

// Relation takes out who does not follow the account.
type Relation struct{ Followers Set }

// Reason names the stage.
func (Relation) Reason() job.Reason { return job.ReasonRelation }

// Refuse gives who of keep is no follower.
func (s Relation) Refuse(_ context.Context, keep *idset.Set) (*idset.Set, error) {
	followers, err := s.Followers.Range(keep.Range)
	if err != nil {
		return nil, err
	}
	defer followers.Release()
	out := keep.Clone()
	out.AndNot(followers)
	return out, nil
}
