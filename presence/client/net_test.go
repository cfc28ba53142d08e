package client_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
)

// network joins clients and a server in one process, without sockets, so that a test
// in a bubble of testing/synctest owns time. Each connection can be cut, at a byte of
// what the server writes.
type network struct {
	accept chan net.Conn
	done   chan struct{}
	budget func() int // bytes that the server may write on the next connection; < 0: any

	mu struct {
		sync.Mutex
		conns map[*pipe]struct{}
	}
}

func newNetwork() *network {
	n := &network{accept: make(chan net.Conn), done: make(chan struct{}), budget: func() int { return -1 }}
	n.mu.conns = map[*pipe]struct{}{}
	return n
}

// pipe is the server's end of a connection.
type pipe struct {
	net.Conn
	net  *network
	mu   sync.Mutex
	left int // < 0: no limit
	deaf bool
}

func (p *pipe) Write(b []byte) (int, error) {
	p.mu.Lock()
	deaf, left := p.deaf, p.left
	if left >= 0 {
		p.left = max(0, left-len(b))
	}
	p.mu.Unlock()
	if deaf {
		return len(b), nil
	}
	if left < 0 || left > len(b) {
		return p.Conn.Write(b)
	}
	n, _ := p.Conn.Write(b[:left])
	p.Close()
	return n, errors.New("cut")
}

func (p *pipe) Read(b []byte) (int, error) {
	for {
		n, err := p.Conn.Read(b)
		p.mu.Lock()
		deaf := p.deaf
		p.mu.Unlock()
		if !deaf || err != nil {
			return n, err
		}
	}
}

func (p *pipe) Close() error {
	p.net.mu.Lock()
	delete(p.net.mu.conns, p)
	p.net.mu.Unlock()
	return p.Conn.Close()
}

// each does something to the connections that are open.
func (n *network) each(do func(*pipe)) {
	n.mu.Lock()
	var all []*pipe
	for p := range n.mu.conns {
		all = append(all, p)
	}
	n.mu.Unlock()
	for _, p := range all {
		do(p)
	}
}

// cut breaks every connection.
func (n *network) cut() { n.each(func(p *pipe) { p.Close() }) }

// swallow makes every present connection lose all that is sent, in both directions.
func (n *network) swallow() {
	n.each(func(p *pipe) {
		p.mu.Lock()
		p.deaf = true
		p.mu.Unlock()
	})
}

func (n *network) Accept() (net.Conn, error) {
	select {
	case c := <-n.accept:
		return c, nil
	case <-n.done:
		return nil, io.EOF
	}
}

func (n *network) Close() error {
	select {
	case <-n.done:
	default:
		close(n.done)
	}
	return nil
}

func (n *network) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

func (n *network) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	p := &pipe{Conn: theirs, net: n, left: n.budget()}
	n.mu.Lock()
	n.mu.conns[p] = struct{}{}
	n.mu.Unlock()
	select {
	case n.accept <- p:
		return ours, nil
	case <-n.done:
		return nil, errors.New("nobody listens")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// client makes connections over the network.
func (n *network) client(t *testing.T) *http.Client {
	tr := &http.Transport{DialContext: n.dial}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// serve answers requests until the test ends.
func (n *network) serve(t *testing.T, h http.Handler) {
	srv := &http.Server{Handler: h}
	var wg sync.WaitGroup
	wg.Go(func() { srv.Serve(n) })
	t.Cleanup(func() {
		n.cut()
		srv.Close()
		wg.Wait()
	})
}
