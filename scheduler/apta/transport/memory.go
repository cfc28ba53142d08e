package transport

import (
	"context"
	"fmt"
	"sync"
	"time"

	"crier/internal/pause"
)

// Network is a network in memory: the twin of TCP for many members in one process. It
// works inside a bubble of testing/synctest.
type Network struct {
	// Delay is how long a frame is under way.
	Delay time.Duration
	mu    struct {
		sync.Mutex
		ends map[string]*End
		cuts map[[2]string]bool
	}
}

// End is a transport of a Network.
type End struct {
	net   *Network
	addr  string
	inbox chan outgoing
}

// NewNetwork makes a network without anybody.
func NewNetwork(delay time.Duration) *Network {
	n := &Network{Delay: delay}
	n.mu.ends, n.mu.cuts = map[string]*End{}, map[[2]string]bool{}
	return n
}

// Listen makes an end with an address, which must be free.
func (n *Network) Listen(addr string) (*End, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mu.ends[addr] != nil {
		return nil, fmt.Errorf("membership: listening at %q: it is in use", addr)
	}
	e := &End{net: n, addr: addr, inbox: make(chan outgoing, queueSize)}
	n.mu.ends[addr] = e
	return e, nil
}

// Cut loses all frames from one address to another, or ends that.
func (n *Network) Cut(from, to string, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.cuts[[2]string{from, to}] = cut
}

// Addr is the end's address.
func (e *End) Addr() string { return e.addr }

// Send puts a frame on its way; see TCP.Send.
func (e *End) Send(addr string, frame []byte) {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	to := e.net.mu.ends[addr]
	if to == nil || e.net.mu.ends[e.addr] != e || len(frame) > MaxFrame || e.net.mu.cuts[[2]string{e.addr, addr}] {
		return
	}
	select {
	case to.inbox <- outgoing{frame, time.Now()}:
	default:
	}
}

// Run receives until ctx ends; see TCP.Run.
func (e *End) Run(ctx context.Context, deliver func(frame []byte)) error {
	defer func() {
		e.net.mu.Lock()
		defer e.net.mu.Unlock()
		delete(e.net.mu.ends, e.addr)
	}()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case in := <-e.inbox:
			if d := time.Until(in.at.Add(e.net.Delay)); d > 0 && !pause.For(ctx, d) {
				return ctx.Err()
			}
			deliver(append([]byte(nil), in.frame...))
		}
	}
}
