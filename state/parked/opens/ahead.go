package opens

import (
	"maps"
	"slices"

	"crier/internal/bin"
	"crier/internal/idset"
	"crier/state/parked/kv"
)

// Ahead is how a table will be when what changes is written. The table stays as it is until
// then. It belongs to one goroutine, which alone changes the table.
type Ahead struct {
	table *Table
	of    map[record]list // that it changes
	gone  []Name
	bytes int
}

// NewAhead makes one that changes nothing.
func NewAhead(t *Table) Ahead { return Ahead{table: t, of: map[record]list{}} }

// Get gives what will be open under a name, or nil.
func (a *Ahead) Get(n Name) *Open {
	if l, ok := a.of[n.record()]; ok {
		return l.get(n)
	}
	return a.table.Get(n)
}

// change gives a list that may be changed.
func (a *Ahead) change(r record) list {
	l, ok := a.of[r]
	if !ok {
		l = slices.Clone(a.table.of[r])
	}
	return l
}

// Put opens, or replaces what is open under the same name.
func (a *Ahead) Put(o *Open) {
	r := o.record()
	l := a.change(r)
	if at, ok := l.find(o.Name); ok {
		l[at] = o
	} else {
		l = slices.Insert(l, at, o)
	}
	a.of[r] = l
	if a.bytes += openBytes; o.Seq == 0 {
		a.bytes += o.Set.Held() * idset.Words * 8
	}
}

// openBytes is about what a row takes beside a set.
const openBytes = 64

// Drop closes what is open under a name.
func (a *Ahead) Drop(n Name) {
	r := n.record()
	l := a.change(r)
	if at, ok := l.find(n); ok {
		l = slices.Delete(l, at, at+1)
	}
	a.of[r] = l
	a.gone = append(a.gone, n)
	a.bytes += openBytes
}

// Bytes is about how much the rows will be, at most.
func (a *Ahead) Bytes() int { return a.bytes }

// Rows adds to a batch what changes. What opened and closed meanwhile has no rows.
func (a *Ahead) Rows(b *kv.Batch) {
	for _, n := range a.gone {
		if o := a.table.Get(n); o != nil && o.Seq == 0 {
			b.Delete(n.restKey())
		}
	}
	for r, l := range a.of {
		before := a.table.of[r]
		if whole := l.whole(); whole != nil {
			b.Put(r.key(), whole)
		} else if before.whole() != nil {
			b.Delete(r.key())
		}
		for _, o := range l {
			if o.Seq == 0 && before.get(o.Name) != o {
				var w bin.Writer
				w.Set(o.Set)
				b.Put(o.restKey(), w.B)
			}
		}
	}
}

// Written makes the table what was ahead of it, which changes nothing then.
func (a *Ahead) Written() {
	if a.table.of == nil {
		a.table.of = map[record]list{}
	}
	for r, l := range a.of {
		if len(l) == 0 {
			delete(a.of, r)
			delete(a.table.of, r)
		}
	}
	maps.Copy(a.table.of, a.of)
	clear(a.of)
	a.gone, a.bytes = nil, 0
}
