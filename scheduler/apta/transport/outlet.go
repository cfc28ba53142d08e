package transport

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"time"

	"crier/internal/pause"
)

// outlet is the way to one address: a queue, and a goroutine that sends it as long as
// there is something to send now and then.
type outlet struct {
	t     *TCP
	addr  string
	queue chan outgoing
}

type outgoing struct {
	frame []byte
	at    time.Time
}

const (
	leastPause = 50 * time.Millisecond
	mostPause  = time.Second
)

// Send puts a frame on its way to an address. It does not wait, and tells nothing of
// what becomes of it.
func (t *TCP) Send(addr string, frame []byte) {
	if len(frame) > MaxFrame {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.closed {
		return
	}
	o := t.mu.outlets[addr]
	if o == nil {
		o = &outlet{t: t, addr: addr, queue: make(chan outgoing, queueSize)}
		t.mu.outlets[addr] = o
		t.group.Add(1)
		go o.run()
	}
	select {
	case o.queue <- outgoing{frame, time.Now()}:
	default:
	}
}

// run sends until the transport ends or nothing was sent for a while.
func (o *outlet) run() {
	defer o.t.group.Done()
	wait := leastPause
	for {
		first, ok := o.next(idle)
		if !ok {
			if o.retire() {
				return
			}
			continue
		}
		if o.converse(first) {
			wait = leastPause
			continue
		}
		// What waited for a connection that could not be made is old by then.
		if !pause.For(o.t.ctx, wait) {
			return
		}
		wait = min(2*wait, mostPause)
	}
}

// next takes a frame that is not too old from the queue.
func (o *outlet) next(within time.Duration) (outgoing, bool) {
	timer := time.NewTimer(within)
	defer timer.Stop()
	for {
		select {
		case out := <-o.queue:
			if time.Since(out.at) <= o.t.cfg.Wait {
				return out, true
			}
		case <-timer.C:
			return outgoing{}, false
		case <-o.t.ctx.Done():
			return outgoing{}, false
		}
	}
}

// retire ends the outlet, unless something was put into it meanwhile.
func (o *outlet) retire() bool {
	o.t.mu.Lock()
	defer o.t.mu.Unlock()
	if len(o.queue) > 0 && !o.t.mu.closed {
		return false
	}
	delete(o.t.mu.outlets, o.addr)
	return true
}

// converse makes a connection and sends on it until it breaks or is idle. It reports
// whether anything was confirmed.
func (o *outlet) converse(first outgoing) (worked bool) {
	ctx, cancel := context.WithTimeout(o.t.ctx, o.t.cfg.Wait)
	defer cancel()
	c, err := o.dial(ctx)
	if err != nil {
		return false
	}
	defer context.AfterFunc(o.t.ctx, func() { _ = c.Close() })()
	defer func() { _ = c.Close() }()
	w := bufio.NewWriter(c)
	_, _ = w.WriteString(magic)
	for out, ok := first, true; ok; out, ok = o.next(idle) {
		if err := o.send(c, w, out); err != nil {
			return worked
		}
		worked = true
	}
	return worked
}

// send sends a frame and those that wait behind it, and waits until they are
// confirmed.
func (o *outlet) send(c net.Conn, w *bufio.Writer, out outgoing) error {
	_ = c.SetDeadline(time.Now().Add(o.t.cfg.Wait))
	n := 0
	for ok := true; ok; n++ {
		if _, err := w.Write(binary.BigEndian.AppendUint32(nil, uint32(len(out.frame)))); err != nil {
			return err
		}
		if _, err := w.Write(out.frame); err != nil {
			return err
		}
		select {
		case out = <-o.queue:
		default:
			ok = false
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := io.CopyN(io.Discard, c, int64(n))
	return err
}

func (o *outlet) dial(ctx context.Context) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", o.addr)
	if err != nil {
		return nil, err
	}
	return o.t.cfg.secured(c, o.addr), nil
}

// secured puts TLS on a connection that was made to an address, if it is configured. The
// handshake goes with what is sent first.
func (c TCPConfig) secured(conn net.Conn, addr string) net.Conn {
	if c.TLS == nil {
		return conn
	}
	cfg := c.TLS
	if host, _, err := net.SplitHostPort(addr); err == nil && cfg.ServerName == "" {
		cfg = cfg.Clone()
		cfg.ServerName = host
	}
	return tls.Client(conn, cfg)
}
