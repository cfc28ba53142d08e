// Package overstay finds the jobs that are in a state for longer than the table in job
// allows, tells of them, and takes them from an owner that does not move them on.
//
// It guarantees that a job is not called late sooner than its table says, that each
// version of a job is alerted to once, and that it takes nothing from an owner that had
// the job for less than a whole deadline.
package overstay

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"

	"crier/job"
	"crier/state/jobs"
	"crier/state/ledger"
	"crier/state/parked"
)

// Jobs is the table of jobs.
type Jobs interface {
	// Live lists the jobs that are not over.
	Live() []jobs.Job
}

// Totals tells how far a job is; parked.Index has it.
type Totals interface {
	Total(id job.ID) (parked.Tally, error)
}

// Claims tells who holds what; claims.Table has it.
type Claims interface {
	// Of gives the last claim on a thing.
	Of(ledger.Thing) ledger.Claim
}

// Stay is a job's time in its state.
type Stay struct {
	Job   jobs.Job
	Due   time.Time // zero: it may stay for ever
	Tries uint32    // how often it was taken from its owner in this state, so that another moves it on
}

// Late reports whether the state is overstayed.
func (s Stay) Late(now time.Time) bool { return !s.Due.IsZero() && !now.Before(s.Due) }

// Watch knows since when nothing was done of each job. It has to be looked at now and
// then, or it learns of progress late, and calls nothing late then. It is safe for
// concurrent use.
type Watch struct {
	jobs   Jobs
	totals Totals
	claims Claims
	now    func() time.Time
	mu     struct {
		sync.Mutex
		seen map[job.ID]seen
	}
}

// seen is how far a job was, and when that was seen first.
type seen struct {
	version uint64
	done    parked.Tally
	at      time.Time
}

// NewWatch makes a watch; now is the clock by which states are entered.
func NewWatch(table Jobs, totals Totals, claims Claims, now func() time.Time) *Watch {
	w := &Watch{jobs: table, totals: totals, claims: claims, now: now}
	w.mu.seen = map[job.ID]seen{}
	return w
}

// Of gives a job's stay, as of now.
func (w *Watch) Of(j jobs.Job) (Stay, error) {
	s := Stay{Job: j, Tries: triesOf(w.claims.Of(ledger.JobThing(j.Spec.ID)), j.Version)}
	if !j.IsLive() || j.State.Terminal() { // what is over and recalled leaves its state at once
		return s, nil
	}
	var progress time.Time
	if j.State.Rule().Counts == job.FromProgress {
		var err error
		if progress, err = w.progress(j); err != nil {
			return s, err
		}
	}
	if due, ok := j.State.Due(j.Since, progress, j.Spec.ExpiresAt); ok {
		s.Due = due
	}
	return s, nil
}

// triesOf is how often a job in a version was taken from its owner.
func triesOf(c ledger.Claim, version uint64) uint32 {
	if c.Of != version {
		return 0
	}
	return c.Tries
}

// progress is when something of a job was seen to be done last. Of one that was never
// looked at, that may have been just now.
func (w *Watch) progress(j jobs.Job) (time.Time, error) {
	t, err := w.totals.Total(j.Spec.ID)
	if err != nil {
		return time.Time{}, fmt.Errorf("reading the totals of job %s: %w", j.Spec.ID, err)
	}
	if j.State == job.Sending { // logins and acknowledgements do not send the rest
		t = parked.Tally{Reserved: t.Reserved}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	last, known := w.mu.seen[j.Spec.ID]
	if !known || last.version != j.Version || last.done != t {
		last = seen{j.Version, t, w.now()}
		w.mu.seen[j.Spec.ID] = last
	}
	return last.at, nil
}

// Late lists the jobs that overstay their state, the longest first. With an error, some
// could not be looked at.
func (w *Watch) Late() (late []Stay, err error) {
	now, live := w.now(), w.jobs.Live()
	ids := make(map[job.ID]bool, len(live))
	for _, j := range live {
		ids[j.Spec.ID] = true
		s, failed := w.Of(j)
		if failed != nil {
			err = failed
			continue
		}
		if s.Late(now) {
			late = append(late, s)
		}
	}
	w.mu.Lock()
	for id := range w.mu.seen {
		if !ids[id] {
			delete(w.mu.seen, id)
		}
	}
	w.mu.Unlock()
	slices.SortFunc(late, func(a, b Stay) int {
		return cmp.Or(a.Due.Compare(b.Due), slices.Compare(a.Job.Spec.ID[:], b.Job.Spec.ID[:]))
	})
	return late, err
}
