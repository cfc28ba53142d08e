// Package member makes a process a member of a cluster: it keeps the members' leases
// in the coordination store, and turns what APTA knows of the others into the rings by
// which workers, schedulers and duties choose.
package member

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"crier/scheduler/apta/node"
	"crier/scheduler/apta/wire"
	"crier/state/coord"
)

// prefix is where leases stand in the coordination store, each under its member's id.
const prefix = "members"

// Leases are the members' leases in a coordination store. They are safe for concurrent
// use.
type Leases struct {
	store coord.Store
	mu    struct {
		sync.Mutex
		turn    uint64
		written map[string]written
	}
}

// written is what was written here last of a lease.
type written struct {
	lease   wire.Lease
	version coord.Version
	turn    uint64 // of the writes, as they were begun
}

// NewLeases makes leases in a store.
func NewLeases(store coord.Store) *Leases {
	l := &Leases{store: store}
	l.mu.written = map[string]written{}
	return l
}

func key(id string) string { return prefix + "/" + id }

// version is what a lease is expected to have: that of what was written last, if it may be
// replaced. Leases of others are written here, too, and of a duplicate or a former start.
func (l *Leases) version(mine wire.Lease) coord.Version {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w := l.mu.written[mine.ID]; node.Replaces(mine, w.lease) {
		return w.version
	}
	return 0
}

func (l *Leases) begin() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.turn++
	return l.mu.turn
}

func (l *Leases) wrote(id string, w written) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.turn > l.mu.written[id].turn {
		l.mu.written[id] = w
	}
}

// write stores a lease. The version of one that is answered after ctx has ended is noted,
// too: else the next renewal would have to look first, take three times as long, and be
// late as well, and so on as long as the store is slow.
func (l *Leases) write(ctx context.Context, mine wire.Lease, value []byte, expect coord.Version, ttl time.Duration) error {
	turn := l.begin()
	answer := make(chan error, 1)
	go func() {
		long, cancel := context.WithTimeout(context.WithoutCancel(ctx), ttl)
		defer cancel()
		v, err := l.store.Lease(long, key(mine.ID), value, expect, ttl)
		if err == nil {
			l.wrote(mine.ID, written{mine, v, turn})
		}
		answer <- err
	}()
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Renew implements node.Leases.
func (l *Leases) Renew(ctx context.Context, mine wire.Lease, ttl time.Duration) (holder wire.Lease, ok bool, err error) {
	value, err := json.Marshal(mine)
	if err != nil {
		return wire.Lease{}, false, fmt.Errorf("encoding the lease of %s: %w", mine.ID, err)
	}
	// What was written last is what is there, but after a pause or a successor.
	for expect, looked := l.version(mine), false; ; looked = true {
		err := l.write(ctx, mine, value, expect, ttl)
		if err == nil {
			return wire.Lease{}, true, nil
		}
		if !errors.Is(err, coord.ErrConflict) || looked {
			return wire.Lease{}, false, fmt.Errorf("renewing the lease of member %s: %w", mine.ID, err)
		}
		holder, version, err := l.look(ctx, mine.ID)
		if err != nil {
			return wire.Lease{}, false, err
		}
		if version != 0 && !node.Replaces(mine, holder) {
			return holder, false, nil
		}
		expect = version
	}
}

// look reads a lease; version 0 says that there is none.
func (l *Leases) look(ctx context.Context, id string) (wire.Lease, coord.Version, error) {
	e, err := l.store.Get(ctx, key(id))
	if errors.Is(err, coord.ErrNotFound) {
		return wire.Lease{}, 0, nil
	}
	if err != nil {
		return wire.Lease{}, 0, fmt.Errorf("reading the lease of member %s: %w", id, err)
	}
	var have wire.Lease
	if err := json.Unmarshal(e.Value, &have); err != nil {
		return wire.Lease{}, 0, fmt.Errorf("decoding the lease of member %s: %w", id, err)
	}
	return have, e.Version, nil
}

// Release implements node.Leases.
func (l *Leases) Release(ctx context.Context, mine wire.Lease) error {
	have, version, err := l.look(ctx, mine.ID)
	if err != nil || version == 0 || have.Nonce != mine.Nonce {
		return err
	}
	if err := l.store.Delete(ctx, key(mine.ID), version); err != nil && !errors.Is(err, coord.ErrConflict) {
		return fmt.Errorf("releasing the lease of member %s: %w", mine.ID, err)
	}
	return nil
}

// Watch implements node.Leases.
func (l *Leases) Watch(ctx context.Context, saw func(lease wire.Lease, alive bool), answered func()) error {
	last := map[string]wire.Lease{}
	return l.store.Watch(ctx, prefix, func(c coord.Change) error {
		id := strings.TrimPrefix(c.Key, prefix+"/")
		if c.Gone {
			delete(last, id)
			saw(wire.Lease{Identity: wire.Identity{ID: id}}, false)
			return nil
		}
		var lease wire.Lease
		if err := json.Unmarshal(c.Value, &lease); err != nil {
			return fmt.Errorf("decoding the lease of member %s: %w", id, err)
		}
		lease.ID = id          // one of a process that is alone does not say it
		if last[id] != lease { // a renewal is no news
			last[id] = lease
			saw(lease, true)
		}
		return nil
	}, answered)
}
