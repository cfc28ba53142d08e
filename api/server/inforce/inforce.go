// Package inforce asks again, while a request is under way, whether it still may be.
//
// It guarantees that the context of a request which may not go on ends within a second of
// that being known, and that the reason can be told from every other end.
package inforce

import (
	"context"
	"errors"
	"sync"
	"time"
)

// A process knows within four seconds that a key is revoked; both of these together are less
// than the one that is left of five.
const (
	every  = 500 * time.Millisecond // between questions
	within = 400 * time.Millisecond // for an answer
)

// ended is the cause of a context that ended because its request may not go on.
type ended struct{ why error }

func (e ended) Error() string { return e.why.Error() }

type watchKey struct{}

// watch is the asking about one request.
type watch struct {
	ctx context.Context // the request's
	end context.CancelCauseFunc
	ask func(context.Context) error
	mu  struct {
		sync.Mutex
		timer *time.Timer
		over  bool // nobody asks any more
	}
}

// Watch gives a context that ends when ask has an error, which is then its reason. What stop
// does, the request's end, must follow.
func Watch(ctx context.Context, ask func(context.Context) error) (watched context.Context, stop func()) {
	w := &watch{ask: ask}
	w.ctx, w.end = context.WithCancelCause(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.timer = time.AfterFunc(every, w.again)
	return context.WithValue(w.ctx, watchKey{}, w), func() { w.stop(); w.end(nil) }
}

func (w *watch) again() {
	asking, cancel := context.WithTimeout(w.ctx, within)
	why := w.ask(asking)
	cancel()
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.mu.over:
	case why != nil:
		w.mu.over = true
		w.end(ended{why})
	default:
		w.mu.timer.Reset(every)
	}
}

func (w *watch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.over = true
	w.mu.timer.Stop()
}

// Settle ends the asking about a request that is read whole and changes something: it is
// brought to its end, for half of it would help nobody. The error is why it may not be begun.
func Settle(ctx context.Context) error {
	if w, ok := ctx.Value(watchKey{}).(*watch); ok {
		w.stop()
	}
	return Why(ctx)
}

// Why is the reason for which a request may not go on; nil if it may, or ended otherwise.
func Why(ctx context.Context) error {
	var e ended
	if errors.As(context.Cause(ctx), &e) {
		return e.why
	}
	return nil
}
