package projection

import (
	"context"
	"encoding/json"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"crier/job"
	"crier/state/coord"
	"crier/state/jobs"
	"crier/state/ledger"
)

// TestMirrorFollowsTheLedger compares the coordination store with what was recorded,
// also for a mirror that starts again over a store that has some of it.
func TestMirrorFollowsTheLedger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := ledger.NewMemory(ledger.MemoryConfig{})
		store := coord.NewMemory(time.Now)
		table := jobs.New(log, ledger.NewMemory(ledger.MemoryConfig{}))
		start := func() (stop func()) {
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			quiet := slog.New(slog.DiscardHandler)
			go (&Lease{Store: store, Member: "m1", Roles: []string{"api"}, Logger: quiet}).Run(ctx)
			go func() { (&Mirror{Log: log, Store: store, Logger: quiet}).Run(ctx); close(done) }()
			return func() { cancel(); <-done; synctest.Wait() }
		}
		stop := start()
		now := time.Now().UTC()
		spec := job.Spec{ID: job.NewID(now, [10]byte{1}), Priority: 1, SubmittedAt: now, ExpiresAt: now.Add(time.Hour)}
		if _, _, err := table.Accept(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		expect := func(state job.State, version uint64) {
			t.Helper()
			synctest.Wait()
			e, err := store.Get(t.Context(), "jobs/"+spec.ID.String())
			if err != nil {
				t.Fatal(err)
			}
			var got status
			if err := json.Unmarshal(e.Value, &got); err != nil || got.State != state || got.Version != version {
				t.Fatalf("mirrored as %+v (%v), want %s at version %d", got, err, state, version)
			}
		}
		move := func(states ...job.State) {
			for _, s := range states {
				if _, err := table.Transition(t.Context(), spec.ID, s, "", now); err != nil {
					t.Fatal(err)
				}
			}
		}
		expect(job.Submitted, 1)
		move(job.Packed, job.Queued)
		expect(job.Queued, 3)
		stop()
		move(job.Preparing, job.Prepared)
		stop = start()
		expect(job.Prepared, 5)
		if _, err := store.Get(t.Context(), "members/m1"); err != nil {
			t.Fatalf("the member's lease: %v", err)
		}
		by := ledger.Taker{Journal: job.Journal{Worker: "w1", Incarnation: 4}}
		if _, err := ledger.Take(t.Context(), log, ledger.JournalThing(job.Journal{Worker: "w1", Incarnation: 3}), by); err != nil {
			t.Fatal(err)
		}
		move(job.Sending, job.Sent, job.Completed)
		synctest.Wait()
		if _, err := store.Get(t.Context(), "jobs/"+spec.ID.String()); err == nil {
			t.Error("a job that is over is still mirrored")
		}
		if _, err := store.Get(t.Context(), "claims/journal/w1=3"); err != nil {
			t.Errorf("the claim: %v", err)
		}
		stop()
	})
}
