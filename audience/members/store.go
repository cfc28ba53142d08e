package members

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"crier/audience"
	"crier/internal/idset"
	"crier/job"
)

// MaxIDs is the most ids that one Add or Remove takes; ImportIDs takes more.
const MaxIDs = 1_000_000

// tries is how often a change is worked out again because another process
// changed the set meanwhile.
const tries = 5

// Result tells what Add or Remove did.
type Result struct {
	Revision    uint64 `json:"revision"` // of the set now; as before if nothing changed
	Cardinality uint64 `json:"cardinality"`
	Changed     uint64 `json:"changed"`  // ids that were added or removed
	Already     uint64 `json:"already"`  // ids that were in already, or were not in
	Repeated    uint64 `json:"repeated"` // ids given more than once
}

// Add puts ids, in any order, into a set and tells its revision. Adding what is
// in already changes nothing and is counted.
func (s *Store) Add(ctx context.Context, key Key, ids []uint32) (Result, error) {
	return s.alter(ctx, key, ids, false)
}

// Remove takes ids, in any order, out of a set and tells its revision. Removing
// what is not in changes nothing and is counted.
func (s *Store) Remove(ctx context.Context, key Key, ids []uint32) (Result, error) {
	return s.alter(ctx, key, ids, true)
}

func (s *Store) alter(ctx context.Context, key Key, ids []uint32, remove bool) (Result, error) {
	if err := key.Validate(); err != nil {
		return Result{}, job.Invalid("key", "changing a versioned set", err)
	}
	if len(ids) > MaxIDs {
		return Result{}, &job.Error{Code: job.CodeTooLarge, Field: "ids",
			Message: fmt.Sprintf("%d ids are over the %d that one change takes; import them", len(ids), MaxIDs)}
	}
	sorted := slices.Compact(slices.Sorted(slices.Values(ids)))
	res, err := s.commit(ctx, key, remove, func(c *change) error { return putSorted(c, sorted) })
	res.Repeated = uint64(len(ids) - len(sorted))
	return res, err
}

// putSorted gives ascending ids to a change, range by range.
func putSorted(c *change, ids []uint32) error {
	for len(ids) > 0 {
		set := idset.New(job.Recipient(ids[0]).Range())
		n := 0
		for ; n < len(ids) && job.Recipient(ids[n]).Range() == set.Range; n++ {
			set.Add(ids[n])
		}
		if err := c.put(set); err != nil {
			return err
		}
		ids = ids[n:]
	}
	return nil
}

// commit works out and stores one change of one set. fill may be called again.
func (s *Store) commit(ctx context.Context, key Key, remove bool, fill func(*change) error) (Result, error) {
	unlock, err := s.lock(ctx, key)
	if err != nil {
		return Result{}, err
	}
	defer unlock()
	for try := 1; ; try++ {
		res, err := s.attempt(ctx, key, remove, fill)
		if !errors.Is(err, ErrStale) {
			return res, err
		}
		if try == tries {
			return Result{}, busy(key.String(), err)
		}
	}
}

func busy(what string, err error) error {
	return &job.Error{Code: job.CodeUnavailable, Err: err,
		Message: fmt.Sprintf("%s: others changed it %d times meanwhile; try again", what, tries)}
}

func (s *Store) attempt(ctx context.Context, key Key, remove bool, fill func(*change) error) (res Result, err error) {
	c, err := s.change(ctx, key, remove)
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	if err := fill(c); err != nil {
		return res, err
	}
	made, err := c.finish(ctx)
	if err != nil {
		return res, err
	}
	res = Result{Revision: made.Base, Cardinality: made.Cardinality, Changed: c.changed, Already: c.already}
	if made.IsEmpty() {
		return res, nil
	}
	res.Revision++
	_, err = s.cfg.Sets.Append(ctx, func(yield func(Change, error) bool) { yield(made, nil) })
	s.noteChange(key)
	return res, err
}

// noteChange tells the readers of suppression lists to look again. An append that
// gave an error may have been stored: looking again is harmless.
func (s *Store) noteChange(key Key) {
	if key.isSuppression() {
		s.suppressed.Add(1)
		if s.cfg.OnChange != nil {
			s.cfg.OnChange()
		}
	}
}

// Touch makes the readers of suppression lists look again: another process may have
// changed one.
func (s *Store) Touch() { s.suppressed.Add(1) }

// lock waits until no other change of the key is under way.
func (s *Store) lock(ctx context.Context, key Key) (unlock func(), err error) {
	i := (key.Owner*2654435761 ^ uint32(key.Kind)) % stripes
	if err := s.take(ctx, i); err != nil {
		return nil, err
	}
	return func() { s.locks[i] <- struct{}{} }, nil
}

// lockAll waits until no other change at all is under way.
func (s *Store) lockAll(ctx context.Context) (unlock func(), err error) {
	held := uint32(0)
	unlock = func() {
		for i := range held {
			s.locks[i] <- struct{}{}
		}
	}
	for ; held < stripes; held++ {
		if err := s.take(ctx, held); err != nil {
			unlock()
			return nil, err
		}
	}
	return unlock, nil
}

func (s *Store) take(ctx context.Context, i uint32) error {
	select {
	case <-s.locks[i]:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for another change of versioned sets: %w", ctx.Err())
	}
}

// Head gives the newest state of a set without its ids.
func (s *Store) Head(ctx context.Context, key Key) (Head, error) {
	if err := key.Validate(); err != nil {
		return Head{}, job.Invalid("key", "looking at a versioned set", err)
	}
	return s.cfg.Sets.Head(ctx, key)
}

// Pin is a revision of a set that stays readable by its blob.
type Pin struct {
	Revision    uint64     `json:"revision"`
	Blob        job.Digest `json:"blob"` // a recipient package of the set
	Cardinality uint64     `json:"cardinality"`
}

// Pin makes sure that the newest revision of a set is a snapshot and that it is
// kept. If nothing changed since the last snapshot, it writes at most one row.
// A set that was never changed gives the blob of an empty package.
func (s *Store) Pin(ctx context.Context, key Key) (Pin, error) {
	if err := key.Validate(); err != nil {
		return Pin{}, job.Invalid("key", "pinning a versioned set", err)
	}
	head, incs, err := s.cfg.Sets.Load(ctx, key)
	if err != nil {
		return Pin{}, err
	}
	snap := head.Snapshot
	if snap.Revision != head.Revision || head.Revision == 0 {
		snap = Snapshot{Revision: head.Revision, Cardinality: head.Cardinality}
		if snap.Blob, err = s.materialise(ctx, head, incs); err != nil {
			return Pin{}, err
		}
	}
	pin := Pin{head.Revision, snap.Blob, head.Cardinality}
	if snap.Pinned || head.Revision == 0 {
		return pin, nil
	}
	snap.Pinned = true
	return pin, s.cfg.Sets.AddSnapshot(ctx, key, snap)
}

// materialise writes a revision as a blob.
func (s *Store) materialise(ctx context.Context, head Head, incs []Increment) (digest job.Digest, err error) {
	r, err := s.reader(ctx, head, incs)
	if err != nil {
		return digest, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	w, err := audience.NewWriter(s.cfg.Scratch, snapshotName(head.Key))
	if err != nil {
		return digest, storing(head.Key, err)
	}
	defer w.Abort()
	for q := range r.Ranges() {
		set, err := r.Range(q)
		if err != nil {
			return digest, err
		}
		err = w.Add(set)
		set.Release()
		if err != nil {
			return digest, storing(head.Key, err)
		}
	}
	return s.seal(ctx, head.Key, w, head.Cardinality)
}
