package leases

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"crier/job"
	"crier/presence/lease"
	"crier/state/coord"
	"crier/state/ledger"
)

var g1 = job.Incarnation{Gateway: "g-one", Start: 1}

// deaf is a ledger that may not answer.
type deaf struct {
	ledger.Log
	on atomic.Bool
}

// Last implements ledger.Log.
func (d *deaf) Last(ctx context.Context, subject string) (ledger.Stored, error) {
	if d.on.Load() {
		<-ctx.Done()
		return ledger.Stored{}, ctx.Err()
	}
	return d.Log.Last(ctx, subject)
}

// world is gateways and an observer around a store and a ledger in memory.
type world struct {
	t      *testing.T
	store  *coord.Memory
	ledger *deaf
	silent atomic.Pointer[[]job.Incarnation]
	ctx    context.Context
	stop   context.CancelFunc
	all    sync.WaitGroup
}

func inWorld(t *testing.T, run func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, store: coord.NewMemory(nil), ledger: &deaf{Log: ledger.NewMemory(ledger.MemoryConfig{})}}
		w.silent.Store(&[]job.Incarnation{})
		w.ctx, w.stop = context.WithCancel(t.Context())
		run(w)
		w.stop()
		w.all.Wait()
	})
}

// gateway runs one until it is stopped, and gives how it ended.
func (w *world) gateway(inc job.Incarnation) (g *Gateway, stop func() error) {
	g = &Gateway{Incarnation: inc, URL: "ws://here", Member: "one", Store: w.store, Log: w.ledger, Logger: slog.New(slog.DiscardHandler), Began: time.Now()}
	if g.May() {
		w.t.Error("it may take hand-offs before it asked")
	}
	ctx, cancel := context.WithCancel(w.ctx)
	ended := make(chan error, 1)
	w.all.Go(func() { ended <- g.Run(ctx) })
	return g, func() error {
		cancel()
		return <-ended
	}
}

func (w *world) observe() {
	by := job.Journal{Worker: "w", Incarnation: 1}
	watch := &Watch{Store: w.store, Silent: func() []job.Incarnation { return *w.silent.Load() }, Logger: slog.New(slog.DiscardHandler),
		End: func(ctx context.Context, inc job.Incarnation) error {
			_, err := ledger.Take(ctx, w.ledger.Log, ledger.GatewayThing(inc), ledger.Taker{Journal: by, Sealed: func(job.Journal) bool { return false }})
			return err
		}}
	w.all.Go(func() { _ = watch.Run(w.ctx) }) // it ends with the world
}

func (w *world) isOver(inc job.Incarnation) bool {
	c, err := ledger.LastClaim(w.t.Context(), w.ledger.Log, ledger.GatewayThing(inc))
	if err != nil {
		w.t.Fatal(err)
	}
	return c.Epoch > 0
}

func TestALiveGatewayHasALeaseAndALicence(t *testing.T) {
	inWorld(t, func(w *world) {
		w.observe()
		g, stop := w.gateway(g1)
		w.silent.Store(&[]job.Incarnation{g1}) // its beats are not heard
		time.Sleep(time.Minute)
		e, err := w.store.Get(w.ctx, "gateways/g-one")
		if err != nil {
			t.Fatal(err)
		}
		var got Entry
		if err := json.Unmarshal(e.Value, &got); err != nil || got != (Entry{1, "ws://here", "one"}) {
			t.Errorf("its entry is %s: %v", e.Value, err)
		}
		if !g.May() || w.isOver(g1) {
			t.Errorf("after a minute: may take hand-offs %v, over %v", g.May(), w.isOver(g1))
		}
		// The store answers nobody: everything goes on.
		w.store.SetDown(true)
		time.Sleep(time.Minute)
		if !g.May() || w.isOver(g1) {
			t.Errorf("without the store: may take hand-offs %v, over %v", g.May(), w.isOver(g1))
		}
		w.store.SetDown(false)
		time.Sleep(10 * time.Second)
		if !g.May() || w.isOver(g1) {
			t.Errorf("the store is back: may take hand-offs %v, over %v", g.May(), w.isOver(g1))
		}
		// Nor does the ledger answer: it takes nothing more, and is not over.
		w.ledger.on.Store(true)
		time.Sleep(lease.Term)
		if g.May() {
			t.Error("it takes hand-offs although it cannot ask")
		}
		w.ledger.on.Store(false)
		time.Sleep(2*lease.Term + time.Second)
		if !g.May() || w.isOver(g1) {
			t.Errorf("the ledger is back: may take hand-offs %v, over %v", g.May(), w.isOver(g1))
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestAGatewayThatDiesIsOver(t *testing.T) {
	inWorld(t, func(w *world) {
		w.observe()
		_, stop := w.gateway(g1)
		time.Sleep(time.Minute)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		died := time.Now()
		time.Sleep(time.Minute)
		if w.isOver(g1) {
			t.Fatal("it is over although nothing is open there")
		}
		w.silent.Store(&[]job.Incarnation{g1})
		asked := time.Now()
		for !w.isOver(g1) {
			if time.Since(asked) > time.Minute {
				t.Fatalf("%v after its death it is not over", time.Since(died))
			}
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Since(asked); took < lease.TTL {
			t.Errorf("it is over after %v", took)
		}
		// What was paused and goes on finds out.
		g, _ := w.gateway(g1)
		time.Sleep(2 * time.Second)
		if g.May() {
			t.Error("it takes hand-offs although it is over")
		}
		// The next start has a licence of its own, and the lease.
		next := job.Incarnation{Gateway: g1.Gateway, Start: 2}
		g, _ = w.gateway(next)
		w.silent.Store(&[]job.Incarnation{next})
		time.Sleep(time.Minute)
		if !g.May() || w.isOver(next) {
			t.Errorf("the next start: may take hand-offs %v, over %v", g.May(), w.isOver(next))
		}
	})
}

func TestWhoIsCalledOverEnds(t *testing.T) {
	inWorld(t, func(w *world) {
		g, _ := w.gateway(g1)
		time.Sleep(5 * time.Second)
		c := ledger.Claim{Kind: ledger.ClaimGateway, ID: g1.String(), Epoch: 1, Journal: job.Journal{Worker: "w", Incarnation: 1}}
		if _, err := w.ledger.Append(w.ctx, ledger.ClaimSubject(c.Thing()), 0, c.Bytes()); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- g.Run(w.ctx) }()
		if err := <-ended; !errors.Is(err, ErrOver) {
			t.Errorf("it ended with %v", err)
		}
		time.Sleep(lease.Term + lease.Ask)
		if g.May() {
			t.Error("it takes hand-offs although it is over")
		}
	})
}
