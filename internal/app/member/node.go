package member

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"crier/job"
	"crier/scheduler/apta"
	"crier/scheduler/apta/link"
	"crier/scheduler/apta/timing"
	"crier/scheduler/apta/wire"
)

// ErrRejoin is wrapped by Run's error when the member has to begin again, with another
// start number: others may have taken it for dead (protocol rule 25).
var ErrRejoin = errors.New("the member begins again")

// Config is what a Node is made of.
type Config struct {
	Core   apta.Config
	Listen net.Listener // for other members; closed by Run
	TLS    *tls.Config  // nil: none
	Leases *Leases
	// Ledger reports whether the ledger answers.
	Ledger func() bool
	// Alive reports whether the process's own loops go on; who is stalled says no hello.
	Alive func() bool
	// Fit reports whether the process is fit to work.
	Fit func() bool
	// Owned counts the claims that the process holds.
	Owned func() int
	Log   *slog.Logger
}

// Node is this process as a member: the shell of apta.State. One goroutine owns the
// state; questions are asked of snapshots.
type Node struct {
	cfg     Config
	began   time.Time
	events  chan apta.Event
	asks    chan func(*apta.State)
	done    chan struct{}
	working chan struct{} // closed when it has been WORKING once
	left    chan struct{} // closed when its record is withdrawn
	snap    atomic.Pointer[Now]
	lapsed  lapses
	leases  struct {
		sync.Mutex
		live map[string]wire.Lease // of others, as the watcher saw them
	}
}

// Now is what the member knows at a moment. It does not change.
type Now struct {
	Status apta.Status
	View   *link.View
	Ring   *Ring
}

const (
	boot      = timing.Instant(time.Hour) // of the monotonic clock
	lookEvery = 250 * time.Millisecond    // at what the process itself is like
	lapsedFor = 100 * time.Millisecond    // an answer about a lapse is good
)

// New makes a node; Run runs it.
func New(cfg Config) *Node {
	n := &Node{cfg: cfg, began: time.Now(), events: make(chan apta.Event, 1024), asks: make(chan func(*apta.State)), done: make(chan struct{}),
		working: make(chan struct{}), left: make(chan struct{})}
	n.lapsed.known = map[lapse]lapseAnswer{}
	n.leases.live = map[string]wire.Lease{}
	n.snap.Store(&Now{Status: apta.Status{ID: cfg.Core.ID, State: link.Joining}, View: link.NewView(cfg.Core.ID, nil), Ring: NewRing(Snapshot{
		Self: cfg.Core.ID, Frozen: true, View: link.NewView(cfg.Core.ID, nil), Lapsed: n.isLapsed})})
	return n
}

// Working is closed when the member has become WORKING for the first time.
func (n *Node) Working() <-chan struct{} { return n.working }

// Leave tells the others that this member goes, once it holds nothing; it waits for that
// no longer than ctx lasts. Run goes on.
func (n *Node) Leave(ctx context.Context) {
	n.post(apta.Operate{Action: apta.GoSilent})
	n.post(apta.Stop{})
	select {
	case <-n.left:
	case <-n.done:
	case <-ctx.Done():
	}
}

// Now gives the latest snapshot.
func (n *Node) Now() *Now { return n.snap.Load() }

// Address is where other members reach this one.
func (n *Node) Address() string { return n.cfg.Core.Addr }

// Time is a moment of the state's clock on the wall's.
func (n *Node) Time(i apta.Instant) time.Time {
	if i == 0 {
		return n.began.UTC()
	}
	return n.began.Add(i.Since(boot)).UTC()
}

// Leased reports whether this member's lease is held, by its own clock.
func (n *Node) Leased() bool { return n.clock().Mono < n.snap.Load().Status.Fence }

// Leases lists the leases of others that were live when they were seen last, by id.
func (n *Node) Leases() []wire.Lease {
	n.leases.Lock()
	defer n.leases.Unlock()
	return slices.SortedFunc(maps.Values(n.leases.live), func(a, b wire.Lease) int { return cmp.Compare(a.ID, b.ID) })
}

// Lapsed reports whether an incarnation of a member is over, as far as is known now.
func (n *Node) Lapsed(id string, incarnation uint32) bool { return n.isLapsed(id, incarnation) }

// Operate asks for an operator's action on a member; "" is this one.
func (n *Node) Operate(target string, action apta.Action) {
	n.post(apta.Operate{Target: target, Action: action})
}

func (n *Node) clock() apta.Now {
	return apta.Now{Mono: boot.Add(time.Since(n.began)), Wall: time.Now()}
}

func (n *Node) post(ev apta.Event) {
	select {
	case n.events <- ev:
	case <-n.done:
	}
}

// Run is a member until ctx ends; then it returns nil. Any other end is an error: the
// process must not go on as it is.
func (n *Node) Run(ctx context.Context) error {
	defer close(n.done)
	state, err := apta.New(n.cfg.Core, n.clock())
	if err != nil {
		return fmt.Errorf("starting membership: %w", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	l := &loop{n: n, ctx: ctx, state: state, net: newTransport(n.cfg.Listen, n.cfg.TLS, n.cfg.Log, func(m *wire.Message) { n.post(apta.Received{Message: m}) })}
	g.Go(func() error { return l.net.run(ctx) })
	g.Go(func() error { return n.watchLeases(ctx) })
	g.Go(func() error { return n.lookAtSelf(ctx) })
	g.Go(func() error { return l.run() })
	err = g.Wait()
	// Others need not wait for the lease to lapse. If something of this process went on,
	// its journal is sealed before anything is taken.
	l.release(apta.Release{Lease: l.lease})
	return err
}

// watchLeases tells the core what the coordination store has, again and again.
func (n *Node) watchLeases(ctx context.Context) error {
	for ctx.Err() == nil {
		err := n.cfg.Leases.Watch(ctx, func(l wire.Lease, alive bool) {
			if l.ID != n.cfg.Core.ID {
				n.note(l, alive)
				n.post(apta.LeaseSeen{Lease: l, Alive: alive})
			}
		}, func() { n.post(apta.StoreAnswered{}) })
		if ctx.Err() != nil {
			break
		}
		n.cfg.Log.Warn("watching the members' leases; it is tried again", "error", err)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
	return nil
}

func (n *Node) note(l wire.Lease, alive bool) {
	n.leases.Lock()
	defer n.leases.Unlock()
	if alive {
		n.leases.live[l.ID] = l
	} else {
		delete(n.leases.live, l.ID)
	}
}

// lookAtSelf tells the core what the process itself is like.
func (n *Node) lookAtSelf(ctx context.Context) error {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for {
		n.post(apta.Pulse{Alive: n.cfg.Alive()})
		n.post(apta.Ledger{Answers: n.cfg.Ledger()})
		n.post(apta.SelfCheck{OK: n.cfg.Fit()})
		n.post(apta.Owned{Claims: n.cfg.Owned()})
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// loop owns the state.
type loop struct {
	n     *Node
	ctx   context.Context
	state *apta.State
	net   *transport
	view  *link.View
	froze bool
	lease wire.Lease // the own one, as it was asked for last
	err   error
}

func (l *loop) run() error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for l.err == nil {
		now := l.n.clock()
		timer.Reset(max(0, l.state.Next().Since(now.Mono)))
		var ev apta.Event = apta.Tick{}
		select {
		case <-l.ctx.Done():
			return nil
		case ev = <-l.n.events:
		case <-timer.C:
		case ask := <-l.n.asks:
			ask(l.state)
			continue
		}
		l.do(l.state.Step(l.n.clock(), ev))
		l.publish()
	}
	return l.err
}

// publish makes a snapshot of what changed.
func (l *loop) publish() {
	st, view := l.state.Status(), l.state.View()
	last := l.n.snap.Load()
	ring := last.Ring
	if l.view == nil || view.Hash != l.view.Hash || st.Frozen != l.froze {
		ring = NewRing(Snapshot{Self: st.ID, Frozen: st.Frozen, View: view, Lapsed: l.n.isLapsed})
	}
	l.view, l.froze = view, st.Frozen
	l.n.snap.Store(&Now{Status: st, View: view, Ring: ring})
}

func (l *loop) do(effects []apta.Effect) {
	for _, e := range effects {
		switch e := e.(type) {
		case apta.Send:
			l.net.send(l.ctx, e.Addr, e.Message)
		case apta.Renew:
			if e.For == (apta.Call{}) {
				l.lease = e.Lease
			}
			go l.renew(e)
		case apta.Release:
			go l.release(e)
		case apta.Execute:
			l.n.cfg.Log.Debug("a request of another member that is not understood", "member", e.Call.Source, "kind", e.Call.Kind)
			l.do(l.state.Step(l.n.clock(), apta.Executed{For: e.Call, Err: "this member does not know such requests"}))
		case apta.Changed:
			l.n.cfg.Log.Info("member", "state", e.To.String(), "was", e.From.String(), "why", e.Reason)
			if e.To == link.Working {
				select {
				case <-l.n.working:
				default:
					close(l.n.working)
				}
			}
		case apta.Left:
			close(l.n.left)
		case apta.Refused:
			l.refused(e)
		case apta.Rejoin:
			l.err = fmt.Errorf("%w: it reached nobody, and the ledger did not answer", ErrRejoin)
		}
	}
}

func (l *loop) renew(e apta.Renew) {
	ctx, cancel := context.WithTimeout(l.ctx, l.n.cfg.Core.Timers.Answer)
	defer cancel()
	outcome, holder, err := l.n.cfg.Leases.Renew(ctx, e.Lease, e.TTL)
	if err != nil && l.ctx.Err() == nil {
		l.n.cfg.Log.Debug("renewing a lease", "member", e.Lease.ID, "error", err)
	}
	l.n.post(apta.LeaseAnswer{Sent: e.Sent, For: e.For, Outcome: outcome, Holder: holder})
}

func (l *loop) release(e apta.Release) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.ctx), l.n.cfg.Core.Timers.Answer)
	defer cancel()
	if err := l.n.cfg.Leases.Release(ctx, e.Lease); err != nil {
		l.n.cfg.Log.Debug("releasing the lease", "error", err)
	}
}

// fields names the setting at fault when a member is refused.
var fields = map[wire.RefuseCode]string{wire.RefusedCluster: "cluster.id", wire.RefusedProtocol: "version", wire.RefusedClock: "clock", wire.RefusedDuplicate: "name"}

func (l *loop) refused(e apta.Refused) {
	switch {
	case e.Code == wire.RefusedUsed:
		l.err = fmt.Errorf("%w: %s", ErrRejoin, e.Text)
	case e.Final:
		l.err = job.Invalid(fields[e.Code], fmt.Sprintf("%s: %s", fields[e.Code], e.Text), nil)
	default:
		l.n.cfg.Log.Warn("a member is refused", "member", e.Peer, "address", e.Addr, "why", e.Text)
	}
}

// lapses remembers for a moment which incarnations are over: the question comes again and
// again for each of many claims.
type lapses struct {
	sync.Mutex
	known map[lapse]lapseAnswer
}

type lapse struct {
	id          string
	incarnation uint32
}

type lapseAnswer struct {
	lapsed bool
	at     time.Time
}

// isLapsed asks the core.
func (n *Node) isLapsed(id string, incarnation uint32) bool {
	k := lapse{id, incarnation}
	n.lapsed.Lock()
	defer n.lapsed.Unlock()
	if a, ok := n.lapsed.known[k]; ok && time.Since(a.at) < lapsedFor {
		return a.lapsed
	}
	answer := make(chan bool, 1)
	select {
	case n.asks <- func(s *apta.State) { answer <- s.Lapsed(id, incarnation) }:
	case <-n.done:
		return false
	}
	a := lapseAnswer{<-answer, time.Now()}
	if len(n.lapsed.known) > 4096 {
		clear(n.lapsed.known)
	}
	n.lapsed.known[k] = a
	return a.lapsed
}
