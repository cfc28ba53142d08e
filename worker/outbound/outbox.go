package outbound

import (
	"context"
	"sync"

	"crier/presence/handoff"
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

// groupBytes is about how many bytes of hand-offs are sent together.
const groupBytes = 256 << 10

// Group takes the hand-offs off a queue that are sent together: those to one gateway, in their
// order. One that is to bring its message goes alone.
func Group(queue []Send) (group, rest []Send) {
	to, bytes, full := queue[0].Handoff.To.Gateway, 0, false
	for _, e := range queue {
		alone := e.WithBody
		switch {
		case e.Handoff.To.Gateway != to:
			rest = append(rest, e)
			continue
		case full || alone && len(group) > 0:
			full = true // what follows may not pass it
			rest = append(rest, e)
			continue
		}
		group = append(group, e)
		bytes += 128 + 2*e.Handoff.Targets.Card()
		full = alone || bytes >= groupBytes || len(group) == handoff.Together
	}
	return group, rest
}

// TellTogether takes off a list what is told to one gateway together, in its order.
func TellTogether(list []*handoff.Recorded) (gateway string, data []byte, rest []*handoff.Recorded) {
	n := 0
	for _, m := range list {
		if m.Inc.Gateway != list[0].Inc.Gateway || n == handoff.Together {
			rest = append(rest, m)
			continue
		}
		data, n = append(data, m.Bytes()...), n+1
	}
	return list[0].Inc.Gateway, data, rest
}
