package parked

import (
	"bytes"
	"slices"

	"crier/internal/idset"
	"crier/job"
	"crier/state/parked/row"
)

// pageRows keeps rows of the park that several entries of a record are about: the drains of a login
// are a record's neighbours, and all in one page, of which a scan for each of them would look up
// the same blocks again.
type pageRows struct {
	touched map[pageID]int
	rows    map[pageID][]parkedBytes // as the entries so far leave them
	bytes   int
}

type pageID struct {
	r job.Range
	n int
}

type parkedBytes struct{ key, value []byte } // value is nil if the row is gone

const (
	pageTouches  = 3        // from how many entries on the rows of a page are kept
	pageRowsMost = 16 << 20 // bytes of rows that are kept; an entry's page may add half a megabyte
)

// scanPage calls fn with the rows of a job in a page; it gives the row's new value, nil if it goes,
// or the old one. A set is what the entry is about.
func (t *txn) scanPage(r job.Range, n int, id job.ID, s *idset.Set, fn func(value []byte) ([]byte, error)) error {
	prefix := jobPagePrefix(r, n, id)
	change := func(k, v []byte) ([]byte, error) {
		after, err := fn(v)
		switch {
		case err != nil:
		case after == nil:
			t.b.Delete(k)
		case !bytes.Equal(after, v):
			t.b.Put(k, after)
		}
		return after, err
	}
	kept, err := t.keptRows(pageID{r, n}, s)
	if err != nil {
		return err
	}
	if kept == nil {
		return t.ahead.rows.Scan(prefix, row.After(prefix), func(k, v []byte) error {
			_, err := change(k, v)
			return err
		})
	}
	at, _ := slices.BinarySearchFunc(kept, prefix, func(x parkedBytes, key []byte) int { return bytes.Compare(x.key, key) })
	for ; at < len(kept) && bytes.HasPrefix(kept[at].key, prefix); at++ {
		if kept[at].value == nil {
			continue
		}
		if kept[at].value, err = change(kept[at].key, kept[at].value); err != nil {
			return err
		}
	}
	return nil
}

// keptRows gives the kept rows of a page, or nil if they are not kept.
func (t *txn) keptRows(p pageID, s *idset.Set) ([]parkedBytes, error) {
	kept := &t.ahead.pages
	if rows := kept.rows[p]; rows != nil {
		return rows, nil
	}
	if _, few := s.Few(); !few {
		return nil, nil
	}
	if kept.touched[p]++; kept.touched[p] < pageTouches {
		return nil, nil
	}
	if kept.bytes >= pageRowsMost {
		kept.rows, kept.bytes = map[pageID][]parkedBytes{}, 0
	}
	rows := []parkedBytes{}
	prefix := pagePrefix(p.r, p.n)
	err := t.ahead.rows.Scan(prefix, row.After(prefix), func(k, v []byte) error {
		rows = append(rows, parkedBytes{bytes.Clone(k), bytes.Clone(v)})
		kept.bytes += len(k) + len(v)
		return nil
	})
	if err != nil {
		return nil, err
	}
	kept.rows[p] = rows
	return rows, nil
}

// forget says that a row was added to a page.
func (p *pageRows) forget(id pageID) {
	delete(p.rows, id)
	delete(p.touched, id)
}
