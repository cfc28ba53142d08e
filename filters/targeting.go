package filters

import (
	"context"
	"fmt"

	"crier/internal/idset"
	"crier/job"
)

// Targeting takes out who is in none of the segments to include, if there are any,
// and who is in one of those to exclude, whatever else they are in.
type Targeting struct{ Include, Exclude []Segment }

// Reason names the stage.
func (Targeting) Reason() job.Reason { return job.ReasonTargeting }

// Refuse gives who of keep is not aimed at.
func (s Targeting) Refuse(_ context.Context, keep *idset.Set) (*idset.Set, error) {
	out := idset.New(keep.Range)
	if len(s.Include) > 0 {
		out.Or(keep)
	}
	for _, x := range s.Include {
		if err := x.with(keep.Range, out.AndNot); err != nil {
			out.Release()
			return nil, err
		}
	}
	for _, x := range s.Exclude {
		err := x.with(keep.Range, func(in *idset.Set) {
			in.And(keep)
			out.Or(in)
		})
		if err != nil {
			out.Release()
			return nil, err
		}
	}
	return out, nil
}

// with shows a range of the segment to use.
func (s Segment) with(r job.Range, use func(*idset.Set)) error {
	in, err := s.Range(r)
	if err != nil {
		return fmt.Errorf("reading %s: %w", s, err)
	}
	use(in)
	in.Release()
	return nil
}

// String names the segment as errors and proofs do.
func (s Segment) String() string { return fmt.Sprintf("segment %q at revision %d", s.Name, s.Revision) }
