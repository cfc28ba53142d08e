package members

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"crier/audience"
	"crier/internal/idset"
	"crier/job"
)

// change works out the next revision of one set from ids that come range by
// range. It holds one range and the encoded change; once that is larger than
// MaxChangeBytes, it goes on by writing the whole set anew.
type change struct {
	s      *Store
	head   Head
	old    *Reader
	remove bool

	enc     []byte // what is really added or removed so far
	next    int    // least range that may come
	changed uint64
	already uint64 // ids given that were in already, or not in

	w    *audience.Writer // the set anew, or nil
	left []job.Range      // of the old set, those not in w yet; at most 4,096
}

// change starts a change of a set at its head.
func (s *Store) change(ctx context.Context, key Key, remove bool) (*change, error) {
	head, incs, err := s.cfg.Sets.Load(ctx, key)
	if err != nil {
		return nil, err
	}
	old, err := s.reader(ctx, head, incs)
	if err != nil {
		return nil, err
	}
	return &change{s: s, head: head, old: old, remove: remove}, nil
}

// close frees what the change holds, whether it was finished or not.
func (c *change) close() error {
	if c.w != nil {
		c.w.Abort()
	}
	return c.old.Close()
}

// put takes the ids of the next range, which become the change's.
func (c *change) put(ids *idset.Set) error {
	defer ids.Release()
	if int(ids.Range) < c.next {
		return fmt.Errorf("changing the %s: range %s came after range %d", c.head.Key, ids.Range, c.next-1)
	}
	c.next = int(ids.Range) + 1
	given := ids.Card()
	if c.old.RangeCardinality(ids.Range) > 0 {
		was, err := c.old.Range(ids.Range)
		if err != nil {
			return err
		}
		if c.remove {
			ids.And(was)
		} else {
			ids.AndNot(was)
		}
		was.Release()
	} else if c.remove {
		ids.Release()
	}
	n := ids.Card()
	c.changed += uint64(n)
	c.already += uint64(given - n)
	switch {
	case n == 0:
		return nil
	case c.w != nil:
		return c.write(ids)
	}
	c.enc = ids.AppendTo(c.enc)
	if len(c.enc) > c.s.cfg.MaxChangeBytes {
		return c.rewrite()
	}
	return nil
}

// rewrite goes over to writing the whole set anew.
func (c *change) rewrite() error {
	w, err := audience.NewWriter(c.s.cfg.Scratch, snapshotName(c.head.Key))
	if err != nil {
		return storing(c.head.Key, err)
	}
	c.w = w
	for q := range c.old.Ranges() {
		c.left = append(c.left, q)
	}
	pieces, err := cut(c.enc, c.remove)
	if err != nil {
		return err
	}
	c.enc = nil
	for _, p := range pieces {
		s, _, err := idset.Decode(p.set)
		if err != nil {
			return err
		}
		err = c.write(s)
		s.Release()
		if err != nil {
			return err
		}
	}
	return nil
}

// write brings the new set up to and with the range of what changes there.
func (c *change) write(changed *idset.Set) error {
	if err := c.copyTo(int(changed.Range)); err != nil {
		return err
	}
	now, err := c.old.Range(changed.Range)
	if err != nil {
		return err
	}
	defer now.Release()
	if c.remove {
		now.AndNot(changed)
	} else {
		now.Or(changed)
	}
	if len(c.left) > 0 && c.left[0] == changed.Range {
		c.left = c.left[1:]
	}
	return storing(c.head.Key, c.w.Add(now))
}

// copyTo writes the ranges below an end as they were.
func (c *change) copyTo(end int) error {
	for ; len(c.left) > 0 && int(c.left[0]) < end; c.left = c.left[1:] {
		s, err := c.old.Range(c.left[0])
		if err != nil {
			return err
		}
		err = c.w.Add(s)
		s.Release()
		if err != nil {
			return storing(c.head.Key, err)
		}
	}
	return nil
}

// finish gives the change to append. It writes a snapshot's blob if the change
// is large, or if the increments would exceed their bounds with it.
func (c *change) finish(ctx context.Context) (Change, error) {
	made := Change{Key: c.head.Key, Base: c.head.Revision, Cardinality: c.head.Cardinality + c.changed}
	if c.remove {
		made.Cardinality = c.head.Cardinality - c.changed
	}
	cfg := &c.s.cfg
	if c.w == nil && c.changed > 0 && c.head.Revision > 0 &&
		(c.head.Increments >= cfg.MaxIncrements || c.head.IncrementBytes+uint64(len(c.enc)) > cfg.MaxIncrementBytes) {
		if err := c.rewrite(); err != nil {
			return Change{}, err
		}
	}
	if c.w == nil {
		if c.remove {
			made.Removes = c.enc
		} else {
			made.Adds = c.enc
		}
		return made, nil
	}
	if err := c.copyTo(job.Ranges); err != nil {
		return Change{}, err
	}
	var err error
	made.Snapshot, err = c.s.seal(ctx, c.head.Key, c.w, made.Cardinality)
	return made, err
}

// snapshotName is the name inside a snapshot's envelope.
func snapshotName(k Key) string {
	if k.Kind == KindGlobalSuppression {
		return k.Kind.String()
	}
	return fmt.Sprintf("%s-%d", k.Kind, k.Owner)
}

// seal makes a blob of a written set, which must have so many ids.
func (s *Store) seal(ctx context.Context, key Key, w *audience.Writer, card uint64) (digest job.Digest, err error) {
	d, err := w.Finish(0)
	if err != nil {
		return digest, storing(key, err)
	}
	defer func() { err = errors.Join(err, d.Discard()) }()
	if d.Info.Cardinality != card {
		return digest, fmt.Errorf("the new snapshot of the %s has %d ids and should have %d", key, d.Info.Cardinality, card)
	}
	f, err := os.Open(d.Path())
	if err != nil {
		return digest, storing(key, err)
	}
	defer f.Close()
	digest, _, err = s.cfg.Blobs.Put(ctx, f)
	return digest, storing(key, err)
}

// storing says what could not be stored; a full disk gets its code.
func storing(key Key, err error) error {
	switch {
	case err == nil || job.CodeOf(err) != "":
		return err
	case errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT):
		return &job.Error{Code: job.CodeFull, Err: err,
			Message: fmt.Sprintf("storing the %s: the disk is full; free some space and try again", key)}
	}
	return fmt.Errorf("storing the %s: %w", key, err)
}
