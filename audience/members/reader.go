package members

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"crier/audience"
	"crier/internal/idset"
	"crier/job"
	"crier/state/blob"
)

// Reader shows a set at one revision. It never changes and is safe for concurrent
// use. Close it after use; a read after that is audience.ErrClosed or shows a set
// without a snapshot.
type Reader struct {
	key      Key
	revision uint64
	card     uint64
	base     *audience.Set // nil if there is no snapshot
	blob     *blob.Handle  // under base, nil if it is mapped
	patches  []patch       // by range
}

// Key names the set; it is zero if the reader was opened by blob.
func (r *Reader) Key() Key { return r.key }

// Revision is the revision shown; it is 0 if the reader was opened by blob.
func (r *Reader) Revision() uint64 { return r.revision }

// Cardinality is the number of ids.
func (r *Reader) Cardinality() uint64 { return r.card }

// patch finds what the increments change in a range.
func (r *Reader) patch(q job.Range) (patch, bool) {
	i, ok := slices.BinarySearchFunc(r.patches, q, func(p patch, q job.Range) int { return int(p.r) - int(q) })
	if !ok {
		return patch{}, false
	}
	return r.patches[i], true
}

// Range gives the ids of one range; the set is the caller's to release. A range
// without ids gives an empty set.
func (r *Reader) Range(q job.Range) (*idset.Set, error) {
	s := idset.New(q)
	if r.base != nil {
		var err error
		if s, err = r.base.Range(q); err != nil {
			return nil, fmt.Errorf("reading the snapshot of the %s: %w", r.key, err)
		}
	}
	if p, ok := r.patch(q); ok {
		if err := p.apply(s); err != nil {
			s.Release()
			return nil, fmt.Errorf("reading the increments of the %s: %w", r.key, err)
		}
	}
	return s, nil
}

// RangeCardinality is the number of ids of one range. It reads no ids.
func (r *Reader) RangeCardinality(q job.Range) int {
	n := 0
	if r.base != nil {
		n = r.base.RangeCardinality(q)
	}
	if p, ok := r.patch(q); ok {
		n += p.added - p.removed
	}
	return n
}

// Ranges yields, in ascending order, the ranges that have ids, and how many. It
// reads no ids.
func (r *Reader) Ranges() iter.Seq2[job.Range, int] {
	return func(yield func(job.Range, int) bool) {
		left := r.patches // those not yielded yet
		for q, n := range r.baseRanges() {
			for ; len(left) > 0 && left[0].r < q; left = left[1:] {
				if !yield(left[0].r, left[0].added) {
					return
				}
			}
			if len(left) > 0 && left[0].r == q {
				n += left[0].added - left[0].removed
				left = left[1:]
			}
			if n > 0 && !yield(q, n) {
				return
			}
		}
		for _, p := range left {
			if !yield(p.r, p.added) {
				return
			}
		}
	}
}

// baseRanges is Ranges of the snapshot.
func (r *Reader) baseRanges() iter.Seq2[job.Range, int] {
	if r.base == nil {
		return func(func(job.Range, int) bool) {}
	}
	return r.base.Ranges()
}

// Close frees what the reader holds. Closing again does nothing.
func (r *Reader) Close() error {
	if r.base == nil {
		return nil
	}
	err := r.base.Close()
	if r.blob != nil {
		err = errors.Join(err, r.blob.Close())
	}
	return err
}

// Current shows a set at its newest revision.
func (s *Store) Current(ctx context.Context, key Key) (*Reader, error) {
	if err := key.Validate(); err != nil {
		return nil, job.Invalid("key", "reading a versioned set", err)
	}
	head, incs, err := s.cfg.Sets.Load(ctx, key)
	if err != nil {
		return nil, err
	}
	return s.reader(ctx, head, incs)
}

// At shows a set at a revision: any from the newest snapshot on, or an older one
// that was pinned. Others are job.CodeNotFound.
func (s *Store) At(ctx context.Context, key Key, revision uint64) (*Reader, error) {
	if err := key.Validate(); err != nil {
		return nil, job.Invalid("key", "reading a versioned set", err)
	}
	head, incs, err := s.cfg.Sets.Load(ctx, key)
	if err != nil {
		return nil, err
	}
	switch {
	case revision > head.Revision:
		return nil, job.NotFound(fmt.Sprintf("%s: there is no revision %d yet, the newest is %d", key, revision, head.Revision))
	case revision == 0:
		return &Reader{key: key}, nil
	case revision < head.Snapshot.Revision:
		snap, err := s.cfg.Sets.SnapshotAt(ctx, key, revision)
		if errors.Is(err, ErrNoSnapshot) {
			return nil, job.NotFound(fmt.Sprintf("%s: revision %d is no longer kept; those from %d to %d are, and older ones that a job pinned",
				key, revision, head.Snapshot.Revision, head.Revision))
		}
		if err != nil {
			return nil, err
		}
		return s.reader(ctx, Head{Key: key, Revision: revision, Cardinality: snap.Cardinality, Snapshot: snap}, nil)
	}
	incs = slices.DeleteFunc(incs, func(i Increment) bool { return i.Revision > revision })
	head.Revision, head.Cardinality = revision, head.Snapshot.Cardinality
	if len(incs) > 0 {
		head.Cardinality = incs[len(incs)-1].Cardinality
	}
	return s.reader(ctx, head, incs)
}

// Pinned shows the set that a blob holds, as Pin gave it.
func (s *Store) Pinned(ctx context.Context, digest job.Digest) (*Reader, error) {
	r := &Reader{}
	if err := r.openBase(ctx, s.cfg.Blobs, digest); err != nil {
		return nil, fmt.Errorf("opening a pinned set: %w", err)
	}
	r.card = r.base.Cardinality()
	return r, nil
}

// reader makes the reader of a snapshot and all increments after it, and checks
// that they are complete.
func (s *Store) reader(ctx context.Context, head Head, incs []Increment) (*Reader, error) {
	whole := head.Snapshot.Revision+uint64(len(incs)) == head.Revision
	for n, i := range incs {
		whole = whole && i.Revision == head.Snapshot.Revision+uint64(n)+1
	}
	if !whole {
		return nil, fmt.Errorf("%s: the increments from revision %d to %d are not all there; restore the SQL store",
			head.Key, head.Snapshot.Revision+1, head.Revision)
	}
	patches, err := fold(incs)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", head.Key, err)
	}
	r := &Reader{key: head.Key, revision: head.Revision, card: head.Cardinality, patches: patches}
	if head.Snapshot.Revision == 0 {
		return r, nil
	}
	if err := r.openBase(ctx, s.cfg.Blobs, head.Snapshot.Blob); err != nil {
		return nil, fmt.Errorf("opening the snapshot of the %s: %w", head.Key, err)
	}
	if got := r.base.Cardinality(); got != head.Snapshot.Cardinality {
		err := fmt.Errorf("the snapshot of the %s has %d ids and should have %d", head.Key, got, head.Snapshot.Cardinality)
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// openBase opens a snapshot: mapped if it is a file, else read by its handle.
func (r *Reader) openBase(ctx context.Context, blobs Blobs, digest job.Digest) error {
	h, err := blobs.Open(ctx, digest)
	if err != nil {
		return err
	}
	if h.Path() == "" {
		if r.base, err = audience.OpenReaderAt(h, h.Size()); err != nil {
			return errors.Join(err, h.Close())
		}
		r.blob = h
		return nil
	}
	if r.base, err = audience.Open(h.Path()); err != nil {
		return errors.Join(err, h.Close())
	}
	return h.Close()
}
