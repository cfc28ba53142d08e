package app

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"crier/internal/app/datadir"
	"crier/job"
	"crier/state/claims"
	"crier/state/jobs"
	"crier/state/ledger"
)

// A process that is to leave waits for what it holds: for nothing that an earlier start of
// it claimed, which others take; nor for slices of a job that is sent, nor for anything of one
// that is over, whose claims nobody may be there to release.
func TestWhatAProcessHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := ledger.NewMemory(ledger.MemoryConfig{})
		a := &app{node: &datadir.Node{Name: "m1", Starts: 3}}
		a.claims, a.jobs = claims.New(log), jobs.New(log, ledger.NewMemory(ledger.MemoryConfig{}))
		ctx, stop := context.WithCancel(t.Context())
		var parts sync.WaitGroup
		parts.Go(func() { _ = a.claims.Run(ctx) })
		parts.Go(func() { _ = a.jobs.Run(ctx) })
		defer parts.Wait()
		defer stop()
		now := time.Now().UTC()
		spec := job.Spec{ID: job.NewID(now, [10]byte{1}), Priority: 1, SubmittedAt: now, ExpiresAt: now.Add(time.Hour)}
		if _, _, err := a.jobs.Accept(ctx, spec); err != nil {
			t.Fatal(err)
		}
		for thing, by := range map[ledger.Thing]job.Journal{ledger.JobThing(spec.ID): a.node.Scheduler(), ledger.SliceThing(spec.ID, 0): {Worker: a.node.Worker(), Incarnation: 3},
			ledger.RangeThing(7): {Worker: a.node.Worker(), Incarnation: 3}, ledger.RangeThing(8): {Worker: "w-other", Incarnation: 1},
			ledger.RangeThing(9): {Worker: a.node.Worker(), Incarnation: 2}} {
			if _, err := ledger.Take(ctx, log, thing, ledger.Taker{Journal: by}); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if n := a.owned(); n != 3 {
			t.Errorf("it holds %d, want 3", n)
		}
		becomes := func(states ...job.State) {
			for _, s := range states {
				if j, err := a.jobs.Transition(ctx, spec.ID, s, "", now); err != nil || j.State != s {
					t.Fatal(j.State, err)
				}
			}
			synctest.Wait()
		}
		becomes(job.Packed, job.Queued, job.Preparing, job.Prepared, job.Sending)
		if n := a.owned(); n != 3 {
			t.Errorf("it holds %d while the job is sent, want 3", n)
		}
		becomes(job.Sent)
		if n := a.owned(); n != 2 {
			t.Errorf("it holds %d when the job is sent, want 2", n)
		}
		becomes(job.Completed)
		if n := a.owned(); n != 1 {
			t.Errorf("it holds %d when the job is over, want 1", n)
		}
	})
}
