package groups

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"crier/job"
)

// Memory is the twin of Segments and Salts.
type Memory struct {
	now func() time.Time
	mu  struct {
		sync.Mutex
		segments []Segment // by number, from 1
		salts    map[uint32]job.Digest
	}
}

// NewMemory makes an empty one; now is the clock of its times.
func NewMemory(now func() time.Time) *Memory {
	m := &Memory{now: now}
	m.mu.salts = map[uint32]job.Digest{}
	return m
}

func (m *Memory) findLocked(name string) *Segment {
	for i := range m.mu.segments {
		if m.mu.segments[i].Name == name {
			return &m.mu.segments[i]
		}
	}
	return nil
}

// NameOf is the name of the segment with a number; "" if there is none.
func (m *Memory) NameOf(number uint32) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if number == 0 || int(number) > len(m.mu.segments) {
		return ""
	}
	return m.mu.segments[number-1].Name
}

// Create is as Segments'.
func (m *Memory) Create(_ context.Context, name string) (Segment, error) {
	if err := checkName(name); err != nil {
		return Segment{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if old := m.findLocked(name); old != nil {
		return Segment{}, nameTaken(*old)
	}
	s := Segment{Number: uint32(len(m.mu.segments) + 1), Name: name, CreatedAt: m.now().UTC()}
	m.mu.segments = append(m.mu.segments, s)
	return s, nil
}

// Find is as Segments'.
func (m *Memory) Find(_ context.Context, name string) (Segment, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.findLocked(name); s != nil {
		return *s, nil
	}
	return Segment{}, noSegment(name)
}

// List is as Segments'.
func (m *Memory) List(_ context.Context, archived bool, after string, limit int) ([]Segment, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := slices.DeleteFunc(slices.Clone(m.mu.segments), func(s Segment) bool {
		return s.ArchivedAt.IsZero() == archived || s.Name <= after
	})
	slices.SortFunc(all, func(a, b Segment) int { return cmp.Compare(a.Name, b.Name) })
	return all[:min(len(all), limit, maxPage)], nil
}

// Archive is as Segments'.
func (m *Memory) Archive(_ context.Context, name string, archived bool) (Segment, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.findLocked(name)
	switch {
	case s == nil:
		return Segment{}, noSegment(name)
	case !archived:
		s.ArchivedAt = time.Time{}
	case s.ArchivedAt.IsZero():
		s.ArchivedAt = m.now().UTC()
	}
	return *s, nil
}

// Of is as Salts'.
func (m *Memory) Of(_ context.Context, account uint32) (job.Digest, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	salt, ok := m.mu.salts[account]
	if !ok {
		salt = newSalt()
		m.mu.salts[account] = salt
	}
	return salt, nil
}
