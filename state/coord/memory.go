package coord

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// ErrDown is what a Memory answers while it is down.
var ErrDown = errors.New("coordination: the store does not answer")

// lookEvery is how often a watcher of a Memory looks, if nothing happens.
const lookEvery = 300 * time.Millisecond

// Memory is a Store in memory: the twin of the real one, for tests and
// simulation. It starts no goroutine. A lease lapses when any call or a watcher
// looks at the clock after its time.
type Memory struct {
	now func() time.Time
	mu  struct {
		sync.Mutex
		entries map[string]memoryEntry
		version Version
		down    bool
		changed chan struct{} // closed and replaced at each change
	}
}

type memoryEntry struct {
	value   []byte
	version Version
	lapses  time.Time // zero: never
}

var _ Store = (*Memory)(nil)

// NewMemory makes an empty store with a clock; nil is time.Now.
func NewMemory(now func() time.Time) *Memory {
	if now == nil {
		now = time.Now
	}
	m := &Memory{now: now}
	m.mu.entries = make(map[string]memoryEntry)
	m.mu.changed = make(chan struct{})
	return m
}

// SetDown makes all calls fail with ErrDown and watchers see nothing, or ends
// that. Leases lapse meanwhile.
func (m *Memory) SetDown(down bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.down = down
	m.wakeLocked()
}

// Look makes the watchers look at the clock; a test that moves its clock calls it.
func (m *Memory) Look() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wakeLocked()
}

func (m *Memory) wakeLocked() {
	close(m.mu.changed)
	m.mu.changed = make(chan struct{})
}

// enter begins a call: it locks, and takes away what has lapsed. Its caller
// unlocks if the error is nil.
func (m *Memory) enter(ctx context.Context, doing, key string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("coordination: %s %q: %w", doing, key, err)
	}
	m.mu.Lock()
	if m.mu.down {
		m.mu.Unlock()
		return fmt.Errorf("%s %q: %w", doing, key, ErrDown)
	}
	m.lapseLocked()
	return nil
}

func (m *Memory) lapseLocked() {
	now := m.now()
	n := len(m.mu.entries)
	maps.DeleteFunc(m.mu.entries, func(_ string, e memoryEntry) bool { return !e.lapses.IsZero() && !now.Before(e.lapses) })
	if len(m.mu.entries) < n {
		m.wakeLocked()
	}
}

// Get implements Store.
func (m *Memory) Get(ctx context.Context, key string) (Entry, error) {
	if err := CheckKey(key); err != nil {
		return Entry{}, err
	}
	if err := m.enter(ctx, "reading", key); err != nil {
		return Entry{}, err
	}
	defer m.mu.Unlock()
	e, ok := m.mu.entries[key]
	if !ok {
		return Entry{}, fmt.Errorf("reading %q: %w", key, ErrNotFound)
	}
	return Entry{key, bytes.Clone(e.value), e.version}, nil
}

// Put implements Store.
func (m *Memory) Put(ctx context.Context, key string, value []byte, expect Version) (Version, error) {
	return m.put(ctx, key, value, expect, 0)
}

// Lease implements Store.
func (m *Memory) Lease(ctx context.Context, key string, value []byte, expect Version, ttl time.Duration) (Version, error) {
	ttl, err := RoundTTL(ttl)
	if err != nil {
		return 0, err
	}
	return m.put(ctx, key, value, expect, ttl)
}

func (m *Memory) put(ctx context.Context, key string, value []byte, expect Version, ttl time.Duration) (Version, error) {
	if err := errors.Join(CheckKey(key), CheckValue(value)); err != nil {
		return 0, err
	}
	if err := m.enter(ctx, "storing", key); err != nil {
		return 0, err
	}
	defer m.mu.Unlock()
	if have := m.mu.entries[key].version; have != expect {
		return 0, fmt.Errorf("storing %q: %w (%d, not %d)", key, ErrConflict, have, expect)
	}
	m.mu.version++
	e := memoryEntry{value: bytes.Clone(value), version: m.mu.version}
	if ttl > 0 {
		e.lapses = m.now().Add(ttl)
	}
	m.mu.entries[key] = e
	m.wakeLocked()
	return e.version, nil
}

// Delete implements Store.
func (m *Memory) Delete(ctx context.Context, key string, expect Version) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	if err := m.enter(ctx, "deleting", key); err != nil {
		return err
	}
	defer m.mu.Unlock()
	e, ok := m.mu.entries[key]
	if !ok || e.version != expect {
		return fmt.Errorf("deleting %q: %w (%d, not %d)", key, ErrConflict, e.version, expect)
	}
	delete(m.mu.entries, key)
	m.wakeLocked()
	return nil
}

// List implements Store.
func (m *Memory) List(ctx context.Context, prefix string) ([]Entry, error) {
	if err := CheckPrefix(prefix); err != nil {
		return nil, err
	}
	if err := m.enter(ctx, "listing", prefix); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	list := m.underLocked(prefix)
	slices.SortFunc(list, func(a, b Entry) int { return cmp.Compare(a.Key, b.Key) })
	return list, nil
}

func (m *Memory) underLocked(prefix string) []Entry {
	var list []Entry
	for key, e := range m.mu.entries {
		if Under(key, prefix) {
			list = append(list, Entry{key, bytes.Clone(e.value), e.version})
		}
	}
	return list
}

// Watch implements Store. It waits in its caller's goroutine.
func (m *Memory) Watch(ctx context.Context, prefix string, fn func(Change) error, sawAll func()) error {
	if err := CheckPrefix(prefix); err != nil {
		return err
	}
	known := make(map[string]Version)
	for {
		changes, answered, changed := m.look(prefix, known)
		for _, c := range changes {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := fn(c); err != nil {
				return err
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if answered && sawAll != nil {
			sawAll()
		}
		t := time.NewTimer(lookEvery)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-t.C:
		}
		t.Stop()
	}
}

// look compares the store with what a watcher knows, which it brings up to date:
// what is gone comes first, then what is new in the order it was stored.
func (m *Memory) look(prefix string, known map[string]Version) (changes []Change, answered bool, changed <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lapseLocked()
	if m.mu.down {
		return nil, false, m.mu.changed
	}
	for _, key := range slices.Sorted(maps.Keys(known)) {
		if _, ok := m.mu.entries[key]; !ok {
			changes = append(changes, Change{Entry: Entry{Key: key}, Gone: true})
			delete(known, key)
		}
	}
	list := m.underLocked(prefix)
	slices.SortFunc(list, func(a, b Entry) int { return cmp.Compare(a.Version, b.Version) })
	for _, e := range list {
		if known[e.Key] != e.Version {
			changes = append(changes, Change{Entry: e})
			known[e.Key] = e.Version
		}
	}
	return changes, true, m.mu.changed
}
