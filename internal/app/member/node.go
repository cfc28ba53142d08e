package member

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"crier/job"
	"crier/scheduler/apta"
	"crier/scheduler/apta/link"
	"crier/scheduler/apta/node"
	"crier/scheduler/apta/transport"
	"crier/scheduler/apta/wire"
)

// ErrRejoin is wrapped by Run's error when the member has to begin again, with another
// start number: others may have taken it for dead (protocol rule 25).
var ErrRejoin = errors.New("the member begins again: it was cut off, and others may have taken what it held")

// Config is what a Node is made of.
type Config struct {
	Core      apta.Config // Addr is set here
	Listen    string      // host:port for other members
	Advertise string      // host:port that they are told; default: where it listens
	TLS       *tls.Config // nil: none
	Leases    *Leases
	// Ledger reports whether the ledger answers.
	Ledger func() bool
	// Alive reports whether the process's own loops go on; who is stalled says no hello.
	Alive func() bool
	// Ready gives, when the member runs, what is closed when the process can do the work that
	// others leave to it: until then it is ONLINE, and nobody does. Default: it can.
	Ready func() <-chan struct{}
	// Owned counts the claims that the process holds.
	Owned func() int
	// Silenced keeps what an operator wants of the member for its next start, whose
	// Core.Silence it is.
	Silenced func(reason string) error
	Log      *slog.Logger
}

// Node is this process as a member.
type Node struct {
	cfg     Config
	addr    string
	tcp     *transport.TCP
	shell   *node.Node
	since   atomic.Pointer[since]
	ring    atomic.Pointer[Ring]
	working chan struct{} // closed when it has been WORKING, or SILENCE, once
	rejoin  chan struct{} // closed when it has to begin again
	left    chan struct{} // closed when it is no member any more
	lapsed  lapses
	leases  struct {
		sync.Mutex
		live map[string]wire.Lease // of others, as the watcher saw them
	}
}

// since is when the member's state became what it is, by the wall's clock.
type since struct {
	state link.State
	at    time.Time
}

const (
	lookEvery = 250 * time.Millisecond // at what the process itself is like
	lapsedFor = 100 * time.Millisecond // an answer about a lapse is good
	askWithin = time.Second            // for an answer of the owner of the core
)

// New makes a node that listens; Run runs it, and Close releases it.
func New(cfg Config) (*Node, error) {
	n := &Node{cfg: cfg, working: make(chan struct{}), rejoin: make(chan struct{}), left: make(chan struct{})}
	tcp, err := transport.ListenTCP(transport.TCPConfig{Listen: cfg.Listen, Advertise: cfg.Advertise, TLS: cfg.TLS, Logger: cfg.Log})
	if err != nil {
		return nil, job.Invalid("cluster.listen", "cluster.listen: listening for other members; give another address, or stop who has it", err)
	}
	n.addr, n.tcp, cfg.Core.Addr = tcp.Addr(), tcp, tcp.Addr()
	n.lapsed.known = map[lapse]lapseAnswer{}
	n.leases.live = map[string]wire.Lease{}
	n.since.Store(&since{link.Joining, time.Now().UTC()})
	n.shell, err = node.New(node.Config{Member: cfg.Core, Transport: tcp, Leases: noted{cfg.Leases, n}, App: application{n}, Logger: cfg.Log})
	if err != nil {
		tcp.Close()
		return nil, err
	}
	n.ring.Store(NewRing(cfg.Core.ID, link.NewView(cfg.Core.ID, nil)))
	return n, nil
}

// Close releases the address, also if the node was never run. It is idempotent.
func (n *Node) Close() { n.tcp.Close() }

// Run is a member until ctx ends, and gives nil then. Any other end is an error: the
// process must not go on as it is.
func (n *Node) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(n.left)
		return n.shell.Run(ctx)
	})
	g.Go(func() error { return n.lookAtSelf(ctx) })
	g.Go(func() error {
		select {
		case <-n.rejoin:
			return ErrRejoin
		case <-ctx.Done():
			return nil
		}
	})
	err := g.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// lookAtSelf tells the core what the process itself is like.
func (n *Node) lookAtSelf(ctx context.Context) error {
	able := make(chan struct{})
	close(able)
	var ready <-chan struct{} = able
	if n.cfg.Ready != nil {
		ready = n.cfg.Ready()
	}
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for {
		n.shell.Tell(apta.Ledger{Answers: n.cfg.Ledger()})
		n.shell.Tell(apta.Owned{Claims: n.cfg.Owned()})
		select {
		case <-ctx.Done():
			return nil
		case <-ready:
			n.shell.Tell(apta.SelfCheck{OK: true})
			ready = nil
		case <-t.C:
		}
	}
}

// Leave gives up what the member holds and tells the others that it goes; it waits for
// that no longer than ctx lasts.
func (n *Node) Leave(ctx context.Context) {
	n.shell.Tell(apta.Owned{Claims: n.cfg.Owned()}) // what was told last may be old
	n.shell.Stop()
	select {
	case <-n.left:
	case <-ctx.Done():
	}
}

// Working is closed when the member has become WORKING for the first time, or SILENCE
// because an operator wants it so.
func (n *Node) Working() <-chan struct{} { return n.working }

// Snapshot is the newest view and state.
func (n *Node) Snapshot() *node.Snapshot { return n.shell.Snapshot() }

// Ring is the newest ring; the same as long as who works does not change.
func (n *Node) Ring() *Ring { return n.ring.Load() }

// Since is when the member's state became what it is.
func (n *Node) Since() time.Time { return n.since.Load().at }

// Address is where other members reach this one.
func (n *Node) Address() string { return n.addr }

// Leases lists the leases of others that were live when they were seen last, by id.
func (n *Node) Leases() []wire.Lease {
	n.leases.Lock()
	defer n.leases.Unlock()
	return slices.SortedFunc(maps.Values(n.leases.live), func(a, b wire.Lease) int { return cmp.Compare(a.ID, b.ID) })
}

// Operate asks for an operator's action on a member.
func (n *Node) Operate(target string, action apta.Action, reason string) {
	n.shell.Tell(apta.Operate{Target: target, Action: action, Reason: reason})
}

// application is what the member's shell asks of the process.
type application struct{ n *Node }

// Beat implements node.Application.
func (a application) Beat() bool { return a.n.cfg.Alive() }

// Silenced implements node.Application.
func (a application) Silenced(reason string) {
	if err := a.n.cfg.Silenced(reason); err != nil {
		a.n.cfg.Log.Error("keeping what an operator asked for; a new start will not know it", "error", err)
	}
}

// Changed implements node.Application.
func (a application) Changed(s *node.Snapshot) {
	n := a.n
	if last := n.since.Load(); last.state != s.State {
		n.since.Store(&since{s.State, time.Now().UTC()})
	}
	if n.ring.Load().hash != s.Hash {
		r := NewRing(s.ID, s.View)
		r.mayTake, r.lapsed = func() bool { return n.shell.Snapshot().MayTake() }, n.Lapsed
		n.ring.Store(r)
	}
	if s.State == link.Working || s.State == link.Silence {
		select {
		case <-n.working:
		default:
			close(n.working) // Changed is called by one goroutine
		}
	}
}

// Rejoin implements node.Application: the process ends its parts and begins again.
func (a application) Rejoin(ctx context.Context) (uint32, error) {
	select {
	case <-a.n.rejoin:
	default:
		close(a.n.rejoin)
	}
	<-ctx.Done()
	return 0, ctx.Err()
}

// Execute implements node.Application.
func (application) Execute(context.Context, string, string, []byte) ([]byte, error) {
	return nil, errors.New("this member does not know such requests")
}

// noted is leases of which the process remembers those that are live, for operators.
type noted struct {
	*Leases
	n *Node
}

// Watch implements node.Leases. It begins with nobody: who went away since the last one is
// not told.
func (l noted) Watch(ctx context.Context, seen func(wire.Lease, bool), sawAll func()) error {
	l.n.leases.Lock()
	clear(l.n.leases.live)
	l.n.leases.Unlock()
	return l.Leases.Watch(ctx, func(x wire.Lease, alive bool) {
		if x.ID != l.n.cfg.Core.ID {
			l.n.leases.Lock()
			if alive {
				l.n.leases.live[x.ID] = x
			} else {
				delete(l.n.leases.live, x.ID)
			}
			l.n.leases.Unlock()
		}
		seen(x, alive)
	}, sawAll)
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

// maxLapses bounds what is remembered.
const maxLapses = 4096

// Recorded reports whether a member is recorded: who has left is not, who has died is for
// some minutes. Without an answer it is not known.
func (n *Node) Recorded(id string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), askWithin)
	defer cancel()
	recorded, err := n.shell.Recorded(ctx, id)
	return recorded && err == nil
}

// Lapsed reports whether an incarnation of a member is over, as far as is known now.
func (n *Node) Lapsed(id string, incarnation uint32) bool {
	k := lapse{id, incarnation}
	n.lapsed.Lock()
	defer n.lapsed.Unlock()
	if a, ok := n.lapsed.known[k]; ok && time.Since(a.at) < lapsedFor {
		return a.lapsed
	}
	ctx, cancel := context.WithTimeout(context.Background(), askWithin)
	defer cancel()
	lapsed, err := n.shell.Lapsed(ctx, id, incarnation)
	lapsed = lapsed && err == nil // without an answer it is not known, and asked soon enough
	if len(n.lapsed.known) >= maxLapses {
		clear(n.lapsed.known)
	}
	n.lapsed.known[k] = lapseAnswer{lapsed, time.Now()}
	return lapsed
}
