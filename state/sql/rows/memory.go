package rows

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"crier/job"
	"crier/state/outbox"
)

// Memory is the twin of Outbox: whoever keeps projections in memory adds to it what
// the triggers would.
type Memory struct {
	now func() time.Time
	mu  struct {
		sync.Mutex
		last uint64 // id
		rows map[uint64]*memoryRow
	}
}

type memoryRow struct {
	outbox.Row
	published, leased time.Time
	by                string
}

var _ outbox.Rows = (*Memory)(nil)

// NewMemory makes an empty outbox; now is the clock of leases and marks.
func NewMemory(now func() time.Time) *Memory {
	m := &Memory{now: now}
	m.mu.rows = map[uint64]*memoryRow{}
	return m
}

// Add adds events.
func (m *Memory) Add(events ...job.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range events {
		m.mu.last++
		m.mu.rows[m.mu.last] = &memoryRow{Row: outbox.Row{ID: m.mu.last, Event: e}}
	}
}

func (m *Memory) sortedLocked(keep func(*memoryRow) bool) []*memoryRow {
	var all []*memoryRow
	for _, r := range m.mu.rows {
		if keep(r) {
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b *memoryRow) int { return cmp.Or(cmp.Compare(behind(a), behind(b)), cmp.Compare(a.ID, b.ID)) })
	return all
}

// behind is 1 for what goes behind the rest.
func behind(r *memoryRow) int {
	if r.Event.Set != nil {
		return 1
	}
	return 0
}

// Take implements outbox.Rows.
func (m *Memory) Take(_ context.Context, l outbox.Lease) ([]outbox.Row, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := m.now()
	free := m.sortedLocked(func(r *memoryRow) bool {
		return r.published.IsZero() && (!r.leased.After(at) || r.by == l.Owner)
	})
	var taken []outbox.Row
	for _, r := range free[:min(len(free), l.Limit, MaxRows)] {
		r.leased, r.by = at.Add(l.For), l.Owner
		taken = append(taken, r.Row)
	}
	return taken, nil
}

// Mark implements outbox.Rows.
func (m *Memory) Mark(_ context.Context, ids []uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range ids {
		if r := m.mu.rows[id]; r != nil && r.published.IsZero() {
			r.published = m.now()
		}
	}
	return nil
}

// Sweep implements outbox.Rows.
func (m *Memory) Sweep(_ context.Context, age time.Duration, limit int) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.now().Add(-age)
	old := m.sortedLocked(func(r *memoryRow) bool { return !r.published.IsZero() && r.published.Before(before) })
	old = old[:min(len(old), limit, MaxRows)]
	for _, r := range old {
		delete(m.mu.rows, r.ID)
	}
	return len(old), nil
}
