package sim

import (
	"fmt"
	"slices"

	"crier/internal/idset"
	"crier/job"
	"crier/state/ledger"
	"crier/worker/home"
)

// Too much that is parked, in a fifth of the worlds: a cap of a few messages, and a collapse
// key that half of the jobs share.

// crowds reports whether this world has a cap and a key. It takes nothing from the rest's
// chance, which goes on as it did before there were any.
func (w *World) crowds() bool { return w.opts.Seed%5 == 3 }

// parkCap is the most messages that wait for somebody; 0 is any number.
func (w *World) parkCap() int {
	if !w.crowds() {
		return 0
	}
	return 1 + int(w.opts.Seed/5%3)
}

// collapseKey is the key of the n-th job.
func (w *World) collapseKey(n int) string {
	if w.crowds() && n%2 == 1 {
		return "k"
	}
	return ""
}

// replaces reports whether a job's message takes the place of another's.
func (w *World) replaces(newer, older jobID) bool {
	a, b := &w.byID[newer].spec, &w.byID[older].spec
	if a.CollapseKey == "" || a.CollapseKey != b.CollapseKey {
		return false
	}
	return a.SubmittedAt.After(b.SubmittedAt) || a.SubmittedAt.Equal(b.SubmittedAt) && slices.Compare(newer[:], older[:]) > 0
}

// crowded gives for whom of a range too much is parked, and adds everybody for whom anything is to all.
func (s *start) crowded(r job.Range) (all, crowded *idset.Set) {
	waiting := map[jobID]home.JobInfo{}
	for _, j := range s.table.live() {
		if parsed(s.index.Total(j.Spec.ID)).Parked > 0 {
			waiting[j.Spec.ID] = s.describe(j.Spec.ID)
		}
	}
	return parsed(s.index.MayWait(r)), parsed(s.index.Crowded(r, home.Crowd(s.w.parkCap(), waiting)))
}

// countDrops counts whom a pass dropped because too much was parked.
func (s *start) countDrops(e ledger.Entry) {
	if o, ok := e.(*ledger.Outcome); ok && (o.Reason == job.ReasonCollapsed || o.Reason == job.ReasonParkCap) {
		s.w.counts.Crowded += uint64(o.Set.Card())
	}
}

// dropsTwice reports whether an entry of a pass is a drop that is to be appended again.
func (s *start) dropsTwice(e ledger.Entry) bool {
	o, ok := e.(*ledger.Outcome)
	return ok && s.w.rules.DropTwice && o.Outcome == job.Dropped
}

// stillCrowded says for whom too much is parked.
func (w *World) stillCrowded() string {
	if !w.crowds() {
		return ""
	}
	for _, who := range w.people {
		var left []*jobInfo
		for _, j := range w.jobs {
			if slices.Contains(j.who, who) && !w.over(j) && w.fold.Place(j.spec.ID, who).Outcome == job.Parked {
				left = append(left, j)
			}
		}
		if len(left) > w.parkCap() {
			return fmt.Sprintf("%d messages are parked for %d, the cap is %d", len(left), who, w.parkCap())
		}
		for _, a := range left {
			for _, b := range left {
				if w.replaces(a.spec.ID, b.spec.ID) {
					return fmt.Sprintf("job %d is parked for %d beside job %d, which replaces it", b.n, who, a.n)
				}
			}
		}
	}
	return ""
}
