// Package gate bounds how many requests of a kind are worked on at once.
//
// It guarantees that what is not worked on either waits, a bounded number of them, or is
// refused at once, with a hint to retry.
package gate

import (
	"context"
	"sync/atomic"

	"crier/job"
)

// Gate is passed by requests of one kind. One that waits holds its connection and its
// header only.
type Gate struct {
	slots   chan struct{}
	waiting atomic.Int64
	queue   int64
}

// New makes a gate for so many at once, while so many others wait.
func New(slots, queue int) *Gate {
	return &Gate{slots: make(chan struct{}, slots), queue: int64(queue)}
}

// Enter takes a slot, which Leave gives back.
func (g *Gate) Enter(ctx context.Context) error {
	select {
	case g.slots <- struct{}{}:
		return nil
	default:
	}
	if g.waiting.Add(1) > g.queue {
		g.waiting.Add(-1)
		return &job.Error{Code: job.CodeUnavailable, Message: "the server has too many requests of this kind; try again"}
	}
	defer g.waiting.Add(-1)
	select {
	case g.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Leave gives a slot back.
func (g *Gate) Leave() { <-g.slots }
