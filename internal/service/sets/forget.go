package sets

import (
	"context"

	"crier/audience/members"
	"crier/job"
)

// forgetPage is how many sets are listed at a time.
const forgetPage = 500

// Forget takes a recipient out of the followers of all accounts, whoever's they are, and out
// of all segments, archived ones, too; it tells out of how many. The suppression lists stay as
// they are: they keep messages from whoever is on them. It may be repeated.
func (s *Sets) Forget(ctx context.Context, who job.Recipient) (followed, segments uint64, err error) {
	if followed, err = s.forget(ctx, members.KindFollowers, who); err != nil {
		return followed, 0, err
	}
	segments, err = s.forget(ctx, members.KindSegment, who)
	return followed, segments, err
}

// forget takes a recipient out of all sets of a kind.
func (s *Sets) forget(ctx context.Context, kind members.Kind, who job.Recipient) (n uint64, err error) {
	for from, more := uint32(0), true; more; {
		heads, err := s.Store.Sets.Scan(ctx, kind, from, forgetPage)
		if err != nil {
			return n, err
		}
		for _, h := range heads {
			if h.Cardinality == 0 {
				continue
			}
			r, err := s.Members.Remove(ctx, h.Key, []uint32{uint32(who)})
			if err != nil {
				return n, err
			}
			n += r.Changed
		}
		if more = len(heads) == forgetPage; more {
			from = heads[forgetPage-1].Owner + 1
			more = from > 0 // else that was the last number there can be
		}
	}
	return n, nil
}
