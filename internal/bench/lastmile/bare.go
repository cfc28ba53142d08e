package lastmile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"

	"github.com/gobwas/ws"
	"golang.org/x/sync/errgroup"
)

// Order is what a bare loop is told, a JSON line each; one field is set.
type Order struct {
	Accept int    `json:"accept,omitempty"` // connections that will come; answered with a Standing that has the address
	Round  *Round `json:"round,omitempty"`  // answered with a Standing when it is over
}

// Round is a number of messages to every connection.
type Round struct {
	Message  string   `json:"message"`  // the payload of a frame
	ID       string   `json:"id"`       // of the message; it is in the payload
	IDs      []string `json:"ids"`      // one message each: the same payload with this id
	AckBytes int      `json:"ackBytes"` // of a reply
}

// Standing is a bare loop's answer.
type Standing struct {
	Address  string `json:"address,omitempty"`
	Messages int    `json:"messages"` // written and answered in this round
	Error    string `json:"error,omitempty"`
}

// ServeBare is the process of a bare loop: a goroutine for each connection that writes a
// frame and reads the reply, again and again, and knows nothing else. It ends with its
// input.
func ServeBare(ctx context.Context, in io.Reader, out io.Writer) error {
	b := &bare{}
	defer b.close()
	dec, enc := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var o Order
		if err := dec.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("reading an order: %w", err)
		}
		var s Standing
		var err error
		switch {
		case o.Accept > 0:
			s.Address, err = b.listen(ctx, o.Accept)
		case o.Round != nil:
			s.Messages, err = b.round(*o.Round)
		default:
			err = errors.New("an order to do nothing")
		}
		if err != nil {
			s.Error = err.Error()
		}
		if err := enc.Encode(s); err != nil {
			return fmt.Errorf("answering: %w", err)
		}
	}
}

type bare struct {
	listener net.Listener
	accepted sync.WaitGroup
	mu       struct {
		sync.Mutex
		conns []net.Conn
		err   error
	}
}

// listen opens a port and accepts so many connections.
func (b *bare) listen(ctx context.Context, n int) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	b.listener = l
	b.accepted.Go(func() {
		for range n {
			c, err := l.Accept()
			b.mu.Lock()
			if err != nil {
				b.mu.err = fmt.Errorf("accepting a connection: %w", err)
			} else {
				b.mu.conns = append(b.mu.conns, c)
			}
			b.mu.Unlock()
			if err != nil {
				return
			}
		}
	})
	return l.Addr().String(), nil
}

// round sends all messages over every connection; the next one on a connection when the
// one before is answered.
func (b *bare) round(r Round) (int, error) {
	b.accepted.Wait()
	if b.mu.err != nil {
		return 0, b.mu.err
	}
	if r.AckBytes <= 0 || r.ID == "" || !strings.Contains(r.Message, r.ID) {
		return 0, errors.New("a round without a message, its id, or the size of a reply")
	}
	frames := make([][]byte, len(r.IDs))
	for i, id := range r.IDs {
		var err error
		if frames[i], err = ws.CompileFrame(ws.NewTextFrame([]byte(strings.ReplaceAll(r.Message, r.ID, id)))); err != nil {
			return 0, err
		}
	}
	var all errgroup.Group
	for _, c := range b.mu.conns {
		all.Go(func() error { return exchange(c, frames, r.AckBytes) })
	}
	if err := all.Wait(); err != nil {
		return 0, err
	}
	return len(b.mu.conns) * len(frames), nil
}

func exchange(c net.Conn, frames [][]byte, reply int) error {
	buf := make([]byte, reply)
	for _, f := range frames {
		if _, err := c.Write(f); err != nil {
			return fmt.Errorf("writing a frame: %w", err)
		}
		if _, err := io.ReadFull(c, buf); err != nil {
			return fmt.Errorf("reading a reply: %w", err)
		}
	}
	return nil
}

func (b *bare) close() {
	if b.listener == nil {
		return
	}
	b.listener.Close()
	b.accepted.Wait()
	for _, c := range b.mu.conns {
		c.Close()
	}
}
