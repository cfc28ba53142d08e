// Package node runs a member: it owns the core of package apta, gives it the time and
// what happens, and does what it decides, on a transport and the coordination store.
//
// One goroutine owns the core. Others read its newest Snapshot without waiting for it,
// or ask it to look something up.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"crier/job"
	"crier/scheduler/apta"
	"crier/scheduler/apta/timing"
	"crier/scheduler/apta/wire"
)

// Config describes a node.
type Config struct {
	// Member is the core's configuration. Addr is the transport's. Required.
	Member apta.Config
	// Transport, Leases and App are what the node works with. Required.
	Transport Transport
	Leases    Leases
	App       Application
	// Logger takes changes of state and refusals. Default slog.Default().
	Logger *slog.Logger
}

// Errors of requests to other members.
var (
	// ErrNoRoute: there is no way to the member; nothing was sent.
	ErrNoRoute = errors.New("membership: no way to the member")
	// ErrNoAnswer: the request may have been executed.
	ErrNoAnswer = errors.New("membership: no answer from the member")
	// ErrEnded: the node does not run.
	ErrEnded = errors.New("membership: the node has ended")
)

const (
	eventQueue = 256
	// maxRunning bounds the requests of others that are executed at a time.
	maxRunning = 64
	// refusalsKept is how many refusals a snapshot shows.
	refusalsKept = 16
	retry        = 500 * time.Millisecond
)

// Node is a running member.
type Node struct {
	cfg    Config
	log    *slog.Logger
	timers timing.Timers
	boot   time.Time // an hour before the clock of the core began
	core   *apta.State

	events   chan any // apta.Event, or func(*apta.State)
	done     chan struct{}
	snapshot atomic.Pointer[Snapshot]
	changed  chan struct{} // of size 1: there is a newer snapshot
	silenced chan string   // of size 1: what an operator wants now, to be kept
	running  chan struct{} // a token for each request that is executed
	group    sync.WaitGroup
	asks     asks

	// Of the owner.
	alive    bool
	refusals []apta.Refused
	err      error
	left     bool
}

// asks are the requests that wait for an answer.
type asks struct {
	mu struct {
		sync.Mutex
		next uint64
		open map[uint64]chan<- apta.Answered
	}
}

// New makes a node; Run runs it.
func New(cfg Config) (*Node, error) {
	if cfg.Transport == nil || cfg.Leases == nil || cfg.App == nil {
		return nil, errors.New("membership node configuration: Transport, Leases or App is nil")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Member.Timers == (timing.Timers{}) {
		cfg.Member.Timers = timing.Default()
	}
	cfg.Member.Addr = cfg.Transport.Addr()
	n := &Node{cfg: cfg, log: cfg.Logger.With("member", cfg.Member.ID), timers: cfg.Member.Timers, boot: time.Now().Add(-time.Hour),
		events: make(chan any, eventQueue), done: make(chan struct{}), changed: make(chan struct{}, 1), silenced: make(chan string, 1), running: make(chan struct{}, maxRunning), alive: true}
	n.asks.mu.open = map[uint64]chan<- apta.Answered{}
	core, err := apta.New(cfg.Member, n.now())
	if err != nil {
		return nil, err
	}
	n.core = core
	n.publish()
	return n, nil
}

// now reads the clocks. The core's begins at an hour.
func (n *Node) now() timing.Now {
	t := time.Now()
	return timing.Now{Mono: timing.Instant(t.Sub(n.boot)), Wall: t}
}

// Run runs the member until ctx ends, which the others notice as a crash; until it has
// left after Stop, and then it returns nil; or until it is refused for good, because
// its id is another's, and then the error says whose. It is called once.
func (n *Node) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	n.spawn(func() {
		if err := n.cfg.Transport.Run(ctx, func(frame []byte) { n.receive(ctx, frame) }); err != nil && ctx.Err() == nil {
			n.log.Error("membership: the transport has ended", "error", err)
		}
	})
	n.spawn(func() { n.watch(ctx) })
	n.spawn(func() { n.notify(ctx) })
	n.spawn(func() { n.keepSilence(ctx) })
	err := n.loop(ctx)
	close(n.done)
	cancel()
	n.group.Wait()
	return err
}

func (n *Node) spawn(f func()) {
	n.group.Add(1)
	go func() {
		defer n.group.Done()
		f()
	}()
}

// loop is the owner of the core.
func (n *Node) loop(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var ev any = apta.Tick{}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case ev = <-n.events:
		case <-timer.C:
		}
		n.beat(ctx)
		switch ev := ev.(type) {
		case apta.Event:
			n.step(ctx, ev)
		case func(*apta.State):
			n.step(ctx, apta.Tick{}) // so that it sees the present
			ev(n.core)
		}
		n.publish()
		if n.err != nil || n.left {
			return n.err
		}
		timer.Reset(max(n.core.Next().Since(n.now().Mono), time.Millisecond))
	}
}

// beat tells the core when the application's loop stalls or goes on.
func (n *Node) beat(ctx context.Context) {
	if alive := n.cfg.App.Beat(); alive != n.alive {
		n.alive = alive
		if !alive {
			n.log.Warn("membership: the application does not go on: no hello is said and no lease renewed until it does")
		}
		n.step(ctx, apta.Pulse{Alive: alive})
	}
}

func (n *Node) step(ctx context.Context, ev apta.Event) {
	for _, e := range n.core.Step(n.now(), ev) {
		n.do(ctx, e)
	}
}

// post gives the owner an event or a question; it reports whether it was taken.
func (n *Node) post(ctx context.Context, ev any) bool {
	select {
	case n.events <- ev:
		return true
	case <-n.done:
	case <-ctx.Done():
	}
	return false
}

func (n *Node) receive(ctx context.Context, frame []byte) {
	m, err := wire.Decode(frame)
	if err != nil {
		n.log.Debug("membership: a message cannot be used", "error", err)
		return
	}
	n.post(ctx, apta.Received{Message: m})
}

// watch follows the leases in the store. Who went away between two watches is told by
// none of them: it is known by the next one, once that has seen all.
func (n *Node) watch(ctx context.Context) {
	there := map[string]bool{}
	for ctx.Err() == nil {
		met := map[string]bool{} // nil once all is seen
		err := n.cfg.Leases.Watch(ctx, func(l wire.Lease, alive bool) {
			if delete(there, l.ID); alive {
				there[l.ID] = true
			}
			if met != nil {
				met[l.ID] = true
			}
			n.post(ctx, apta.LeaseSeen{Lease: l, Alive: alive})
		}, func() {
			for id := range there {
				if met != nil && !met[id] {
					delete(there, id)
					n.post(ctx, apta.LeaseSeen{Lease: wire.Lease{Identity: wire.Identity{ID: id}}})
				}
			}
			met = nil
			n.post(ctx, apta.StoreAnswered{})
		})
		if ctx.Err() == nil {
			n.log.Warn("membership: watching the members' leases", "error", err)
			pause(ctx, retry)
		}
	}
}

// notify tells the application of the newest snapshot.
func (n *Node) notify(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.changed:
			n.cfg.App.Changed(n.snapshot.Load())
		}
	}
}

// keepSilence has the application keep the newest wish of an operator, the last one also
// when the node ends.
func (n *Node) keepSilence(ctx context.Context) {
	for {
		select {
		case reason := <-n.silenced:
			n.cfg.App.Silenced(reason)
		case <-ctx.Done():
			select {
			case reason := <-n.silenced:
				n.cfg.App.Silenced(reason)
			default:
			}
			return
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// refusal is the error of a member that is refused for good.
func refusal(r apta.Refused) error {
	return job.Conflict(fmt.Sprintf("this member is not taken (%s): %s; give it another id, or stop the other process", r.Code, r.Text))
}
