package node_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"crier/job"
	"crier/scheduler/apta"
	"crier/scheduler/apta/hint"
	"crier/scheduler/apta/link"
	"crier/scheduler/apta/node"
	"crier/scheduler/apta/timing"
	"crier/scheduler/apta/transport"
	"crier/scheduler/apta/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// application is what a member's owner does, in a test.
type application struct {
	hangs       atomic.Bool
	incarnation atomic.Uint32
	rejoined    atomic.Int64
	changes     atomic.Int64
	slow        atomic.Int64 // ns that a request takes
	disk        atomic.Int64 // ns that keeping something takes
	kept        atomic.Value // what an operator wants: a string
}

func (a *application) Silenced(reason string) {
	time.Sleep(time.Duration(a.disk.Load()))
	a.kept.Store(reason)
}
func (a *application) Beat() bool               { return !a.hangs.Load() }
func (a *application) Changed(s *node.Snapshot) { a.changes.Add(1) }
func (a *application) Rejoin(context.Context) (uint32, error) {
	if a.rejoined.Add(1) == 1 {
		return 0, errors.New("the ledger is slow")
	}
	return a.incarnation.Load(), nil
}

func (a *application) Execute(ctx context.Context, from, kind string, body []byte) ([]byte, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(time.Duration(a.slow.Load())):
	}
	if kind == "bad" {
		return nil, errors.New("no such thing")
	}
	return append([]byte(from+" "+kind+" "), body...), nil
}

// member is a node that runs.
type member struct {
	*node.Node
	app  *application
	kill context.CancelFunc
	done chan error
}

// city is members that can reach each other.
type city struct {
	t      *testing.T
	leases *node.Memory
	over   func(node.Leases) node.Leases // what the members see of them; nil: all
	listen func(id string) node.Transport
	timers timing.Timers
	seeds  []string
	nonce  uint64
}

func (c *city) start(id string, change ...func(*apta.Config)) *member {
	c.t.Helper()
	c.nonce++
	tr := c.listen(id)
	cfg := apta.Config{Cluster: "test", ID: id, Incarnation: 1, Nonce: c.nonce, Home: c.nonce, Seeds: slices.Clone(c.seeds), Timers: c.timers,
		Weights: link.Weights{link.Worker: 100, link.Scheduler: 100}, Seed: c.nonce}
	for _, f := range change {
		f(&cfg)
	}
	m := &member{app: &application{}, done: make(chan error, 1)}
	m.app.incarnation.Store(cfg.Incarnation)
	var leases node.Leases = c.leases
	if c.over != nil {
		leases = c.over(leases)
	}
	n, err := node.New(node.Config{Member: cfg, Transport: tr, Leases: leases, App: m.app, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		c.t.Fatal(err)
	}
	m.Node = n
	ctx, kill := context.WithCancel(context.Background())
	m.kill = kill
	go func() { m.done <- n.Run(ctx) }()
	n.Tell(apta.Ledger{Answers: true})
	n.Tell(apta.SelfCheck{OK: true})
	c.seeds = append(c.seeds, tr.Addr())
	return m
}

func end(t *testing.T, ms ...*member) {
	t.Helper()
	for _, m := range ms {
		m.kill()
		if err := <-m.done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run gives %v after its context was cancelled", err)
		}
	}
}

func within(t *testing.T, d time.Duration, what string, so func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(d); !so(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within %s: %s", d, what)
		}
	}
	return time.Since(began)
}

func settled(ms ...*member) bool {
	for _, m := range ms {
		if s := m.Snapshot(); !s.MayTake() || len(s.Takers(link.Worker)) != len(ms) || s.Hash != ms[0].Snapshot().Hash {
			return false
		}
	}
	return true
}

// inMemory runs a test with members in memory, in a bubble.
func inMemory(t *testing.T, f func(t *testing.T, c *city, n *transport.Network)) {
	synctest.Test(t, func(t *testing.T) {
		n := transport.NewNetwork(5 * time.Millisecond)
		f(t, &city{t: t, leases: node.NewMemory(), timers: timing.Default(), listen: func(id string) node.Transport {
			for free := id; ; free += "x" {
				if e, err := n.Listen(free); err == nil {
					return e
				}
			}
		}}, n)
	})
}

// TestManyNodes: they find each other, agree on the tables, notice a crash, and take
// its successor.
func TestManyNodes(t *testing.T) {
	inMemory(t, func(t *testing.T, c *city, _ *transport.Network) {
		var ms []*member
		for i := range 24 {
			ms = append(ms, c.start(fmt.Sprintf("m%02d", i)))
		}
		t.Logf("24 members work after %s", within(t, 20*time.Second, "all work", func() bool { return settled(ms...) }))
		for shard := range uint16(hint.Shards) {
			first := 0
			for _, m := range ms {
				if m.Snapshot().Choice(node.Range, shard) == 0 {
					first++
				}
			}
			if first != 1 {
				t.Fatalf("shard %d is the first choice of %d members", shard, first)
			}
		}
		end(t, ms[7])
		rest := slices.Delete(slices.Clone(ms), 7, 8)
		took := within(t, 10*time.Second, "the crash is known", func() bool { return settled(rest...) })
		if t.Logf("a crash is known after %s", took); took > 2500*time.Millisecond {
			t.Errorf("a crash is known after %s", took)
		}
		took = within(t, 10*time.Second, "it is lapsed", func() bool {
			lapsed, err := ms[3].Lapsed(context.Background(), "m07", 1)
			return err == nil && lapsed
		})
		t.Logf("and said to be lapsed %s later", took)
		again := c.start("m07", func(cfg *apta.Config) { cfg.Incarnation = 2 })
		within(t, 20*time.Second, "its successor works", func() bool { return settled(append(rest, again)...) })
		if ms[0].app.changes.Load() == 0 {
			t.Error("the application is told of no change")
		}
		end(t, append(rest, again)...)
	})
}

// TestStopLeaves: who stops hands over, leaves at once, and Run gives nil.
func TestStopLeaves(t *testing.T) {
	inMemory(t, func(t *testing.T, c *city, _ *transport.Network) {
		a, b := c.start("a"), c.start("b")
		within(t, 20*time.Second, "both work", func() bool { return settled(a, b) })
		b.Tell(apta.Owned{Claims: 1})
		b.Stop()
		within(t, time.Second, "b is silent", func() bool { return b.Snapshot().State == link.Silence && len(a.Snapshot().Takers(link.Worker)) == 1 })
		b.Tell(apta.Owned{})
		if err := <-b.done; err != nil {
			t.Errorf("Run gives %v after Stop", err)
		}
		within(t, time.Second, "a knows", func() bool { return len(a.Snapshot().Members) == 1 })
		if _, ok, err := c.leases.Renew(context.Background(), wire.Lease{Identity: wire.Identity{ID: "b", Nonce: 99}}, time.Second); !ok || err != nil {
			t.Errorf("the lease of b is not released (%v)", err)
		}
		if _, err := b.Ask(context.Background(), "a", "x", nil); !errors.Is(err, node.ErrEnded) {
			t.Errorf("a node that has ended answers %v", err)
		}
		end(t, a)
	})
}

// TestRefusedForGood: Run ends with an error that says why.
func TestRefusedForGood(t *testing.T) {
	inMemory(t, func(t *testing.T, c *city, _ *transport.Network) {
		a, b := c.start("a"), c.start("b")
		within(t, 20*time.Second, "both work", func() bool { return settled(a, b) })
		again := c.start("b")
		err := <-again.done
		if job.CodeOf(err) != job.CodeConflict || !strings.Contains(err.Error(), "b") {
			t.Errorf("a duplicate ends with %v", err)
		}
		stranger := c.start("s", func(cfg *apta.Config) { cfg.Cluster = "another" })
		within(t, 5*time.Second, "the refusal is shown", func() bool {
			return slices.ContainsFunc(a.Snapshot().Refusals, func(r apta.Refused) bool { return r.Code == wire.RefusedCluster && r.Peer == "s" })
		})
		end(t, a, b, stranger)
	})
}

// TestAsk: requests to others, over a relay, and what goes wrong.
func TestAsk(t *testing.T) {
	inMemory(t, func(t *testing.T, c *city, n *transport.Network) {
		a, b, m := c.start("a"), c.start("b"), c.start("m")
		within(t, 20*time.Second, "all work", func() bool { return settled(a, b, m) })
		n.Cut("a", "b", true)
		n.Cut("b", "a", true)
		within(t, 5*time.Second, "the link is gone", func() bool { return len(a.Snapshot().Links) == 1 })
		ctx := context.Background()
		if got, err := a.Ask(ctx, "b", "k", []byte("v")); err != nil || string(got) != "a k v" {
			t.Errorf("by a relay: %q, %v", got, err)
		}
		if got, err := a.Ask(ctx, "", "k", nil); err != nil || string(got) != "a k " {
			t.Errorf("any neighbour: %q, %v", got, err)
		}
		if _, err := a.Ask(ctx, "b", "bad", nil); err == nil || !strings.Contains(err.Error(), "no such thing") {
			t.Errorf("an error of the other one: %v", err)
		}
		if _, err := a.Ask(ctx, "z", "k", nil); !errors.Is(err, node.ErrNoRoute) {
			t.Errorf("nobody: %v", err)
		}
		b.app.slow.Store(int64(time.Minute))
		if _, err := a.Ask(ctx, "b", "k", nil); !errors.Is(err, node.ErrNoAnswer) && (err == nil || !strings.Contains(err.Error(), "deadline")) {
			t.Errorf("a slow one: %v", err)
		}
		end(t, a, b, m)
	})
}

// TestHanging: a member whose application hangs is gone for the others.
func TestHanging(t *testing.T) {
	inMemory(t, func(t *testing.T, c *city, _ *transport.Network) {
		a, b := c.start("a"), c.start("b")
		within(t, 20*time.Second, "both work", func() bool { return settled(a, b) })
		b.app.hangs.Store(true)
		within(t, 3*time.Second, "a misses b", func() bool { return len(a.Snapshot().Members) == 1 })
		within(t, 6*time.Second, "b takes nothing", func() bool { return !b.Snapshot().MayTake() })
		b.app.hangs.Store(false)
		within(t, 20*time.Second, "both work again", func() bool { return settled(a, b) })
		end(t, a, b)
	})
}

// TestSlowDisk: a member that keeps for long what an operator wants stays there, and what
// was wanted last is kept, also by one that ends.
func TestSlowDisk(t *testing.T) {
	inMemory(t, func(t *testing.T, c *city, _ *transport.Network) {
		a, b := c.start("a"), c.start("b")
		within(t, 20*time.Second, "both work", func() bool { return settled(a, b) })
		b.app.disk.Store(int64(time.Minute))
		b.Tell(apta.Operate{Action: apta.GoSilent, Reason: "one"})
		for range 100 {
			time.Sleep(100 * time.Millisecond)
			if len(a.Snapshot().Members) != 2 {
				t.Fatal("a misses b, whose disk is slow")
			}
		}
		b.Tell(apta.Operate{Action: apta.Resume})
		b.Tell(apta.Operate{Action: apta.GoSilent, Reason: "two"})
		time.Sleep(time.Second)
		end(t, a, b)
		if got := b.app.kept.Load(); got != "an operator asked for it: two" {
			t.Errorf("kept is %v", got)
		}
	})
}

// broken is leases of which each watch ends at once as long as it is so.
type broken struct {
	node.Leases
	is *atomic.Bool
}

func (b broken) Watch(ctx context.Context, seen func(wire.Lease, bool), sawAll func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		for ctx.Err() == nil && !b.is.Load() {
			time.Sleep(100 * time.Millisecond)
		}
		cancel()
	}()
	return b.Leases.Watch(ctx, seen, sawAll)
}

// TestWatchBeginsAnew: who dies while nobody's watch works is lapsed when it does again.
func TestWatchBeginsAnew(t *testing.T) {
	inMemory(t, func(t *testing.T, c *city, _ *transport.Network) {
		var is atomic.Bool
		c.over = func(l node.Leases) node.Leases { return broken{l, &is} }
		a, b := c.start("a"), c.start("b")
		within(t, 20*time.Second, "both work", func() bool { return settled(a, b) })
		is.Store(true)
		time.Sleep(time.Second)
		end(t, b)
		time.Sleep(10 * time.Second)
		is.Store(false)
		within(t, 15*time.Second, "b is lapsed", func() bool {
			lapsed, err := a.Lapsed(context.Background(), "b", 1)
			return err == nil && lapsed
		})
		end(t, a)
		time.Sleep(time.Second)
	})
}

// TestCutOff: who had neither neighbour nor ledger rejoins by way of the application.
func TestCutOff(t *testing.T) {
	inMemory(t, func(t *testing.T, c *city, n *transport.Network) {
		a, b := c.start("a"), c.start("b")
		within(t, 20*time.Second, "both work", func() bool { return settled(a, b) })
		n.Cut("a", "b", true)
		b.Tell(apta.Ledger{Answers: false})
		within(t, 6*time.Second, "b is OFFLINE", func() bool { return b.Snapshot().State == link.Offline })
		b.app.incarnation.Store(2)
		n.Cut("a", "b", false)
		b.Tell(apta.Ledger{Answers: true})
		within(t, 40*time.Second, "both work again", func() bool { return settled(a, b) })
		if got := b.Snapshot().Incarnation; got != 2 || b.app.rejoined.Load() != 2 {
			t.Errorf("b has incarnation %d after %d tries, want 2 after 2", got, b.app.rejoined.Load())
		}
		end(t, a, b)
	})
}

// TestStoreDown: the members freeze, and a snapshot of before knows by the clock.
func TestStoreDown(t *testing.T) {
	inMemory(t, func(t *testing.T, c *city, _ *transport.Network) {
		a, b := c.start("a"), c.start("b")
		within(t, 20*time.Second, "both work", func() bool { return settled(a, b) })
		before := b.Snapshot()
		c.leases.SetDown(true)
		within(t, 5*time.Second, "both are frozen", func() bool { return a.Snapshot().Frozen && b.Snapshot().Frozen })
		if before.MayTake() {
			t.Error("by a snapshot of before the fence it may take work after it")
		}
		c.leases.SetDown(false)
		within(t, 3*time.Second, "both work again", func() bool { return settled(a, b) })
		end(t, a, b)
	})
}

// TestOverTCP: real sockets and real time, with the fast timers.
func TestOverTCP(t *testing.T) {
	c := &city{t: t, leases: node.NewMemory(), timers: timing.Fast(), listen: func(string) node.Transport {
		tr, err := transport.ListenTCP(transport.TCPConfig{Listen: "127.0.0.1:0"})
		if err != nil {
			t.Fatal(err)
		}
		return tr
	}}
	var ms []*member
	for i := range 5 {
		ms = append(ms, c.start(fmt.Sprintf("m%d", i)))
	}
	t.Logf("5 members work after %s", within(t, 30*time.Second, "all work", func() bool { return settled(ms...) }))
	if got, err := ms[0].Ask(context.Background(), "m3", "k", []byte("v")); err != nil || string(got) != "m0 k v" {
		t.Errorf("a request: %q, %v", got, err)
	}
	end(t, ms[4])
	t.Logf("a crash is known after %s", within(t, 20*time.Second, "the crash is known", func() bool { return settled(ms[:4]...) }))
	end(t, ms[:4]...)
}
