package member

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"crier/scheduler/apta/wire"
)

// Bounds of the transport. Messages may be lost, and are when a connection breaks or is
// slow; the protocol repeats what counts.
const (
	maxFrame    = 8 << 20
	dialWithin  = time.Second
	writeWithin = time.Second
	silentAfter = 30 * time.Second // a connection on which nothing comes is closed
	idleAfter   = 60 * time.Second // a sender without messages ends
	queueLength = 256
)

// transport carries messages between members: one connection for each direction, so that
// a cut in one is noticed in that one.
type transport struct {
	listener net.Listener
	tls      *tls.Config
	log      *slog.Logger
	received func(*wire.Message)
	mu       struct {
		sync.Mutex
		senders map[string]chan []byte
	}
	busy sync.WaitGroup
}

// newTransport takes connections of other members until run's context ends.
func newTransport(l net.Listener, config *tls.Config, log *slog.Logger, received func(*wire.Message)) *transport {
	if config != nil {
		l = tls.NewListener(l, config)
	}
	t := &transport{listener: l, tls: config, log: log, received: received}
	t.mu.senders = map[string]chan []byte{}
	return t
}

// run accepts until ctx ends, and returns when nothing of the transport goes on.
func (t *transport) run(ctx context.Context) error {
	defer t.busy.Wait()
	defer context.AfterFunc(ctx, func() { t.listener.Close() })()
	for {
		c, err := t.listener.Accept()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("taking connections of other members: %w", err)
		}
		t.busy.Go(func() { t.read(ctx, c) })
	}
}

// read takes the messages of a connection.
func (t *transport) read(ctx context.Context, c net.Conn) {
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	in := bufio.NewReader(c)
	for {
		if err := c.SetReadDeadline(time.Now().Add(silentAfter)); err != nil {
			return
		}
		m, err := readMessage(in)
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				t.log.Debug("a member's connection", "from", c.RemoteAddr().String(), "error", err)
			}
			return
		}
		t.received(m)
	}
}

func readMessage(in io.Reader) (*wire.Message, error) {
	var head [4]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxFrame {
		return nil, fmt.Errorf("a message of %d bytes, more than %d", n, maxFrame)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(in, b); err != nil {
		return nil, err
	}
	var m wire.Message
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("decoding a message: %w", err)
	}
	return &m, m.Validate()
}

// send puts a message on its way to an address. It never blocks; what is too much is lost.
func (t *transport) send(ctx context.Context, addr string, m *wire.Message) {
	b, err := json.Marshal(m)
	if err != nil || len(b) > maxFrame {
		t.log.Error("encoding a message to a member", "to", addr, "bytes", len(b), "error", err)
		return
	}
	frame := append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(b)), uint32(len(b))), b...)
	t.mu.Lock()
	defer t.mu.Unlock()
	queue := t.mu.senders[addr]
	if queue == nil {
		queue = make(chan []byte, queueLength)
		t.mu.senders[addr] = queue
		t.busy.Go(func() { t.write(ctx, addr, queue) })
	}
	select {
	case queue <- frame:
	default:
	}
}

// write sends what is queued for an address until nothing comes for a while.
func (t *transport) write(ctx context.Context, addr string, queue chan []byte) {
	var c net.Conn
	defer func() {
		if c != nil {
			c.Close()
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(idleAfter):
			t.mu.Lock()
			empty := len(queue) == 0
			if empty {
				delete(t.mu.senders, addr)
			}
			t.mu.Unlock()
			if empty {
				return
			}
		case frame := <-queue:
			c = t.writeFrame(ctx, addr, c, frame)
		}
	}
}

// writeFrame writes over the connection there is or over a new one; nil comes back if it
// broke.
func (t *transport) writeFrame(ctx context.Context, addr string, c net.Conn, frame []byte) net.Conn {
	if c == nil {
		var err error
		if c, err = t.dial(ctx, addr); err != nil {
			t.log.Debug("calling a member", "address", addr, "error", err)
			return nil
		}
	}
	err := c.SetWriteDeadline(time.Now().Add(writeWithin))
	if err == nil {
		_, err = c.Write(frame)
	}
	if err != nil {
		c.Close()
		return nil
	}
	return c
}

func (t *transport) dial(ctx context.Context, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialWithin)
	defer cancel()
	if t.tls != nil {
		return (&tls.Dialer{Config: t.tls}).DialContext(ctx, "tcp", addr)
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
}
