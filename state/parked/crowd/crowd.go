// Package crowd finds for whom too much is parked.
package crowd

import (
	"math/bits"

	"crier/internal/idset"
	"crier/job"
	"crier/state/parked/numbers"
	"crier/state/parked/page"
	"crier/state/parked/row"
)

// Limits says when too much is parked for one recipient. Its zero value: never.
type Limits struct {
	Cap int // the most items of one recipient; 0 is any number
	// Of has the jobs that matter. What is parked of another is neither counted nor replaced.
	Of map[job.ID]Member
}

// Member is what a job is in it.
type Member struct {
	Group  int  // of the jobs of which one is enough for a recipient; 0: none
	Counts bool // towards the cap
}

// Rows reads the rows of the index; kv.Store has it.
type Rows interface {
	Scan(start, end []byte, fn func(key, value []byte) error) error
}

// In gives the recipients of a range for whom too much is parked. It reads each row once, those of
// a page with more rows than the cap twice.
func In(rows Rows, jobs *numbers.Table, r job.Range, c Limits) (*idset.Set, error) {
	crowded := idset.New(r)
	if len(c.Of) == 0 {
		return crowded, nil
	}
	w := &crowding{from: rows, jobs: jobs, c: c, of: map[numbers.Number]Member{}, crowded: crowded, page: -1}
	prefix := row.Key(r, page.Letter)
	err := rows.Scan(prefix, row.After(prefix), w.take)
	if err == nil {
		err = w.endPage()
	}
	return crowded, err
}

type crowding struct {
	from    Rows
	jobs    *numbers.Table
	c       Limits
	of      map[numbers.Number]Member // of the jobs that the range has
	crowded *idset.Set
	page    int                // the one that the scan is at; -1: none yet
	job     numbers.Number     // of the last row
	member  Member             // what it is
	rows    int                // of the page, that count
	groups  map[int]*page.Page // who has one of each
	twice   page.Page          // who has two of one, or more than the cap
}

func (w *crowding) take(k, v []byte) error {
	var p page.Page
	if err := page.Parse(v, &p); err != nil {
		return err
	}
	at := page.NumberIn(k)
	if at != w.page {
		if err := w.endPage(); err != nil {
			return err
		}
		w.page = at
	}
	if n := page.JobIn(k); n != w.job {
		member, err := w.memberOf(n)
		if err != nil {
			return err
		}
		w.job, w.member = n, member
	}
	if w.member.Counts {
		w.rows++
	}
	if g := w.member.Group; g != 0 {
		if w.groups[g] == nil {
			w.groups[g] = &page.Page{}
		}
		for i, word := range p {
			w.twice[i] |= w.groups[g][i] & word
			w.groups[g][i] |= word
		}
	}
	return nil
}

// memberOf gives what the job of a number is.
func (w *crowding) memberOf(n numbers.Number) (Member, error) {
	m, ok := w.of[n]
	if ok {
		return m, nil
	}
	id, err := w.jobs.Job(n)
	if err == nil {
		m = w.c.Of[id]
		w.of[n] = m
	}
	return m, err
}

// endPage sums up a page of which all rows were taken.
func (w *crowding) endPage() error {
	var err error
	if w.page >= 0 && w.c.Cap > 0 && w.rows > w.c.Cap {
		err = w.count()
	}
	if !w.twice.IsEmpty() {
		w.twice.AddTo(w.crowded, w.page)
	}
	w.rows, w.groups, w.twice = 0, map[int]*page.Page{}, page.Page{}
	return err
}

// count finds who of a page has more items than may be.
func (w *crowding) count() error {
	var items [1 << page.Bits]int
	prefix := page.Prefix(w.crowded.Range, w.page)
	return w.from.Scan(prefix, row.After(prefix), func(k, v []byte) error {
		if !w.of[page.JobIn(k)].Counts {
			return nil
		}
		var p page.Page
		if err := page.Parse(v, &p); err != nil {
			return err
		}
		for i, word := range p {
			for ; word != 0; word &= word - 1 {
				at := i<<6 + bits.TrailingZeros64(word)
				if items[at]++; items[at] > w.c.Cap {
					w.twice[i] |= word & -word
				}
			}
		}
		return nil
	})
}
