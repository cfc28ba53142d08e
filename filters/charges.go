package filters

import (
	"context"

	"crier/internal/idset"
	"crier/job"
)

// SendOnce takes out who got what is sent once.
type SendOnce struct{ Marked Set }

// Reason implements Stage.
func (SendOnce) Reason() job.Reason { return job.ReasonSendOnce }

// Refuse implements Stage.
func (f SendOnce) Refuse(_ context.Context, keep *idset.Set) (*idset.Set, error) {
	return among(f.Marked, keep)
}

// Frequency takes out who has had as many messages as a day brings: of all accounts, or
// of this one.
type Frequency struct{ Full []Set }

// Reason implements Stage.
func (Frequency) Reason() job.Reason { return job.ReasonFrequency }

// Refuse implements Stage.
func (f Frequency) Refuse(_ context.Context, keep *idset.Set) (*idset.Set, error) {
	out := idset.New(keep.Range)
	for _, full := range f.Full {
		some, err := among(full, keep)
		if err != nil {
			return nil, err
		}
		out.Or(some)
		some.Release()
	}
	return out, nil
}

// among gives who of keep is in a set.
func among(s Set, keep *idset.Set) (*idset.Set, error) {
	out, err := s.Range(keep.Range)
	if err != nil {
		return nil, err
	}
	out.And(keep)
	return out, nil
}
