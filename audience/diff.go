package audience

import (
	"cmp"
	"context"
	"errors"
	"iter"

	"crier/internal/idset"
	"crier/job"
)

// Difference counts the ids of two sets.
type Difference struct {
	OnlyA uint64 `json:"only_a"`
	OnlyB uint64 `json:"only_b"`
	Both  uint64 `json:"both"`
}

// DiffPart is the part of a difference that lies in one range.
type DiffPart struct{ OnlyA, OnlyB, Both *idset.Set }

// Ranged is what Diff needs of a set: ascending ranges that have ids, and the ids
// of a range as a set that the caller releases. Both may be called again.
type Ranged interface {
	Ranges() iter.Seq2[job.Range, int]
	Range(job.Range) (*idset.Set, error)
}

// Diff compares two sets a range at a time; it holds five ranges (640 KiB). visit
// may be nil; it sees each range that either set has, in ascending order, and
// must not keep the sets. Its error ends the comparison.
func Diff(ctx context.Context, a, b Ranged, visit func(DiffPart) error) (Difference, error) {
	var d Difference
	for r := range union(a.Ranges(), b.Ranges()) {
		if err := ctx.Err(); err != nil {
			return d, err
		}
		if err := d.addRange(r, a, b, visit); err != nil {
			return d, err
		}
	}
	return d, nil
}

// union yields the ranges that either sequence has, in ascending order.
func union(a, b iter.Seq2[job.Range, int]) iter.Seq[job.Range] {
	return func(yield func(job.Range) bool) {
		nextA, stopA := iter.Pull2(a)
		defer stopA()
		nextB, stopB := iter.Pull2(b)
		defer stopB()
		ra, _, okA := nextA()
		rb, _, okB := nextB()
		for okA || okB {
			order := cmp.Compare(ra, rb)
			if !okB {
				order = -1
			} else if !okA {
				order = 1
			}
			r := ra
			if order > 0 {
				r = rb
			}
			if !yield(r) {
				return
			}
			if order <= 0 {
				ra, _, okA = nextA()
			}
			if order >= 0 {
				rb, _, okB = nextB()
			}
		}
	}
}

func (d *Difference) addRange(r job.Range, a, b Ranged, visit func(DiffPart) error) error {
	sa, err := a.Range(r)
	if err != nil {
		return err
	}
	defer sa.Release()
	sb, err := b.Range(r)
	if err != nil {
		return err
	}
	defer sb.Release()
	both := sa.Clone()
	defer both.Release()
	both.And(sb)
	sa.AndNot(both)
	sb.AndNot(both)
	d.OnlyA += uint64(sa.Card())
	d.OnlyB += uint64(sb.Card())
	d.Both += uint64(both.Card())
	if visit == nil {
		return nil
	}
	return visit(DiffPart{OnlyA: sa, OnlyB: sb, Both: both})
}

// DiffFiles verifies two envelopes and compares them; see Diff.
func DiffFiles(ctx context.Context, pathA, pathB string, visit func(DiffPart) error) (d Difference, err error) {
	a, err := openVerified(ctx, pathA)
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	b, err := openVerified(ctx, pathB)
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	return Diff(ctx, a, b, visit)
}
