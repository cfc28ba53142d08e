package page

import (
	"bytes"
	"slices"

	"crier/internal/idset"
	"crier/job"
)

// Kept keeps rows of pages that one record of the ledger reads again and again: the drains of a
// login are neighbours in it, and all in one page, of which a scan for each of them would look up
// the same blocks. The zero value keeps nothing yet. It belongs to one goroutine.
//
// Memory: 16 MiB, the rows of one page more, and 128 bytes for each page that is kept.
type Kept struct {
	reads map[ID]int // that are to come
	rows  map[ID][]Row
	taken map[ID]*Page // who was taken out of rows that are kept
	bytes int
}

// ID names a page.
type ID struct {
	Range  job.Range
	Number int
}

// Row is a row of a page, by its key in the store. Its value is nil if it is gone.
type Row struct{ Key, Value []byte }

const keptMost = 16 << 20 // bytes

// Expect says that the page of each id of a set is going to be read, where these are a handful.
func (k *Kept) Expect(s *idset.Set) {
	if s.IsEmpty() {
		return
	}
	few, ok := s.Few()
	if !ok {
		return
	}
	if k.reads == nil {
		k.reads = map[ID]int{}
	}
	for i, id := range few {
		if n := Number(id); i == 0 || n != Number(few[i-1]) {
			k.reads[ID{s.Range, n}]++
		}
	}
}

// Rows gives the rows of a page, ascending, of which the caller changes the values as the rows
// change; or nil, if they are not worth keeping: it is read once. scan reads them.
func (k *Kept) Rows(id ID, scan func(fn func(key, value []byte) error) error) ([]Row, error) {
	if rows := k.rows[id]; rows != nil {
		return rows, nil
	}
	if k.reads[id] < 2 {
		return nil, nil
	}
	if k.rows == nil || k.bytes >= keptMost {
		k.rows, k.taken, k.bytes = map[ID][]Row{}, map[ID]*Page{}, 0
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

// Forget is to be called when a row is added to a page, which is not kept from then on.
func (k *Kept) Forget(id ID) {
	delete(k.rows, id)
	delete(k.taken, id)
	delete(k.reads, id)
}

// Took notes who of a page was taken out of its rows.
func (k *Kept) Took(id ID, words []uint64) {
	if k.rows[id] == nil {
		return
	}
	if k.taken[id] == nil {
		k.taken[id] = &Page{}
	}
	for i, w := range words {
		k.taken[id][i] |= w
	}
}

// Emptied calls fn with those of each page who were taken out of rows since it was called before and
// are in none now.
func (k *Kept) Emptied(fn func(ID, Page)) error {
	for id, taken := range k.taken {
		out := *taken
		for _, x := range k.rows[id] {
			if x.Value == nil {
				continue
			}
			var p Page
			if err := Parse(x.Value, &p); err != nil {
				return err
			}
			for i, w := range p {
				out[i] &^= w
			}
		}
		if !out.IsEmpty() {
			fn(id, out)
		}
	}
	clear(k.taken)
	return nil
}
