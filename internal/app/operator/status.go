package operator

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"crier/api"
	"crier/state/ledger"
)

// Sum adds what the other members know to the status of this process, and tells who
// did not answer.
func (o *Operator) Sum(ctx context.Context, st api.Status) api.Status {
	s := o.cfg.Membership.Snapshot(ctx)
	ids := slices.DeleteFunc(slices.Sorted(maps.Keys(known(&s, nil))), func(id string) bool { return id == s.Self.ID })
	for i := range st.Disks {
		st.Disks[i].Member = s.Self.ID
	}
	told, silent := o.reports(ctx, &s, ids)
	for _, r := range told {
		st.Online += r.Online
		st.Sockets += r.Sockets
		for _, d := range r.Disks {
			d.Member = r.ID
			st.Disks = append(st.Disks, d)
		}
	}
	st.Silent = silent
	if lag, ok := o.indexLag(ctx, time.Now()); ok {
		ms := uint64(lag.Milliseconds())
		st.IndexLag = &ms
	}
	return st
}

// lagWithin bounds looking for the first record that the index lacks.
const lagWithin = time.Second

// indexLag is the age of the oldest journal record that the index has not applied.
func (o *Operator) indexLag(ctx context.Context, now time.Time) (time.Duration, bool) {
	if o.cfg.Index == nil {
		return 0, false
	}
	ctx, cancel := context.WithTimeout(ctx, lagWithin)
	defer cancel()
	mark := o.cfg.Index.Watermark()
	u, err := o.cfg.Log.Usage(ctx)
	if err != nil {
		return 0, false
	}
	if mark > u.Last {
		return 0, true
	}
	// Records of other kinds may lie behind the mark for long without being news.
	found := errors.New("found")
	var oldest time.Time
	err = ledger.ReadAll(ctx, o.cfg.Log, mark, ledger.AllJournals, func(st ledger.Stored) error {
		oldest = st.Time
		return found
	})
	switch {
	case errors.Is(err, found):
		return max(now.Sub(oldest), 0), true
	case err != nil:
		return 0, false
	}
	return 0, true
}
