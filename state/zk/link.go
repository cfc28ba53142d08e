package zk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"
)

var (
	errNoAnswer = errors.New("ZooKeeper does not answer in time")
	errMoved    = errors.New("the session with ZooKeeper is another one now")
)

// retryPause is the pause before a read that was cut off is tried again.
const retryPause = 10 * time.Millisecond

// link knows the state of the session, and carries its events to watchers.
type link struct {
	session time.Duration
	mu      struct {
		sync.Mutex
		up        bool          // there is a session
		changed   chan struct{} // closed and replaced when up changes
		handshake *time.Timer
		armed     map[string]bool // directories with a watch that has not fired
		subs      map[*sub]bool
	}
}

// sub is a watcher's interest in the directories under one.
type sub struct {
	dir   string
	wake  chan struct{}
	dirty map[string]bool // guarded by the link
}

func newLink(session time.Duration) *link {
	l := &link{session: session}
	l.mu.changed = make(chan struct{})
	l.mu.armed = make(map[string]bool)
	l.mu.subs = make(map[*sub]bool)
	return l
}

// dial bounds the handshake: the library waits for seven sessions for the answer of a
// server that is paused, and for ever for its second half, while others would answer.
func (l *link) dial(network, address string, timeout time.Duration) (net.Conn, error) {
	conn, err := net.DialTimeout(network, address, timeout)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.handshake != nil {
		l.mu.handshake.Stop()
	}
	l.mu.handshake = time.AfterFunc(l.session/2, func() { conn.Close() })
	return conn, nil
}

// event is the library's callback; it must not block.
func (l *link) event(ev zk.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ev.Type != zk.EventSession {
		delete(l.mu.armed, ev.Path)
		l.markLocked(ev.Path)
		return
	}
	up := ev.State == zk.StateHasSession
	if up && l.mu.handshake != nil {
		l.mu.handshake.Stop()
	}
	if up != l.mu.up {
		l.mu.up = up
		close(l.mu.changed)
		l.mu.changed = make(chan struct{})
	}
}

func (l *link) markLocked(dir string) {
	for s := range l.mu.subs {
		if dir == s.dir || strings.HasPrefix(dir, s.dir+"/") {
			s.dirty[dir] = true
			select {
			case s.wake <- struct{}{}:
			default:
			}
		}
	}
}

func (l *link) subscribe(dir string) *sub {
	s := &sub{dir: dir, wake: make(chan struct{}, 1), dirty: make(map[string]bool)}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.subs[s] = true
	return s
}

func (l *link) unsubscribe(s *sub) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.mu.subs, s)
}

// take gives the directories with events since it was called last.
func (l *link) take(s *sub) map[string]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	dirty := s.dirty
	s.dirty = make(map[string]bool)
	return dirty
}

// arm reports whether its caller should set a watch on a directory: the library keeps
// each one that is set until it fires.
func (l *link) arm(dir string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.armed[dir] {
		return false
	}
	l.mu.armed[dir] = true
	return true
}

// disarm forgets a watch that was not set, or was lost.
func (l *link) disarm(dir string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.mu.armed, dir)
}

// await waits until there is a session.
func (l *link) await(ctx context.Context) error {
	for {
		l.mu.Lock()
		up, changed := l.mu.up, l.mu.changed
		l.mu.Unlock()
		if up {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("there is no session with ZooKeeper: %w", context.Cause(ctx))
		}
	}
}

// bound limits a context; its cause tells whose limit it was.
func (s *Store) bound(ctx context.Context, wait time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, wait, errNoAnswer)
}

// call runs one call of the library while there is a session, and leaves it behind if
// it does not end in time: it may still take effect.
func call[T any](ctx context.Context, s *Store, fn func() (T, error)) (T, error) {
	var zero T
	ctx, cancel := s.bound(ctx, s.wait)
	defer cancel()
	if ctx.Err() != nil {
		return zero, context.Cause(ctx)
	}
	if err := s.link.await(ctx); err != nil {
		return zero, err
	}
	type answer struct {
		v   T
		err error
	}
	ch := make(chan answer, 1)
	go func() {
		v, err := fn()
		ch <- answer{v, err}
	}()
	select {
	case a := <-ch:
		return a.v, a.err
	case <-ctx.Done():
		return zero, context.Cause(ctx)
	}
}

func (s *Store) do(ctx context.Context, fn func() error) error {
	_, err := call(ctx, s, func() (struct{}, error) { return struct{}{}, fn() })
	return err
}

// cut reports whether an error is of the connection: a read is worth another try.
func cut(err error) bool {
	for _, is := range []error{zk.ErrConnectionClosed, zk.ErrSessionExpired, zk.ErrNoServer, zk.ErrSessionMoved, errMoved} {
		if errors.Is(err, is) {
			return true
		}
	}
	return false
}

// retry repeats a read that is cut off, within its context.
func retry(ctx context.Context, fn func() error) error {
	for {
		err := fn()
		if err == nil || !cut(err) {
			return err
		}
		t := time.NewTimer(retryPause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return errors.Join(context.Cause(ctx), err)
		}
	}
}

// driverLog is where the library complains; what matters comes as errors.
type driverLog struct{ logger *slog.Logger }

// Printf implements the library's Logger.
func (d driverLog) Printf(format string, args ...any) {
	d.logger.Debug("ZooKeeper client: " + fmt.Sprintf(format, args...))
}
