package proof

import (
	"context"
	"fmt"

	"crier/internal/idset"
	"crier/job"
)

// refilter asks filters again: whom one dropped it must refuse, and whom it refuses must
// not have passed it. Who was never filtered, because the job was over before, is passed
// over.
func (f *fold) refilter(ctx context.Context, filters []Filter) error {
	for _, filter := range filters {
		refused, err := filter.Refuse(ctx, f.ids)
		if err != nil {
			return fmt.Errorf("asking filter %s again: %w", filter.Reason(), err)
		}
		for k, s := range f.ended {
			if k == (ending{job.Dropped, filter.Reason()}) {
				stray := s.Clone()
				stray.AndNot(refused)
				if n := stray.Card(); n > 0 {
					f.wrong("%d recipients were dropped for %s, which what the job recorded does not bear out", n, filter.Reason())
				}
				stray.Release()
			}
		}
		passed := f.passed(filter.Reason())
		passed.And(refused)
		if n := passed.Card(); n > 0 {
			f.wrong("%d recipients were not dropped for %s, for which what the job recorded drops them", n, filter.Reason())
		}
		passed.Release()
		refused.Release()
	}
	return nil
}

// passed gives who certainly passed the filter of a reason: those to whom the message was
// handed or for whom it was parked, whatever became of them, and those whom a later filter
// dropped. Reasons are in the order of the filters.
func (f *fold) passed(reason job.Reason) *idset.Set {
	all := f.parked.Clone()
	for _, open := range []map[at]*idset.Set{f.open, f.doubt} {
		for _, s := range open {
			all.Or(s)
		}
	}
	for k, s := range f.ended {
		if k.outcome == job.Delivered || k.outcome == job.Failed || k.outcome == job.Dropped && k.reason > reason {
			all.Or(s)
		}
	}
	return all
}
