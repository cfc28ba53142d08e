package events

import (
	"context"
	"sync"
	"time"

	"crier/job"
)

// lookEvery is how often a follower of a Memory says that it has seen all.
const lookEvery = 100 * time.Millisecond

// Memory is the twin of Stream, for tests. It drops nothing.
type Memory struct {
	now func() time.Time
	mu  struct {
		sync.Mutex
		all     []kept
		changed chan struct{} // closed and replaced at each event
		down    error         // what Publish answers while it is set
	}
}

type kept struct {
	job.Event
	at time.Time
}

// NewMemory makes an empty stream; now is its clock.
func NewMemory(now func() time.Time) *Memory {
	m := &Memory{now: now}
	m.mu.changed = make(chan struct{})
	return m
}

// Fail makes Publish answer err, or, with nil, work again.
func (m *Memory) Fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.down = err
}

// Publish is as Stream's.
func (m *Memory) Publish(_ context.Context, e job.Event) error {
	if err := e.Validate(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.down != nil {
		return m.mu.down
	}
	at := m.now()
	for _, k := range m.mu.all {
		if k.ID() == e.ID() && (e.Once() || at.Sub(k.at) < Window) {
			return nil
		}
	}
	m.mu.all = append(m.mu.all, kept{e, at})
	close(m.mu.changed)
	m.mu.changed = make(chan struct{})
	return nil
}

// Follow is as Stream's.
func (m *Memory) Follow(ctx context.Context, q Query, fn func(Stored) error, caughtUp func()) error {
	next := int(q.After) // index of what follows
	m.mu.Lock()
	last := len(m.mu.all)
	if !q.Since.IsZero() {
		for next = 0; next < last && m.mu.all[next].at.Before(q.Since); next++ {
		}
	}
	m.mu.Unlock()
	if next > last {
		return beyond(q.After)
	}
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for {
		m.mu.Lock()
		all, changed := m.mu.all, m.mu.changed
		m.mu.Unlock()
		for ; next < len(all); next++ {
			if e := all[next].Event; q.wants(e) {
				if err := fn(Stored{uint64(next + 1), e}); err != nil {
					return err
				}
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
		if caughtUp != nil {
			caughtUp()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-t.C:
		}
	}
}
