// Package projection keeps the coordination store and SQL in step with the ledger, so
// that others can look things up there.
//
// It guarantees that nothing goes back: a job's state is projected version by version,
// a slice's status by versions that grow, a claim by its epoch. What it has not
// projected yet it projects after a restart; nothing waits for it.
package projection

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"crier/internal/pause"
	"crier/job"
	"crier/state/coord"
	"crier/state/jobs"
	"crier/state/ledger"
	"crier/state/sql"
)

// Recorder projects the jobs of the ledger to SQL, version by version, with the
// watermark in the same transaction, and the statuses of slices from the coordination
// store.
type Recorder struct {
	Log    ledger.Log
	Store  *sql.Jobs
	Jobs   *jobs.Table
	Coord  coord.Store
	Told   func()                                     // called after each projection; nil is nobody
	Tally  func(job.Spec) (job.Counts, uint64, error) // and the ledger sequence it is true at
	Logger *slog.Logger
	held   sync.Mutex // while it projects a transition, and while somebody holds it

	statuses statuses
}

// Hold keeps transitions from being projected until release.
func (r *Recorder) Hold() (release func()) {
	r.held.Lock()
	return r.held.Unlock
}

const (
	recorderName  = "jobs"
	countsEvery   = time.Second
	recorderRetry = time.Second
)

// Run follows the ledger until ctx ends; a store that fails is tried again, and
// nothing else waits for it. Nothing of it goes on when it has returned: what it reads and
// writes may be closed.
func (r *Recorder) Run(ctx context.Context) error {
	var beside sync.WaitGroup
	defer beside.Wait()
	beside.Go(func() { r.recordCounts(ctx) })
	beside.Go(func() { r.sweepStatuses(ctx) })
	beside.Go(func() { r.recordSlices(ctx) })
	for {
		err := r.follow(ctx)
		if ctx.Err() != nil {
			return nil
		}
		r.Logger.Warn("projecting jobs to SQL; it goes on when the store answers", "error", err)
		select {
		case <-time.After(recorderRetry):
		case <-ctx.Done():
			return nil
		}
	}
}

func (r *Recorder) follow(ctx context.Context) error {
	mark, err := r.Store.Watermark(ctx, recorderName)
	if err != nil {
		return err
	}
	return r.Log.Follow(ctx, mark+1, ledger.AllJobs, func(st ledger.Stored) error {
		var tr job.Transition
		if err := json.Unmarshal(st.Data, &tr); err != nil {
			return fmt.Errorf("decoding the transition in record %d: %w", st.Seq, err)
		}
		err := r.project(ctx, sql.Projection{Recorder: recorderName, Through: st.Seq, Transitions: []job.Transition{tr}})
		if err == nil && r.Told != nil {
			r.Told()
		}
		return err
	}, nil)
}

func (r *Recorder) project(ctx context.Context, p sql.Projection) error {
	r.held.Lock()
	defer r.held.Unlock()
	return r.Store.Project(ctx, p)
}

// recordCounts projects how far the live jobs are, once a second if they are few.
func (r *Recorder) recordCounts(ctx context.Context) {
	for pause.For(ctx, countsEvery) {
		if err := r.recordOnce(ctx); err != nil && !errors.Is(err, context.Canceled) {
			r.Logger.Warn("projecting counts to SQL", "error", err)
		}
	}
}

// countsTogether is of how many jobs the counts are one transaction, and countsRest is how long others
// have the processors and the store to themselves behind one: logins wait for what has both.
const (
	countsTogether = 100
	countsRest     = 100 * time.Millisecond
)

// recordOnce projects the counts of all jobs. One whose acceptance is not projected yet is left for the
// next round.
func (r *Recorder) recordOnce(ctx context.Context) error {
	live := slices.DeleteFunc(r.Jobs.Live(), func(j jobs.Job) bool { return j.State < job.Sending })
	slices.SortFunc(live, func(a, b jobs.Job) int { return bytes.Compare(a.Spec.ID[:], b.Spec.ID[:]) })
	var errs []error
	for some := range slices.Chunk(live, countsTogether) {
		errs = append(errs, r.recordSome(ctx, some))
		if !pause.For(ctx, countsRest) {
			break
		}
	}
	return errors.Join(errs...)
}

// recordSome projects the counts of some jobs.
func (r *Recorder) recordSome(ctx context.Context, some []jobs.Job) error {
	var errs []error
	var all []sql.JobCounts
	for _, j := range some {
		counts, seq, err := r.Tally(j.Spec)
		if err == nil {
			all = append(all, sql.JobCounts{Job: j.Spec.ID, AsOf: seq, Counts: counts})
		} else if job.CodeOf(err) != job.CodeNotFound {
			errs = append(errs, err)
		}
	}
	if len(all) > 0 {
		errs = append(errs, r.projectCounts(ctx, all))
	}
	return errors.Join(errs...)
}

// projectCounts projects some counts together, or, if one of the jobs is not there, each by itself.
func (r *Recorder) projectCounts(ctx context.Context, some []sql.JobCounts) error {
	err := r.Store.Project(ctx, sql.Projection{Recorder: recorderName, Counts: some})
	switch {
	case job.CodeOf(err) != job.CodeNotFound:
		return err
	case len(some) == 1:
		return nil
	}
	var errs []error
	for i := range some {
		errs = append(errs, r.projectCounts(ctx, some[i:i+1]))
	}
	return errors.Join(errs...)
}
