package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// proxy stands between the Crier processes and what they connect to.
type proxy struct {
	dialer func(conn net.Conn) string // the name of the process at the other end
	mu     struct {
		sync.Mutex
		cuts    map[pair]*Cut
		flows   map[pair]uint64 // bytes
		links   map[*link]bool
		changed chan struct{} // closed when the cuts are others
	}
}

type pair struct{ from, to string }

// ServeProxy runs the proxy of the cluster in a directory until ctx ends.
func ServeProxy(ctx context.Context, dir string) error {
	c, err := Load(dir)
	if err != nil {
		return err
	}
	s, err := c.State()
	if err != nil {
		return err
	}
	p := newProxy((&finder{cluster: c}).name)
	g, ctx := errgroup.WithContext(ctx)
	for _, r := range s.Processes {
		front := r.Addresses[AddrProxy]
		if front == "" {
			continue
		}
		back := r.Addresses[AddrClient]
		if r.Kind == Crier {
			back = r.Addresses[AddrMember]
		}
		l, err := net.Listen("tcp", front)
		if err != nil {
			return fmt.Errorf("listening in front of %s: %w", r.Name, err)
		}
		g.Go(func() error { return p.serve(ctx, l, r.Name, back) })
	}
	if err := os.Remove(c.control()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the socket of a former proxy: %w", err)
	}
	l, err := net.Listen("unix", c.control())
	if err != nil {
		return fmt.Errorf("listening for what to cut (a shorter --dir may help): %w", err)
	}
	g.Go(func() error { return p.serveControl(ctx, l) })
	err = g.Wait()
	p.closeAll()
	return err
}

func newProxy(dialer func(net.Conn) string) *proxy {
	p := &proxy{dialer: dialer}
	p.mu.cuts, p.mu.flows, p.mu.links, p.mu.changed = map[pair]*Cut{}, map[pair]uint64{}, map[*link]bool{}, make(chan struct{})
	return p
}

func accept(ctx context.Context, l net.Listener, take func(net.Conn)) error {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	for {
		conn, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE): // until some end
			select {
			case <-ctx.Done():
			case <-time.After(refuseAfter):
			}
		case err != nil:
			return fmt.Errorf("taking connections: %w", err)
		default:
			go take(conn)
		}
	}
}

func (p *proxy) serve(ctx context.Context, l net.Listener, name, back string) error {
	return accept(ctx, l, func(conn net.Conn) {
		k := &link{proxy: p, to: name, front: conn, known: make(chan struct{}), over: make(chan struct{})}
		made := k.dial(ctx, back)
		if made == nil {
			return
		}
		p.add(k)
		go func() { p.name(k, p.dialer(conn)) }()
		k.run(ctx, back, made)
	})
}

// refuseAfter is how long a connection that cannot be made is kept waiting. Who is refused
// by the kernel waits before the next try; who is taken and then cut off may not, and a
// cluster without its server would do nothing else.
const refuseAfter = 250 * time.Millisecond

// dial connects to what is behind the proxy; if nobody listens there, the link is ended.
func (k *link) dial(ctx context.Context, back string) net.Conn {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", back)
	if err == nil {
		return conn
	}
	select {
	case <-ctx.Done():
	case <-time.After(refuseAfter):
	}
	k.reset()
	return nil
}

func (p *proxy) serveControl(ctx context.Context, l net.Listener) error {
	return accept(ctx, l, func(conn net.Conn) {
		defer conn.Close()
		var o order
		if err := json.NewDecoder(conn).Decode(&o); err != nil {
			return // who asked is gone
		}
		if o.Set {
			p.set(o.Cuts)
		}
		_ = json.NewEncoder(conn).Encode(p.list()) // as before
	})
}

// set replaces the cuts.
func (p *proxy) set(cuts []Cut) {
	p.mu.Lock()
	p.mu.cuts = map[pair]*Cut{}
	for _, c := range cuts {
		p.mu.cuts[pair{c.From, c.To}] = &Cut{From: c.From, To: c.To, Mode: c.Mode}
	}
	close(p.mu.changed)
	p.mu.changed = make(chan struct{})
	var refused []*link
	for k := range p.mu.links {
		if c := p.refusedLocked(k); c != nil {
			c.Refused++
			refused = append(refused, k)
		}
	}
	p.mu.Unlock()
	for _, k := range refused {
		k.reset()
	}
}

// list tells what is cut, and who talks to whom; of whom no name is known is left out.
func (p *proxy) list() answer {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := answer{Cuts: []Cut{}, Flows: []Flow{}}
	waiting := map[pair]uint64{}
	for k := range p.mu.links {
		for _, w := range bothWays {
			if c := p.heldLocked(k, w); c != nil {
				waiting[k.pair(w)] += unread(k.source(w))
			}
		}
	}
	for way, c := range p.mu.cuts {
		told := *c
		told.Held += waiting[way]
		a.Cuts = append(a.Cuts, told)
	}
	for way, n := range p.mu.flows {
		if way.from != "" && way.to != "" {
			a.Flows = append(a.Flows, Flow{way.from, way.to, n})
		}
	}
	return a
}

// passed counts what went one way; while nobody knows who dialled, with the link.
func (p *proxy) passed(k *link, w way, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if k.named {
		p.mu.flows[k.pair(w)] += uint64(n)
	} else {
		k.passed[w] += uint64(n)
	}
}

// refusedLocked is the cut that refuses a link.
func (p *proxy) refusedLocked(k *link) *Cut {
	if !k.named {
		return nil // not yet: it waits
	}
	for _, w := range bothWays {
		if c := p.mu.cuts[k.pair(w)]; c != nil && c.Mode == Refuse {
			return c
		}
	}
	return nil
}

// heldLocked is the cut that holds what goes one way through a link.
func (p *proxy) heldLocked(k *link, w way) *Cut {
	if !k.named {
		return nil // not yet: it waits
	}
	if c := p.mu.cuts[k.pair(w)]; c != nil && c.Mode == Hold {
		return c
	}
	return nil
}

// lost counts what waits in the kernel on a way that is held, and is lost with the link.
func (p *proxy) lost(k *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range bothWays {
		if c := p.heldLocked(k, w); c != nil && p.mu.links[k] {
			c.Held += unread(k.source(w))
		}
	}
	delete(p.mu.links, k)
}

func (p *proxy) add(k *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.links[k] = true
}

// name says who dialled a link: what it passed so far is counted, and what waited for the
// name goes on, unless the link is refused.
func (p *proxy) name(k *link, from string) {
	p.mu.Lock()
	k.from, k.named = from, true
	for _, w := range bothWays {
		if n := k.passed[w]; n > 0 {
			p.mu.flows[k.pair(w)] += n
		}
	}
	c := p.refusedLocked(k)
	if c != nil && p.mu.links[k] {
		c.Refused++
	}
	p.mu.Unlock()
	if c != nil {
		k.reset()
	}
	close(k.known)
}

func (p *proxy) remove(k *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.mu.links, k)
}

func (p *proxy) closeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for k := range p.mu.links {
		k.front.Close()
	}
}

// pass waits while one of the ways is held, or may be because there are cuts and nobody
// knows who dialled, and reports whether the link is still wanted. note counts what waits,
// once.
func (p *proxy) pass(k *link, note func(*Cut), ways ...way) bool {
	noted := false
	for {
		p.mu.Lock()
		var held *Cut
		var known chan struct{} // nil unless it is waited for
		if len(p.mu.cuts) > 0 && !k.named {
			known = k.known
		}
		for _, w := range ways {
			if c := p.heldLocked(k, w); c != nil {
				held = c
			}
		}
		if held != nil && !noted {
			if noted = true; p.mu.links[k] { // or what it has is counted
				note(held)
			}
		}
		changed := p.mu.changed
		p.mu.Unlock()
		if held == nil && known == nil {
			select {
			case <-k.over:
				return false
			default:
				return true
			}
		}
		select {
		case <-known:
		case <-changed:
		case <-k.over:
			return false
		}
	}
}

// link is a connection through the proxy.
type link struct {
	proxy *proxy
	to    string
	front net.Conn      // from who dialled
	known chan struct{} // closed when it is known who dialled
	once  sync.Once
	over  chan struct{} // closed when neither end is wanted
	// Under the proxy's lock.
	from   string // who dialled, if named; "" is none of the cluster
	named  bool
	passed [2]uint64 // bytes by way before it was named
	back   net.Conn
}

// way is a direction through a link.
type way int

const (
	there way = iota // from who dialled
	here
)

var bothWays = []way{there, here}

// pair is who sends to whom on a way; of a link that is named.
func (k *link) pair(w way) pair {
	if w == there {
		return pair{k.from, k.to}
	}
	return pair{k.to, k.from}
}

// source is whose bytes go that way; nil while there is none. Under the proxy's lock.
func (k *link) source(w way) net.Conn {
	if w == there {
		return k.front
	}
	return k.back
}

// unread is how many bytes of a connection nobody has read yet.
func unread(conn net.Conn) uint64 {
	t, ok := conn.(*net.TCPConn)
	if !ok || t == nil {
		return 0
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return 0
	}
	var n int
	if raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) }) != nil || err != nil {
		return 0 // it is closed
	}
	return uint64(n)
}

// run carries bytes over a connection that is made, or over another one if it may not be
// made yet.
func (k *link) run(ctx context.Context, back string, conn net.Conn) {
	defer k.proxy.remove(k)
	defer k.end()
	defer func() { conn.Close() }()
	stop := context.AfterFunc(ctx, k.end)
	defer stop()
	held := false
	note := func(c *Cut) {
		c.Dials++
		held = true
		conn.Close()
	}
	if !k.proxy.pass(k, note, bothWays...) {
		return
	}
	if held {
		again := k.dial(ctx, back)
		if again == nil {
			return
		}
		conn = again
	}
	k.proxy.mu.Lock()
	k.back = conn
	k.proxy.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() { k.pump(conn, k.front, there) })
	wg.Go(func() { k.pump(k.front, conn, here) })
	wg.Wait()
}

// pumpSize is how much goes through at a time.
const pumpSize = 64 << 10

// pump carries bytes, and the end, one way.
func (k *link) pump(dst, src net.Conn, w way) {
	buf := make([]byte, pumpSize)
	for {
		n, err := src.Read(buf)
		if !k.proxy.pass(k, func(c *Cut) { c.Held += uint64(max(n, 1)) }, w) {
			return
		}
		if n > 0 {
			if _, err := dst.Write(buf[:n]); err != nil {
				k.end()
				return
			}
			k.proxy.passed(k, w, n)
		}
		if errors.Is(err, io.EOF) {
			if half, ok := dst.(*net.TCPConn); !ok || half.CloseWrite() != nil {
				k.end()
			}
			return
		}
		if err != nil {
			k.reset()
			return
		}
	}
}

// end closes both sides.
func (k *link) end() {
	k.once.Do(func() {
		k.proxy.lost(k)
		close(k.over)
	})
	k.front.Close()
	k.proxy.mu.Lock()
	back := k.back
	k.proxy.mu.Unlock()
	if back != nil {
		back.Close()
	}
}

// reset ends both sides in a way that they take for refused or broken.
func (k *link) reset() {
	k.proxy.mu.Lock()
	back := k.back
	k.proxy.mu.Unlock()
	for _, c := range []net.Conn{k.front, back} {
		if t, ok := c.(*net.TCPConn); ok && t != nil {
			_ = t.SetLinger(0) // it is closed next
		}
	}
	k.end()
}
