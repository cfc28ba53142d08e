package client

import (
	"crypto/rand"
	"maps"
	"slices"
	"sync"
)

// Memory is a Store that lasts as long as the process. It is safe for concurrent use.
type Memory struct {
	client string

	mu struct {
		sync.Mutex
		ids map[string]struct{}
	}
}

// NewMemory makes an empty Memory with a client id of its own.
func NewMemory() *Memory {
	m := &Memory{client: rand.Text()}
	m.mu.ids = map[string]struct{}{}
	return m
}

// Load implements Store.
func (m *Memory) Load() (string, []string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.client, slices.Sorted(maps.Keys(m.mu.ids)), nil
}

// Add implements Store.
func (m *Memory) Add(id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.ids[id] = struct{}{}
	return nil
}

// Forget implements Store.
func (m *Memory) Forget(ids []string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range ids {
		delete(m.mu.ids, id)
	}
	return nil
}

// Sync implements Store.
func (m *Memory) Sync() error { return nil }
