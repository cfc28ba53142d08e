package projection

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync/atomic"
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

// writes is a store of which the writes are counted.
type writes struct {
	*coord.Memory
	n atomic.Int64
}

// Put implements coord.Store.
func (w *writes) Put(ctx context.Context, key string, value []byte, expect coord.Version) (coord.Version, error) {
	w.n.Add(1)
	return w.Memory.Put(ctx, key, value, expect)
}

// Delete implements coord.Store.
func (w *writes) Delete(ctx context.Context, key string, expect coord.Version) error {
	w.n.Add(1)
	return w.Memory.Delete(ctx, key, expect)
}

// A mirror that begins again reads the ledger from its beginning. Jobs that were over before
// do not come back meanwhile, and what the last mirror left of them goes.
func TestJobsThatAreOverAreNotMirroredAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := ledger.NewMemory(ledger.MemoryConfig{})
		table := jobs.New(log, ledger.NewMemory(ledger.MemoryConfig{}))
		now := time.Now().UTC()
		submit := func(n byte) job.ID {
			spec := job.Spec{ID: job.NewID(now, [10]byte{n}), Priority: 1, SubmittedAt: now, ExpiresAt: now.Add(time.Hour)}
			if _, _, err := table.Accept(t.Context(), spec); err != nil {
				t.Fatal(err)
			}
			return spec.ID
		}
		move := func(id job.ID, states ...job.State) {
			for _, s := range states {
				if _, err := table.Transition(t.Context(), id, s, "", now); err != nil {
					t.Fatal(err)
				}
			}
		}
		over, left, live := submit(1), submit(2), submit(3)
		move(live, job.Packed)
		for _, id := range []job.ID{over, left} {
			move(id, job.Packed, job.Queued, job.Preparing, job.Prepared, job.Sending, job.Sent, job.Completed)
		}
		store := &writes{Memory: coord.NewMemory(time.Now)}
		value, err := json.Marshal(status{Version: 7, State: job.Sent})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := store.Memory.Put(t.Context(), "jobs/"+left.String(), value, 0); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			_ = (&Mirror{Log: log, Store: store, Logger: slog.New(slog.DiscardHandler)}).Run(ctx)
			close(done)
		}()
		synctest.Wait()
		cancel()
		<-done
		all, err := store.List(t.Context(), "jobs")
		if err != nil || len(all) != 1 || all[0].Key != "jobs/"+live.String() {
			t.Errorf("mirrored are %v, %v; want only the live one", all, err)
		}
		if n := store.n.Load(); n != 3 {
			t.Errorf("%d writes, want 3: two of the live job, and the end of what was left", n)
		}
	})
}
