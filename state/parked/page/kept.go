package page

import (
	"bytes"
	"slices"

	"crier/job"
)

// Kept keeps rows of pages that are read again and again: the drains of a login are neighbours in
// a record of the ledger, and all in one page, of which a scan for each of them would look up the same
// blocks. The zero value keeps nothing yet. It belongs to one goroutine.
//
// Memory: 16 MiB, and the rows of one page more.
type Kept struct {
	touched map[ID]int
	rows    map[ID][]Row
	bytes   int
}

// ID names a page.
type ID struct {
	Range  job.Range
	Number int
}

// Row is a row of a page, by its key in the store. Its value is nil if it is gone.
type Row struct{ Key, Value []byte }

const (
	touches  = 2        // from how many readings on the rows of a page are kept
	keptMost = 16 << 20 // bytes
)

// Rows gives the rows of a page, ascending, of which the caller changes the values as the rows
// change; or nil, if they are not kept: it is then read for the first times. scan reads them.
func (k *Kept) Rows(id ID, scan func(fn func(key, value []byte) error) error) ([]Row, error) {
	if rows := k.rows[id]; rows != nil {
		return rows, nil
	}
	if k.touched == nil {
		k.touched = map[ID]int{}
	}
	if k.touched[id]++; k.touched[id] < touches {
		return nil, nil
	}
	if k.rows == nil || k.bytes >= keptMost {
		k.rows, k.bytes = map[ID][]Row{}, 0
	}
	rows := []Row{}
	err := scan(func(key, value []byte) error {
		rows = append(rows, Row{bytes.Clone(key), bytes.Clone(value)})
		k.bytes += len(key) + len(value)
		return nil
	})
	if err != nil {
		return nil, err
	}
	k.rows[id] = rows
	return rows, nil
}

// Has gives the rows of a page if they are kept already.
func (k *Kept) Has(id ID) []Row { return k.rows[id] }

// With gives those of some rows, ascending, whose keys begin so and that are not gone.
func With(rows []Row, prefix []byte) (some []*Row) {
	at, _ := slices.BinarySearchFunc(rows, prefix, func(x Row, key []byte) int { return bytes.Compare(x.Key, key) })
	for ; at < len(rows) && bytes.HasPrefix(rows[at].Key, prefix); at++ {
		if rows[at].Value != nil {
			some = append(some, &rows[at])
		}
	}
	return some
}

// Forget is to be called when a row is added to a page.
func (k *Kept) Forget(id ID) {
	delete(k.rows, id)
	delete(k.touched, id)
}
