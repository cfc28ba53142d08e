// Package transport carries frames between members: TCP, with TLS if it is configured,
// and a network in memory for many members in one process. transporttest holds both to
// the same behaviour.
//
// A frame arrives whole, at most once, and in the order in which it was sent to an
// address; or it does not arrive. Sending never waits: who sends again what matters,
// as members do, needs no more.
package transport

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"crier/internal/pause"
)

const (
	// magic begins each connection.
	magic = "crier members 1\n"
	// MaxFrame bounds a frame; a longer one is not sent, and who sends one is cut off.
	MaxFrame = 1 << 20
	// queueSize is how many frames wait for an address; those that come then are lost.
	queueSize = 256
	// maxIncoming bounds the connections of others.
	maxIncoming = 1024
	// idle is how long a connection is kept that nothing is sent on.
	idle = 30 * time.Second
)

// TCPConfig describes a TCP transport.
type TCPConfig struct {
	// Listen is the address to listen at. Required.
	Listen string
	// Advertise is the address that others dial. Default: where it listens.
	Advertise string
	// TLS secures all connections, both ends by the same configuration; nil: none. The
	// name that a server must have is the host of its address, unless ServerName is set.
	TLS *tls.Config
	// Wait bounds dialling, and the time until a frame is confirmed; frames that waited
	// for longer are not sent. Default 1 s.
	Wait time.Duration
	// Logger takes who is turned away. Default slog.Default().
	Logger *slog.Logger
}

// TCP is a transport on TCP. Each direction between two members has a connection of
// its own, made by who sends; each frame is confirmed by one byte. So a direction that
// is cut is noticed after Wait and dialled anew, and is open soon after the cut, which
// the system's own retransmissions would not give.
type TCP struct {
	cfg      TCPConfig
	listener net.Listener
	mu       struct {
		sync.Mutex
		outlets map[string]*outlet
		conns   map[net.Conn]bool
		closed  bool
		told    time.Time // when it was logged last that somebody was turned away
	}
	ctx   context.Context // of Run, for the outlets
	end   context.CancelFunc
	group sync.WaitGroup
}

// ListenTCP listens. Run must be called to receive, and Run or Close to release what it
// holds.
func ListenTCP(cfg TCPConfig) (*TCP, error) {
	if cfg.Wait == 0 {
		cfg.Wait = time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	l, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("membership: listening at %q: %w", cfg.Listen, err)
	}
	if cfg.Advertise == "" {
		cfg.Advertise = l.Addr().String()
	}
	t := &TCP{cfg: cfg, listener: l}
	t.ctx, t.end = context.WithCancel(context.Background())
	t.mu.outlets, t.mu.conns = map[string]*outlet{}, map[net.Conn]bool{}
	return t, nil
}

// Addr is the address that others dial.
func (t *TCP) Addr() string { return t.cfg.Advertise }

// Run receives until ctx ends, and then closes everything and waits for it. deliver
// may be called by several goroutines; the frame is its to keep.
func (t *TCP) Run(ctx context.Context, deliver func(frame []byte)) error {
	stop := context.AfterFunc(ctx, t.close)
	defer stop()
	for {
		c, err := t.listener.Accept()
		if err != nil {
			if t.isClosed() {
				break
			}
			if !pause.For(t.ctx, 50*time.Millisecond) { // out of descriptors, for example
				break
			}
			continue
		}
		if !t.enter(c) {
			_ = c.Close()
			continue
		}
		go func() {
			defer t.leave(c)
			t.serve(c, deliver)
		}()
	}
	t.close()
	t.group.Wait()
	return ctx.Err()
}

func (t *TCP) isClosed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mu.closed
}

// enter counts a connection of another, if there is room for it.
func (t *TCP) enter(c net.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.closed || len(t.mu.conns) >= maxIncoming {
		return false
	}
	t.mu.conns[c] = true
	t.group.Add(1)
	return true
}

func (t *TCP) leave(c net.Conn) {
	_ = c.Close()
	t.mu.Lock()
	delete(t.mu.conns, c)
	t.mu.Unlock()
	t.group.Done()
}

// Close releases everything, also without Run; what runs ends. It is idempotent.
func (t *TCP) Close() {
	t.close()
	t.group.Wait()
}

func (t *TCP) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.closed = true
	t.end()
	_ = t.listener.Close()
	for c := range t.mu.conns {
		_ = c.Close()
	}
}

// serve reads a connection that another member made.
func (t *TCP) serve(c net.Conn, deliver func([]byte)) {
	from := c.RemoteAddr().String()
	_ = c.SetDeadline(time.Now().Add(t.cfg.Wait))
	if t.cfg.TLS != nil {
		s := tls.Server(c, t.cfg.TLS)
		if err := s.Handshake(); err != nil {
			t.turnAway(from, err)
			return
		}
		c = s
	}
	r := bufio.NewReader(c)
	first := make([]byte, len(magic))
	if _, err := io.ReadFull(r, first); err != nil {
		return
	}
	if string(first) != magic {
		t.turnAway(from, errors.New("it speaks something else, or TLS, which this member does not"))
		return
	}
	for {
		_ = c.SetDeadline(time.Now().Add(2 * idle))
		frame, err := readFrame(r)
		if err != nil {
			return
		}
		deliver(frame)
		if _, err := c.Write([]byte{1}); err != nil {
			return
		}
	}
}

// tellEvery is how often it is logged that somebody is turned away, who comes back soon.
const tellEvery = 10 * time.Second

// turnAway says why somebody's connection is not taken.
func (t *TCP) turnAway(from string, err error) {
	var late net.Error
	if errors.Is(err, io.EOF) || errors.As(err, &late) && late.Timeout() {
		return // it went away, or is slow
	}
	t.mu.Lock()
	tell := time.Since(t.mu.told) >= tellEvery
	if tell {
		t.mu.told = time.Now()
	}
	t.mu.Unlock()
	if tell {
		t.cfg.Logger.Warn("membership: a connection is turned away; see to cluster.tls of both members", "from", from, "error", err)
	}
}

func readFrame(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > MaxFrame {
		return nil, errors.New("frame over the limit")
	}
	frame := make([]byte, n)
	_, err := io.ReadFull(r, frame)
	return frame, err
}
