package zk_test

import (
	"io"
	"net"
	"sync"
	"testing"
)

// proxy stands between a client and a server, and can swallow what the server says or
// cut all connections.
type proxy struct {
	l  net.Listener
	mu struct {
		sync.Mutex
		deaf  bool // what the server says is swallowed
		until int  // of so many answers the last makes it deaf; 0: none does
		conns []net.Conn
	}
}

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{l: l}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", to)
			if err != nil {
				client.Close()
				continue
			}
			p.mu.Lock()
			p.mu.conns = append(p.mu.conns, client, server)
			p.mu.Unlock()
			wg.Go(func() { io.Copy(server, client); server.Close() })
			wg.Go(func() { p.answers(client, server); client.Close() })
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.cut()
		wg.Wait()
	})
	return p
}

func (p *proxy) answers(client, server net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := server.Read(buf)
		p.mu.Lock()
		deaf := p.mu.deaf
		if p.mu.until > 0 {
			p.mu.until--
			p.mu.deaf = p.mu.until == 0
		}
		p.mu.Unlock()
		if err != nil {
			return
		}
		if deaf {
			continue
		}
		if _, err := client.Write(buf[:n]); err != nil {
			return
		}
	}
}

// swallow begins or ends that the client hears nothing.
func (p *proxy) swallow(deaf bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.deaf = deaf
}

func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.mu.conns {
		c.Close()
	}
	p.mu.conns = nil
}
