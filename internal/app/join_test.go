package app

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"crier/internal/app/datadir"
	"crier/internal/app/member"
	"crier/job"
	"crier/scheduler/apta"
	"crier/scheduler/apta/timing"
	"crier/state/claims"
	"crier/state/coord"
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

// A process whose data directory was lost counts its starts from one again; members that know
// a later start of its name do not take it, and it says so and does not wait.
func TestAStartNumberThatIsUsedUp(t *testing.T) {
	store := coord.NewMemory(time.Now)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute) // beside other tests
	defer cancel()
	var parts sync.WaitGroup
	defer parts.Wait()
	enter := func(id string, incarnation uint32, nonce uint64, seeds ...string) (*app, func()) {
		a := &app{}
		a.core = apta.Config{Cluster: "a", ID: id, Incarnation: incarnation, Nonce: nonce, Home: nonce, Seeds: seeds, Timers: timing.Fast()}
		var err error
		a.member, err = member.New(member.Config{Core: a.core, Listen: "127.0.0.1:0", Leases: member.NewLeases(store), Ledger: func() bool { return true },
			Alive: func() bool { return true }, Owned: func() int { return 0 }, Silenced: func(string) error { return nil }, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		run, stop := context.WithCancel(ctx)
		parts.Go(func() { _ = a.member.Run(run) }) // waitMember tells
		return a, stop
	}
	first, stopFirst := enter("m1", 1, 1)
	defer stopFirst()
	seed := first.member.Address()
	lost, stopLost := enter("m2", 5, 2, seed)
	for _, a := range []*app{first, lost} {
		if err := a.waitMember(ctx); err != nil {
			t.Fatal(err)
		}
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	see := func(want bool) {
		for seen := !want; seen != want; <-tick.C {
			if _, seen = first.member.Snapshot().View.Find("m2"); ctx.Err() != nil {
				t.Fatalf("m1 sees m2: %v", seen)
			}
		}
	}
	see(true)
	lost.leave(ctx)
	stopLost()
	see(false) // else the next one is a second of its name
	var err error
	for nonce := uint64(3); ctx.Err() == nil; nonce++ { // the link of the former one may not be over yet: its id is taken, start it again
		again, stopAgain := enter("m2", 1, nonce, seed)
		err = again.waitMember(ctx)
		if stopAgain(); err == nil || !strings.Contains(err.Error(), "its id is taken") {
			break
		}
	}
	if job.CodeOf(err) != job.CodeConflict || !strings.HasPrefix(err.Error(), "name: ") || !strings.Contains(err.Error(), "start number 5") {
		t.Errorf("with a start number that is used up: %v", err)
	}
}
