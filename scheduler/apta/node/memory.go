package node

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"crier/scheduler/apta/wire"
)

// ErrDown is what a Memory answers while it is down.
var ErrDown = errors.New("membership leases: the store does not answer")

// Memory is leases in memory: the twin of an adapter to the coordination store, for
// tests and for members of one process. Its clock is the process's.
type Memory struct {
	mu struct {
		sync.Mutex
		leases  map[string]memoryLease
		down    bool
		changed chan struct{} // closed and replaced at each change
	}
}

type memoryLease struct {
	lease  wire.Lease
	lapses time.Time
}

// watchEvery is how often a watcher of a Memory looks, if nothing happens.
const watchEvery = 250 * time.Millisecond

// NewMemory makes a store without leases.
func NewMemory() *Memory {
	m := &Memory{}
	m.mu.leases, m.mu.changed = map[string]memoryLease{}, make(chan struct{})
	return m
}

// SetDown makes the store answer nobody, or ends that. Leases lapse meanwhile.
func (m *Memory) SetDown(down bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.down = down
}

// enter begins a call; its caller unlocks if the error is nil.
func (m *Memory) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	if m.mu.down {
		m.mu.Unlock()
		return ErrDown
	}
	now := time.Now()
	maps.DeleteFunc(m.mu.leases, func(_ string, l memoryLease) bool { return !now.Before(l.lapses) })
	return nil
}

// Replaces reports whether a lease may be written over one that is there; see Leases.
func Replaces(l, there wire.Lease) bool {
	return l.Nonce == there.Nonce && l.Incarnation >= there.Incarnation ||
		l.Home != 0 && l.Home == there.Home && l.Incarnation > there.Incarnation
}

// Renew implements Leases.
func (m *Memory) Renew(ctx context.Context, l wire.Lease, ttl time.Duration) (wire.Lease, bool, error) {
	if err := m.enter(ctx); err != nil {
		return wire.Lease{}, false, err
	}
	defer m.mu.Unlock()
	if there, ok := m.mu.leases[l.ID]; ok && !Replaces(l, there.lease) {
		return there.lease, false, nil
	}
	m.mu.leases[l.ID] = memoryLease{l, time.Now().Add(ttl)}
	m.wakeLocked()
	return wire.Lease{}, true, nil
}

// Release implements Leases.
func (m *Memory) Release(ctx context.Context, l wire.Lease) error {
	if err := m.enter(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	if m.mu.leases[l.ID].lease.Nonce == l.Nonce {
		delete(m.mu.leases, l.ID)
		m.wakeLocked()
	}
	return nil
}

func (m *Memory) wakeLocked() {
	close(m.mu.changed)
	m.mu.changed = make(chan struct{})
}

// Watch implements Leases. It waits in its caller's goroutine.
func (m *Memory) Watch(ctx context.Context, seen func(wire.Lease, bool), sawAll func()) error {
	known := map[string]wire.Lease{}
	for {
		var gone, news []wire.Lease
		changed := (<-chan struct{})(nil)
		if err := m.enter(ctx); err == nil {
			for _, id := range slices.Sorted(maps.Keys(known)) {
				if _, ok := m.mu.leases[id]; !ok {
					gone = append(gone, known[id])
					delete(known, id)
				}
			}
			for _, id := range slices.Sorted(maps.Keys(m.mu.leases)) {
				if l := m.mu.leases[id].lease; known[id] != l {
					news = append(news, l)
					known[id] = l
				}
			}
			changed = m.mu.changed
			m.mu.Unlock()
		}
		for _, l := range gone {
			seen(l, false)
		}
		for _, l := range news {
			seen(l, true)
		}
		if changed != nil {
			sawAll()
		}
		timer := time.NewTimer(watchEvery)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}
