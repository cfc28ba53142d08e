package client

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	"github.com/coder/websocket"
)

const (
	// queued is how many frames may be read and not yet handled: the 64 messages that
	// a gateway may send unacknowledged, and as many others. While the queue is not
	// full, pings are answered however slow OnMessage is.
	queued = 128
	// ackMost is how many ids an acknowledgement has at most.
	ackMost = 64
)

// session is one connection. The goroutine of Run owns it; one goroutine reads
// frames into the queue, one sends pings.
type session struct {
	*Client
	conn   *websocket.Conn
	from   *url.URL
	frames chan *frame // closed by the reader when the connection has ended
	broken error       // why it ended; read after frames is closed

	acks     []string         // to be acknowledged once the store is synced
	due      <-chan time.Time // when; nil if there is nothing to do
	progress bool             // it brought a new message
	said     string           // the gateway's last error frame
	// unwritable: a write did not get through.
	unwritable bool

	// mu guards the ids that withdrawals name which were read and not handled yet.
	mu struct {
		sync.Mutex
		withdrawn map[string]int
	}
}

func newSession(c *Client, conn *websocket.Conn, from *url.URL) *session {
	s := &session{Client: c, conn: conn, from: from, frames: make(chan *frame, queued)}
	s.mu.withdrawn = map[string]int{}
	return s
}

// run says hello and handles frames until the connection or the context ends. All
// goroutines of the session have ended when it returns.
func (s *session) run(ctx context.Context, have []string) ending {
	// The connection outlives ctx for as long as the last acknowledgement takes.
	life, cut := context.WithCancelCause(context.WithoutCancel(ctx))
	var others sync.WaitGroup
	defer others.Wait()
	defer s.conn.CloseNow() // the error is that of a connection that is being given up
	defer cut(nil)

	hello, err := helloFrame(s.id, have, s.cfg.OnWithdraw != nil)
	if err != nil {
		return ending{err: fmt.Errorf("say hello: %w", err)}
	}
	others.Go(func() { s.read(life) })
	others.Go(func() { s.ping(life, cut) })
	if err := s.write(hello); err != nil {
		s.unwritable = true
		return s.giveUp(fmt.Errorf("say hello to %s: %w", s.from.Host, err))
	}
	s.cfg.OnConnect()
	return s.loop(ctx)
}

func (s *session) loop(ctx context.Context) ending {
	for {
		select {
		case <-ctx.Done():
			return s.leave(nil)
		case <-s.due:
			if err := s.flush(); err != nil {
				return s.giveUp(err)
			}
		case f, ok := <-s.frames:
			if !ok {
				return s.ended()
			}
			if ctx.Err() != nil {
				continue
			}
			to, err := s.take(ctx, f)
			switch {
			case err != nil:
				return s.giveUp(err)
			case to != nil:
				return s.leave(to)
			}
		}
	}
}

// leave acknowledges what was shown and closes the connection.
func (s *session) leave(to *url.URL) ending {
	if err := s.flush(); err != nil {
		return ending{err: err, redirect: to}
	}
	s.conn.Close(websocket.StatusNormalClosure, "") // a gateway that does not answer changes nothing
	return ending{redirect: to}
}

// giveUp ends the connection after an error of ours. If a write did not get through,
// the gateway may have said why in the frame that closed the connection.
func (s *session) giveUp(err error) ending {
	s.conn.CloseNow() // the error that matters is the first one
	for range s.frames {
		// What is in the queue is sent again.
	}
	if s.unwritable && websocket.CloseStatus(s.broken) != -1 {
		return s.ended()
	}
	return ending{err: err}
}

// ended says why the gateway or the path ended the connection.
func (s *session) ended() ending {
	err := fmt.Errorf("the connection to %s ended: %w", s.from.Host, s.broken)
	if s.said != "" {
		err = fmt.Errorf("%w (the gateway said: %s)", err, s.said)
	}
	switch websocket.CloseStatus(s.broken) {
	case closeMoved:
		return s.moved(err)
	case closeReplaced:
		return ending{replaced: true, err: fmt.Errorf("%w: %w", ErrReplaced, err)}
	case closeDenied:
		return ending{denied: true, err: fmt.Errorf("%w: %w", ErrDenied, err)}
	}
	return ending{err: err}
}

// moved ends a connection whose gateway said in closing it where to go. One that did
// not say it is as good as one that stops.
func (s *session) moved(err error) ending {
	var closed websocket.CloseError
	if !errors.As(s.broken, &closed) || closed.Reason == "" {
		return ending{err: err}
	}
	to, bad := redirected(s.from, closed.Reason)
	if bad != nil {
		return ending{err: bad}
	}
	return ending{redirect: to}
}

// read puts frames into the queue until the connection ends. A frame that cannot be
// read is left out: if it was a message, it stays unacknowledged and comes again.
func (s *session) read(ctx context.Context) {
	defer close(s.frames)
	for {
		kind, data, err := s.conn.Read(ctx)
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			s.broken = err
			return
		}
		var f *frame
		if kind != websocket.MessageText {
			err = errors.New("it is binary")
		} else {
			f, err = parseFrame(data)
		}
		if err != nil {
			s.cfg.Logger.Warn("a frame of the gateway is ignored", "bytes", len(data), "error", err)
			continue
		}
		if f.kind == typeWithdraw {
			s.noteWithdrawn(f.ids, 1)
		}
		select {
		case s.frames <- f:
		case <-ctx.Done():
			s.broken = context.Cause(ctx)
			return
		}
	}
}

// ping ends the connection if the gateway does not answer. Full: the reader waits for
// OnMessage and cannot read an answer; that is no fault of the gateway.
func (s *session) ping(ctx context.Context, cut context.CancelCauseFunc) {
	for sleep(ctx, s.cfg.PingEvery) {
		wait, cancel := context.WithTimeout(ctx, s.cfg.PingTimeout)
		err := s.conn.Ping(wait)
		cancel()
		if err != nil && len(s.frames) < queued {
			cut(fmt.Errorf("%w: %w", ErrSilent, err))
			return
		}
	}
}

func (s *session) write(data []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.WriteTimeout)
	defer cancel()
	return s.conn.Write(ctx, websocket.MessageText, data)
}
