package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"crier/job"
	"crier/state/jobs"
	"crier/state/ledger"
	"crier/state/sql"
)

// recorder projects the jobs of the ledger to SQL, version by version, with the
// watermark in the same transaction. What it has not projected yet it projects
// after a restart.
type recorder struct {
	log   ledger.Log
	store *sql.Jobs
	jobs  *jobs.Table
	told  func()                                     // called after each projection; nil is nobody
	tally func(job.Spec) (job.Counts, uint64, error) // and the ledger sequence it is true at
	slog  *slog.Logger
}

const (
	recorderName  = "jobs"
	countsEvery   = time.Second
	recorderRetry = time.Second
)

// run follows the ledger until ctx ends; a store that fails is tried again, and
// nothing else waits for it.
func (r *recorder) run(ctx context.Context) error {
	go r.recordCounts(ctx)
	for {
		err := r.follow(ctx)
		if ctx.Err() != nil {
			return nil
		}
		r.slog.Warn("projecting jobs to SQL; it goes on when the store answers", "error", err)
		select {
		case <-time.After(recorderRetry):
		case <-ctx.Done():
			return nil
		}
	}
}

func (r *recorder) follow(ctx context.Context) error {
	mark, err := r.store.Watermark(ctx, recorderName)
	if err != nil {
		return err
	}
	return r.log.Follow(ctx, mark+1, ledger.AllJobs, func(st ledger.Stored) error {
		var tr job.Transition
		if err := json.Unmarshal(st.Data, &tr); err != nil {
			return fmt.Errorf("decoding the transition in record %d: %w", st.Seq, err)
		}
		err := r.store.Project(ctx, sql.Projection{Recorder: recorderName, Through: st.Seq, Transitions: []job.Transition{tr}})
		if err == nil && r.told != nil {
			r.told()
		}
		return err
	}, nil)
}

// recordCounts projects how far the live jobs are, once a second.
func (r *recorder) recordCounts(ctx context.Context) {
	t := time.NewTicker(countsEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if err := r.recordOnce(ctx); err != nil && !errors.Is(err, context.Canceled) {
			r.slog.Warn("projecting counts to SQL", "error", err)
		}
	}
}

// recordOnce projects each job's counts by itself: one whose acceptance is not
// projected yet is left for the next round.
func (r *recorder) recordOnce(ctx context.Context) error {
	var errs []error
	for _, j := range r.jobs.Live() {
		if j.State < job.Sending {
			continue
		}
		counts, seq, err := r.tally(j.Spec)
		if err == nil {
			err = r.store.Project(ctx, sql.Projection{Recorder: recorderName, Counts: []sql.JobCounts{{Job: j.Spec.ID, AsOf: seq, Counts: counts}}})
		}
		if job.CodeOf(err) != job.CodeNotFound {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
