// Package sweep finds, for the homes of a worker, whom nobody asked about: who is parked or in
// doubt and online, for whom too much is parked, who is parked and asked to be forgotten, and
// jobs that are over and still have somebody waiting. It makes up for whatever was lost on the way to a home.
package sweep

import (
	"context"
	"math"
	"time"

	"golang.org/x/sync/errgroup"

	"crier/internal/idset"
	"crier/job"
	"crier/state/jobs"
	"crier/state/parked"
	"crier/state/parked/crowd"
	"crier/worker/home"
)

// Every is how often parked ∧ online is looked for: nobody is parked and
// online for longer than 5 s (rule 20).
const Every = 3 * time.Second

// A look at all ranges is in so many parts, spread over its time: of ten million parked
// it takes a processor a tenth of a second, for which logins would wait.
const (
	parts      = 128
	partEvery  = Every / parts
	partRanges = job.Ranges / parts
)

// Sweep is what it looks at, and whom it tells.
type Sweep struct {
	Index    *parked.Index
	Jobs     interface{ Live() []jobs.Job }
	Presence interface {
		// Online is who of the set is connected anywhere, as the caller's set.
		Online(who *idset.Set) *idset.Set
	}
	Holds func(job.Range) bool // whose home the worker is
	Info  func(j jobs.Job, now time.Time) home.JobInfo
	Cap   int // the most messages that wait for a recipient; 0 is any number
	// Erased gives who of a range asked to be forgotten behind a record of the ledger.
	Erased func(seq uint64, r job.Range) *idset.Set
	Post   func(context.Context, any)

	bare bare // over's
}

// Run looks, again and again, for all of them. Jobs that are over are gone through beside the rest:
// in a range of which little is left that takes milliseconds, and nobody who is online may wait for it.
func (s *Sweep) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return again(ctx, partEvery, s.waiting()) })
	g.Go(func() error { return again(ctx, Every, s.over) })
	return g.Wait()
}

// again looks until ctx ends. Who has not the time to look so often goes on without a rest.
func again(ctx context.Context, every time.Duration, look func(context.Context) error) error {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		if err := look(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}

// waiting gives what tells the homes, of a part of the ranges after another, who waits and should
// be looked at.
func (s *Sweep) waiting() func(context.Context) error {
	var w whom
	r := job.Range(0)
	return func(ctx context.Context) (err error) {
		if r == 0 {
			if w, err = s.whom(time.Now()); err != nil {
				return err
			}
		}
		for range partRanges {
			if s.Holds(r) {
				set, err := s.waitingIn(r, w)
				if err != nil {
					return err
				}
				if !set.IsEmpty() {
					s.Post(ctx, home.Wanted{Who: set})
				}
			}
			r = (r + 1) % job.Ranges
		}
		return nil
	}
}

// whom is what the live jobs say of who should be looked at.
type whom struct {
	resend map[job.ID]bool
	crowd  crowd.Limits
	oldest uint64
}

func (s *Sweep) whom(now time.Time) (whom, error) {
	live := s.Jobs.Live()
	w := whom{resend: map[job.ID]bool{}, oldest: oldestOf(live)}
	waiting := map[job.ID]home.JobInfo{}
	for _, j := range live {
		info := s.Info(j, now)
		w.resend[j.Spec.ID] = info.Resend
		total, err := s.Index.Total(j.Spec.ID)
		if err != nil {
			return whom{}, err
		}
		if total.Parked > 0 {
			waiting[j.Spec.ID] = info
		}
	}
	w.crowd = home.Crowd(s.Cap, waiting)
	return w, nil
}

// over asks the homes to end what is left of jobs.
func (s *Sweep) over(ctx context.Context) error {
	now := time.Now()
	s.bare.begin(s.Index.Parkings)
	for _, j := range s.Jobs.Live() {
		if err := s.endings(ctx, now, j); err != nil {
			return err
		}
	}
	s.bare.end()
	return nil
}

// oldestOf is the record with which the first of some jobs was accepted: who asked to be
// forgotten before it waits for nothing from before that. Of a job of which it is not known, and
// of one that a withdrawal takes back, it may be any.
func oldestOf(live []jobs.Job) uint64 {
	oldest := uint64(math.MaxUint64)
	for _, j := range live {
		if !j.Spec.Withdraws.IsZero() {
			return 0
		}
		oldest = min(oldest, j.Accepted())
	}
	return oldest
}

// waitingIn gives who of a range is online and waits: parked, or in doubt that being online
// may end (rule 18), by what their clients said at their hello, or because the job is to be
// sent again. Online or not, it gives for whom too much is parked, and who may be parked and
// asked to be forgotten behind the record of the first job that is live.
func (s *Sweep) waitingIn(r job.Range, w whom) (*idset.Set, error) {
	set, err := s.Index.MayWait(r)
	if err != nil {
		return nil, err
	}
	defer set.Release()
	crowded, err := s.Index.Crowded(r, w.crowd)
	if err != nil {
		return nil, err
	}
	erased := s.Erased(w.oldest, r)
	defer erased.Release()
	erased.And(set)
	crowded.Or(erased)
	doubts, err := s.Index.DoubtIn(r, job.ID{})
	for _, d := range doubts {
		if !d.Mute || w.resend[d.Job] {
			set.Or(d.Set)
		}
	}
	if online := s.Presence.Online(set); !online.IsEmpty() {
		crowded.Or(online)
	}
	return crowded, err
}

// endings asks the homes to end what is left of a job that is over, or whose
// doubt an operator ended.
func (s *Sweep) endings(ctx context.Context, now time.Time, j jobs.Job) error {
	over := j.Over(now) != job.Parked
	if !over && j.Controls.Doubt == 0 {
		return nil
	}
	total, err := s.Index.Total(j.Spec.ID)
	if err != nil || total.InDoubt == 0 && (total.Parked == 0 || !over) {
		return err
	}
	bare := s.bare.of(j.Spec.ID)
	for r := range job.Range(job.Ranges) {
		if !s.Holds(r) {
			continue
		}
		left, err := s.left(r, j.Spec.ID, over && total.Parked > 0, bare)
		if err != nil {
			return err
		}
		if left {
			s.Post(ctx, home.Ending{Range: r, Job: j.Spec.ID})
		}
	}
	return nil
}

// left reports whether a range has anybody of a job who is in doubt or, if that matters, parked.
func (s *Sweep) left(r job.Range, id job.ID, parked bool, bare *ranges) (bool, error) {
	reserved, err := s.Index.Reserved(r, id)
	if err != nil || len(reserved) == 0 {
		return false, err
	}
	doubt, err := s.Index.InDoubt(r, id)
	if err != nil || doubt || !parked || bare.has(r) {
		return doubt, err
	}
	isParked, err := s.Index.IsParked(r, id)
	if err == nil && !isParked {
		bare.add(r)
	}
	return isParked, err
}
