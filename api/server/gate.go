package server

import (
	"context"
	"sync/atomic"

	"crier/job"
)

// gate bounds how many requests of a kind are worked on at once, and how many
// wait for that. What does not fit is refused at once, with a hint to retry.
//
// Bounds of memory: 64 writes of maxRequest bytes, raw and decoded, are 256 MiB
// at worst; uploads and streams pass through and hold a buffer each; a request
// that waits holds its connection and its header only.
type gate struct {
	slots   chan struct{}
	waiting atomic.Int64
	queue   int64
}

func newGate(slots, queue int) *gate {
	return &gate{slots: make(chan struct{}, slots), queue: int64(queue)}
}

// enter takes a slot, which leave gives back.
func (g *gate) enter(ctx context.Context) error {
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

func (g *gate) leave() { <-g.slots }
