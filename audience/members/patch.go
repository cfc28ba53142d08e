package members

import (
	"cmp"
	"fmt"
	"slices"

	"crier/internal/idset"
	"crier/job"
)

// patch is what the increments of a set change in one range, against the set's
// snapshot. Both sets are encoded: decoded, a few ids in each of the 65,536
// containers would take 512 MiB.
type patch struct {
	r       job.Range
	adds    []byte // none is in the snapshot; nil if none
	removes []byte // all are in the snapshot; nil if none
	added   int
	removed int
}

// piece is one range's part of one increment.
type piece struct {
	r      job.Range
	remove bool
	set    []byte
}

// cut takes a sequence of encoded sets apart.
func cut(b []byte, remove bool) ([]piece, error) {
	var all []piece
	for len(b) > 0 {
		s, n, err := idset.Decode(b)
		if err != nil {
			return nil, err
		}
		if len(all) > 0 && all[len(all)-1].r >= s.Range {
			return nil, fmt.Errorf("range %s does not come after range %s", s.Range, all[len(all)-1].r)
		}
		all = append(all, piece{s.Range, remove, b[:n:n]})
		s.Release()
		b = b[n:]
	}
	return all, nil
}

// fold makes one patch a range of increments in ascending order. It holds one
// range decoded at a time.
func fold(incs []Increment) ([]patch, error) {
	var all []piece
	for _, inc := range incs {
		adds, err := cut(inc.Adds, false)
		if err != nil {
			return nil, fmt.Errorf("increment %d is damaged: %w", inc.Revision, err)
		}
		removes, err := cut(inc.Removes, true)
		if err != nil {
			return nil, fmt.Errorf("increment %d is damaged: %w", inc.Revision, err)
		}
		all = append(append(all, adds...), removes...)
	}
	slices.SortStableFunc(all, func(a, b piece) int { return cmp.Compare(a.r, b.r) })
	var patches []patch
	for len(all) > 0 {
		n := 1
		for n < len(all) && all[n].r == all[0].r {
			n++
		}
		p, err := foldRange(all[:n])
		if err != nil {
			return nil, err
		}
		if p.adds != nil || p.removes != nil {
			patches = append(patches, p)
		}
		all = all[n:]
	}
	return patches, nil
}

// foldRange adds up the pieces of one range. An id that was added and removed
// again leaves nothing, whether it was in the snapshot or not.
func foldRange(pieces []piece) (patch, error) {
	r := pieces[0].r
	adds, removes := idset.New(r), idset.New(r)
	defer adds.Release()
	defer removes.Release()
	for _, p := range pieces {
		s, _, err := idset.Decode(p.set)
		if err != nil {
			return patch{}, err
		}
		undone, done := removes, adds
		if p.remove {
			undone, done = adds, removes
		}
		both := s.Clone()
		both.And(undone)
		undone.AndNot(both)
		s.AndNot(both)
		done.Or(s)
		both.Release()
		s.Release()
	}
	return patch{r: r, adds: encode(adds), removes: encode(removes), added: adds.Card(), removed: removes.Card()}, nil
}

// encode gives the bytes of a set, nil if it is empty.
func encode(s *idset.Set) []byte {
	if s.IsEmpty() {
		return nil
	}
	return s.AppendTo(nil)
}

// apply changes a range of the snapshot to what it is after the increments.
func (p patch) apply(s *idset.Set) error {
	if err := with(p.removes, s.AndNot); err != nil {
		return err
	}
	return with(p.adds, s.Or)
}

// with shows the decoded set to use, if there is one.
func with(b []byte, use func(*idset.Set)) error {
	if b == nil {
		return nil
	}
	s, _, err := idset.Decode(b)
	if err != nil {
		return err
	}
	use(s)
	s.Release()
	return nil
}
