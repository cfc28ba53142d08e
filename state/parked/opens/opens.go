// Package opens is what reserves and drains have handed to gateways and nobody has answered
// yet, and the rows that the index keeps of it.
//
// Most of it is answered at once and wholly, so that what one record opened in a range at one
// incarnation is one row, which says nothing but where in the ledger the targets stand. What is
// answered in part gets a row of its own, with those that are left.
//
//	range 'o' journal n inc     sequence of the record; the entries that are as it says
//	range 'r' job ref inc       recipients that are left of an entry's targets
package opens

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"slices"

	"crier/internal/bin"
	"crier/internal/idset"
	"crier/job"
	"crier/state/parked/kv"
	"crier/state/parked/row"
)

const (
	rowWhole = 'o'
	rowRest  = 'r'
)

// Name is of what one entry handed to one incarnation.
type Name struct {
	Range job.Range
	Job   job.ID
	Ref   job.Ref
	Inc   job.Incarnation
}

// Open is the still open part of a reserve at one incarnation. It is never changed, but
// replaced.
type Open struct {
	Name
	Set     *idset.Set // for reading only
	Doubted bool       // in doubt, but not for good; who was decided meanwhile is in Set, too
	// Seq is the record in the ledger whose targets are Set, as long as they are; else 0.
	Seq uint64
}

// record names what one record opened in a range at one incarnation.
type record struct {
	r   job.Range
	j   job.Journal
	n   uint64
	inc job.Incarnation
}

func (n Name) record() record { return record{n.Range, n.Ref.Journal, n.Ref.N, n.Inc} }

func (r record) key() []byte {
	var w bin.Writer
	w.Journal(r.j)
	w.Uint(r.n)
	w.Incarnation(r.inc)
	return row.Key(r.r, rowWhole, w.B)
}

func (n Name) restKey() []byte {
	return row.Key(n.Range, rowRest, n.Job[:], row.Ref(n.Ref), row.Incarnation(n.Inc))
}

// list is what one record opened, by entry.
type list []*Open

func (l list) find(n Name) (at int, found bool) {
	at, found = slices.BinarySearchFunc(l, n.Ref.Entry, func(o *Open, entry uint16) int { return cmp.Compare(o.Ref.Entry, entry) })
	return at, found && l[at].Job == n.Job
}

func (l list) get(n Name) *Open {
	if at, ok := l.find(n); ok {
		return l[at]
	}
	return nil
}

// whole is the value of the row of those that are as the record says; nil if none is.
func (l list) whole() []byte {
	var w bin.Writer
	for _, o := range l {
		if o.Seq == 0 {
			continue
		}
		if w.B == nil {
			w.Uint(o.Seq)
		}
		w.Uint(uint64(o.Ref.Entry))
	}
	return w.B
}

// Table is all that is open, bounded by the blocks that are. The zero value has nothing. It is
// not safe for concurrent use.
type Table struct {
	of map[record]list
}

// Get gives what is open under a name, or nil.
func (t *Table) Get(n Name) *Open { return t.of[n.record()].get(n) }

// All gives everything, in no order.
func (t *Table) All() iter.Seq[*Open] {
	return func(yield func(*Open) bool) {
		for _, l := range t.of {
			for _, o := range l {
				if !yield(o) {
					return
				}
			}
		}
	}
}

// Targets reads what an entry of a record in the ledger hands to an incarnation, and of which job.
type Targets func(seq uint64, entry uint16, inc job.Incarnation) (job.ID, *idset.Set, error)

// Load takes in the rows of a range.
func (t *Table) Load(r job.Range, rows kv.Store, targets Targets) error {
	ahead := NewAhead(t)
	prefix := row.Key(r, rowWhole)
	err := rows.Scan(prefix, row.After(prefix), func(k, v []byte) error {
		key, val := bin.NewReader(k[len(prefix):]), bin.NewReader(v)
		o := Open{Name: Name{Range: r, Ref: job.Ref{Journal: key.Journal(), N: key.Uint()}, Inc: key.Incarnation()}, Seq: val.Uint()}
		if err := key.Err(true); err != nil {
			return err
		}
		for val.Len() > 0 {
			o := o
			o.Ref.Entry = uint16(val.Max(1<<16 - 1))
			if err := val.Err(false); err != nil {
				return err
			}
			var err error
			if o.Job, o.Set, err = targets(o.Seq, o.Ref.Entry, o.Inc); err != nil {
				return fmt.Errorf("reading reserve %s from the ledger: %w", o.Ref, err)
			}
			ahead.Put(&o)
		}
		return val.Err(true)
	})
	if err != nil {
		return err
	}
	prefix = row.Key(r, rowRest)
	err = rows.Scan(prefix, row.After(prefix), func(k, v []byte) error {
		key := bin.NewReader(k[len(prefix):])
		o := &Open{Name: Name{Range: r, Job: key.JobID(), Ref: key.Ref(), Inc: key.Incarnation()}}
		s, err := row.Set(v)
		if err := errors.Join(key.Err(true), err); err != nil {
			return err
		}
		o.Set = s
		ahead.Put(o)
		return nil
	})
	if err != nil {
		return err
	}
	ahead.Written()
	return nil
}

// Needs gives the record of the ledger without which a row of the index could not be read; ok
// is false if there is none.
func Needs(key, value []byte) (seq uint64, ok bool, err error) {
	if !row.Is(key, rowWhole) {
		return 0, false, nil
	}
	r := bin.NewReader(value)
	seq = r.Uint()
	return seq, true, r.Err(false)
}
