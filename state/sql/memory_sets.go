package sql

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"

	"crier/audience/members"
	"crier/job"
	"crier/state/sql/sets"
)

type setKey = members.Key

// memorySet is one versioned set. It is never changed but replaced.
type memorySet struct {
	revision, cardinality uint64
	increments            []members.Increment         // after the newest snapshot
	snapshots             map[uint64]members.Snapshot // by revision
	newest                uint64                      // revision of the newest snapshot
}

func (s *memorySet) clone() *memorySet {
	c := &memorySet{snapshots: map[uint64]members.Snapshot{}}
	if s != nil {
		*c = *s
		c.increments = slices.Clone(s.increments)
		c.snapshots = maps.Clone(s.snapshots)
	}
	return c
}

func (s *memorySet) head(key members.Key) members.Head {
	if s == nil {
		return members.Head{Key: key}
	}
	h := members.Head{Key: key, Revision: s.revision, Cardinality: s.cardinality,
		Snapshot: s.snapshots[s.newest], Increments: len(s.increments)}
	for _, i := range s.increments {
		h.IncrementBytes += uint64(len(i.Adds) + len(i.Removes))
	}
	return h
}

// snap records a snapshot and forgets what it makes needless.
func (s *memorySet) snap(n members.Snapshot) {
	if n.Revision < s.newest && !n.Pinned {
		return
	}
	if old, ok := s.snapshots[n.Revision]; ok {
		old.Pinned = old.Pinned || n.Pinned
		n = old
	}
	s.snapshots[n.Revision] = n
	if n.Revision <= s.newest {
		return
	}
	s.newest = n.Revision
	s.increments = slices.DeleteFunc(s.increments, func(i members.Increment) bool { return i.Revision <= n.Revision })
	maps.DeleteFunc(s.snapshots, func(r uint64, x members.Snapshot) bool { return r < n.Revision && !x.Pinned })
}

// MemorySets is the twin of sets.Sets.
type MemorySets struct{ m *memory }

var _ members.Sets = (*MemorySets)(nil)

// Head implements members.Sets.
func (s *MemorySets) Head(_ context.Context, key members.Key) (members.Head, error) {
	s.m.Lock()
	defer s.m.Unlock()
	return s.m.sets[key].head(key), nil
}

// Scan implements members.Sets.
func (s *MemorySets) Scan(_ context.Context, kind members.Kind, from uint32, limit int) ([]members.Head, error) {
	s.m.Lock()
	defer s.m.Unlock()
	var heads []members.Head
	for k, set := range s.m.sets {
		if k.Kind == kind && k.Owner >= from {
			heads = append(heads, set.head(k))
		}
	}
	slices.SortFunc(heads, func(a, b members.Head) int { return cmp.Compare(a.Owner, b.Owner) })
	return heads[:min(len(heads), limit)], nil
}

// Load implements members.Sets.
func (s *MemorySets) Load(_ context.Context, key members.Key) (members.Head, []members.Increment, error) {
	s.m.Lock()
	defer s.m.Unlock()
	set := s.m.sets[key]
	if set == nil {
		return members.Head{Key: key}, nil, nil
	}
	return set.head(key), slices.Clone(set.increments), nil
}

// Append implements members.Sets.
func (s *MemorySets) Append(_ context.Context, changes iter.Seq2[members.Change, error]) (int, error) {
	var all []members.Change
	for c, err := range changes { // outside the lock: whoever makes them may read this store
		if err != nil {
			return 0, err
		}
		c.Adds, c.Removes = slices.Clone(c.Adds), slices.Clone(c.Removes)
		all = append(all, c)
	}
	s.m.Lock()
	defer s.m.Unlock()
	changed := map[members.Key]*memorySet{}
	var accounts []uint32
	type applied struct {
		members.Change
		was uint64
	}
	var told []applied
	for _, c := range all {
		if c.MakeAccount {
			accounts = append(accounts, c.Owner)
		}
		if c.IsEmpty() {
			continue
		}
		set := s.m.sets[c.Key].clone()
		if set.revision != c.Base || changed[c.Key] != nil {
			return 0, sets.Stale(c.Key, c.Base)
		}
		told = append(told, applied{c, set.cardinality})
		set.revision, set.cardinality = c.Base+1, c.Cardinality
		if c.Snapshot.IsZero() {
			set.increments = append(set.increments, members.Increment{Revision: set.revision,
				Adds: c.Adds, Removes: c.Removes, Cardinality: c.Cardinality})
		} else {
			set.snap(members.Snapshot{Revision: set.revision, Blob: c.Snapshot, Cardinality: c.Cardinality})
		}
		changed[c.Key] = set
	}
	maps.Copy(s.m.sets, changed)
	made := s.m.createMissingLocked(accounts)
	for _, c := range told {
		s.m.tellLocked(c.Change, c.was)
	}
	return made, nil
}

// tellLocked adds to the outbox what a trigger would of a change; was is the set's
// cardinality before it.
func (m *memory) tellLocked(c members.Change, was uint64) {
	set := &job.SetChange{Kind: c.Kind.String(), Number: c.Owner, Recipients: c.Cardinality, Changed: c.Cardinality - was}
	e := job.Event{Set: set, Version: c.Base + 1, State: job.SetAdded, At: m.now().UTC()}
	if c.Cardinality < was {
		e.State, set.Changed = job.SetRemoved, was-c.Cardinality
	}
	switch c.Kind {
	case members.KindFollowers, members.KindSuppression:
		set.Name, set.Tenant = m.byNumber[c.Owner].Name, m.byNumber[c.Owner].Tenant
	case members.KindSegment:
		set.Name, set.Tenant = m.segments.NameOf(c.Owner), job.DefaultTenant
	}
	m.outbox.Add(e)
}

// AddSnapshot implements members.Sets.
func (s *MemorySets) AddSnapshot(_ context.Context, key members.Key, snap members.Snapshot) error {
	s.m.Lock()
	defer s.m.Unlock()
	set := s.m.sets[key].clone()
	if set.revision < snap.Revision || snap.Revision == 0 {
		return sets.Stale(key, snap.Revision)
	}
	set.snap(snap)
	s.m.sets[key] = set
	return nil
}

// SnapshotAt implements members.Sets.
func (s *MemorySets) SnapshotAt(_ context.Context, key members.Key, revision uint64) (members.Snapshot, error) {
	s.m.Lock()
	defer s.m.Unlock()
	if set := s.m.sets[key]; set != nil {
		if snap, ok := set.snapshots[revision]; ok {
			return snap, nil
		}
	}
	return members.Snapshot{}, fmt.Errorf("%s: revision %d: %w", key, revision, members.ErrNoSnapshot)
}
