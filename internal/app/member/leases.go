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

	"crier/scheduler/apta"
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
		versions map[string]coord.Version // of what was written here last
	}
}

// NewLeases makes leases in a store.
func NewLeases(store coord.Store) *Leases {
	l := &Leases{store: store}
	l.mu.versions = map[string]coord.Version{}
	return l
}

func key(id string) string { return prefix + "/" + id }

func (l *Leases) version(id string) coord.Version {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.versions[id]
}

func (l *Leases) wrote(id string, v coord.Version) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.versions[id] = v
}

// Renew writes a lease, if it is nobody's, or this process's own, or that of a process
// that is dead for sure: an earlier one of the same data directory. With Taken it gives
// the holder. An error means that the outcome is not known.
func (l *Leases) Renew(ctx context.Context, mine wire.Lease, ttl time.Duration) (apta.Outcome, wire.Lease, error) {
	value, err := json.Marshal(mine)
	if err != nil {
		return apta.Silent, wire.Lease{}, fmt.Errorf("encoding the lease of %s: %w", mine.ID, err)
	}
	// What was written last is what is there, but after a pause or a successor.
	for expect, looked := l.version(mine.ID), false; ; looked = true {
		v, err := l.store.Lease(ctx, key(mine.ID), value, expect, ttl)
		if err == nil {
			l.wrote(mine.ID, v)
			return apta.Renewed, wire.Lease{}, nil
		}
		if !errors.Is(err, coord.ErrConflict) || looked {
			return apta.Silent, wire.Lease{}, fmt.Errorf("renewing the lease of member %s: %w", mine.ID, err)
		}
		holder, version, err := l.look(ctx, mine.ID)
		if err != nil {
			return apta.Silent, wire.Lease{}, err
		}
		if version != 0 && !mayReplace(mine, holder) {
			return apta.Taken, holder, nil
		}
		expect = version
	}
}

// mayReplace reports whether a lease can be written over another one: by the process
// that wrote it, and by its successor, who holds the lock of its data directory.
func mayReplace(mine, have wire.Lease) bool {
	return mine.Nonce == have.Nonce && mine.Incarnation >= have.Incarnation ||
		mine.Home != 0 && mine.Home == have.Home && mine.Incarnation > have.Incarnation
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

// Release ends a lease, if this process still has it.
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

// Watch tells each lease that is there, and each change, until ctx ends; of one that is
// gone only the id is told. answered is called when all that the store has is told, and
// then at least every second while it answers.
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
		if last[id] != lease { // a renewal is no news
			last[id] = lease
			saw(lease, true)
		}
		return nil
	}, answered)
}
