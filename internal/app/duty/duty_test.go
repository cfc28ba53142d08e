package duty_test

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"crier/internal/app/duty"
	"crier/job"
	"crier/state/claims"
	"crier/state/ledger"
)

// process is one that may have a duty.
type process struct {
	*duty.Roster
	kill         context.CancelFunc
	silent, gone atomic.Bool
	working      atomic.Bool
}

// processes share a ledger; each has its own table of claims.
func processes(t *testing.T, ctx context.Context, wg *sync.WaitGroup, names ...string) map[string]*process {
	log := ledger.NewMemory(ledger.MemoryConfig{})
	all := map[string]*process{}
	for _, name := range names {
		p := &process{}
		table := claims.New(log)
		p.Roster = &duty.Roster{Self: job.Journal{Worker: "p-" + name, Incarnation: 1}, Log: log, Claims: table, Silent: p.silent.Load,
			Lapsed: func(holder job.Journal) bool { return all[holder.Worker[2:]].gone.Load() },
			Frozen: func() bool { return false }, Logger: slog.New(slog.DiscardHandler)}
		life, kill := context.WithCancel(ctx)
		p.kill = kill
		all[name] = p
		wg.Go(func() { _ = table.Run(life) })
		wg.Go(func() {
			err := p.Duty("sweep", func(ctx context.Context) error {
				p.working.Store(true)
				defer p.working.Store(false)
				<-ctx.Done()
				return nil
			})(life)
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	return all
}

// A duty is one process's, stays with it, and passes on when that is told to be silent, or
// is gone: not before.
func TestDuty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var wg sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		defer wg.Wait()
		defer cancel()
		all := processes(t, ctx, &wg, "a", "b")
		a, b := all["a"], all["b"]
		b.silent.Store(true)
		expect := func(what string, wantA, wantB bool) {
			t.Helper()
			time.Sleep(5 * time.Second) // of the test's own time
			synctest.Wait()
			if a.working.Load() != wantA || b.working.Load() != wantB {
				t.Fatalf("%s: a has it %v, b %v", what, a.working.Load(), b.working.Load())
			}
		}
		expect("only a may take it", true, false)
		b.silent.Store(false)
		expect("a has it", true, false)
		a.silent.Store(true)
		expect("a gave it up", false, true)
		a.silent.Store(false)
		expect("b keeps it", false, true)
		b.kill()
		expect("b is dead, and nobody knows", false, false)
		b.gone.Store(true)
		expect("b is known to be dead", true, false)
	})
}
