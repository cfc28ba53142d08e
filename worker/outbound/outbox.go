package outbound

import (
	"context"
	"sync"
)

// Outbox is the hand-offs to be sent, in the order in which their reserves became
// durable: several messages for one recipient arrive as they were parked, urgent ones
// first. It is bounded by the open reserves, and safe for concurrent use.
type Outbox struct {
	wake chan struct{} // one slot: there is something in the queue
	mu   struct {
		sync.Mutex
		queue []Send
	}
}

// NewOutbox makes an empty one.
func NewOutbox() *Outbox { return &Outbox{wake: make(chan struct{}, 1)} }

// Put adds a hand-off. It never blocks.
func (o *Outbox) Put(e Send) {
	o.mu.Lock()
	o.mu.queue = append(o.mu.queue, e)
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// Take waits for hand-offs and gives all there are, or ctx's error when it ends.
func (o *Outbox) Take(ctx context.Context) ([]Send, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-o.wake:
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	queue := o.mu.queue
	o.mu.queue = nil
	return queue, nil
}
