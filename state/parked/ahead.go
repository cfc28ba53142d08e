package parked

import (
	"fmt"
	"maps"

	"crier/internal/bin"
	"crier/internal/idset"
	"crier/job"
	"crier/state/ledger"
	"crier/state/parked/charge"
	"crier/state/parked/kv"
	"crier/state/parked/numbers"
	"crier/state/parked/opens"
	"crier/state/parked/page"
	"crier/state/parked/row"
	"crier/state/parked/spans"
	"crier/state/parked/totals"
)

// aheadMost is how many bytes of changes are held before they are written although their
// records go on. An entry may add some megabytes to it.
const aheadMost = 4 << 20

// ahead is how the index will be when the entries that are taken in are written: in one batch,
// for a batch costs as much as dozens of rows, and what opens and closes within it costs none.
// The entries that follow see it; readers see the index as it was until all of it is written.
type ahead struct {
	x        *Index
	rows     *kv.Overlay
	journals map[job.Journal]journal // that it changes
	mark     Number
	opens    opens.Ahead
	late     map[opens.Name]*opens.Open // as in Index; nil: gone
	totals   totals.Ahead
	pages    page.Kept
	doubtful []job.Range // with new rows of doubt
	parked   []*idset.Set
	held     []Change
	changes  []Change // of what is written
}

func newAhead(x *Index) *ahead {
	return &ahead{x: x, rows: x.held, journals: map[job.Journal]journal{}, mark: x.mu.mark, opens: opens.NewAhead(&x.mu.open), late: map[opens.Name]*opens.Open{}, totals: totals.Ahead{}}
}

// journal gives the state of a journal.
func (a *ahead) journal(j job.Journal) journal {
	if js, ok := a.journals[j]; ok {
		return js
	}
	return a.x.mu.journals[j] // written by this goroutine only
}

// total gives the total of a job.
func (a *ahead) total(id job.ID) (Tally, error) {
	if t, ok := a.totals[id]; ok {
		return t, nil
	}
	return a.x.Total(id)
}

// expect looks at which pages entries are going to read.
func (a *ahead) expect(entries []ledger.Entry) {
	for _, e := range entries {
		switch e := e.(type) {
		case *ledger.Drain:
			for _, s := range e.Targets.Sets {
				a.pages.Expect(s)
			}
		case *ledger.Outcome:
			a.pages.Expect(e.Set)
		}
	}
}

// take takes in a whole entry, or an erasure, behind which the watermark is next.
func (a *ahead) take(t *txn, next Number) error {
	if err := a.rows.Hold(&t.b); err != nil {
		return err
	}
	if a.mark = next; !t.ref.Journal.IsZero() {
		a.journals[t.ref.Journal] = t.js
	}
	if t.counted {
		a.totals[t.job] = t.total
	}
	if t.fresh.Parked != nil {
		a.held = append(a.held, t.fresh)
	}
	a.parked = append(a.parked, t.parked...)
	for _, n := range t.closed {
		a.opens.Drop(n)
	}
	for _, o := range t.opened {
		a.opens.Put(o)
	}
	for _, o := range t.late {
		if a.late[o.Name] = o; o.Set.IsEmpty() {
			a.late[o.Name] = nil
		}
	}
	if a.rows.Bytes()+a.opens.Bytes() < aheadMost {
		return nil
	}
	return a.flush()
}

// flush writes what is held, with the watermark.
func (a *ahead) flush() error {
	mu := &a.x.mu
	if a.mark == mu.mark {
		return nil
	}
	var b kv.Batch
	var w bin.Writer
	w.Uint(a.mark.Seq)
	w.Uint(uint64(a.mark.Entry))
	b.Put(row.Global(rowMark), w.B)
	for j, js := range a.journals {
		var w bin.Writer
		w.Uint(js.next)
		w.Bool(js.sealed)
		b.Put(row.Global(rowJournal, row.Journal(j)), w.B)
	}
	mu.totals.Rows(&b, a.totals)
	a.opens.Rows(&b)
	fail := func(err error) error { // what is held may be in part: it is not held again
		a.x.failed = fmt.Errorf("writing the parked index: %w", err)
		return a.x.failed
	}
	if err := a.rows.Hold(&b); err != nil {
		return fail(err)
	}
	var gone []*idset.Set
	err := a.pages.Emptied(func(id page.ID, p page.Page) {
		s := idset.New(id.Range)
		p.AddTo(s, id.Number)
		gone = append(gone, s)
	})
	if err != nil {
		return fail(err)
	}
	mu.Lock() // Where must not see half of an entry
	defer mu.Unlock()
	if err := a.rows.Flush(); err != nil {
		return fail(err)
	}
	for _, s := range a.parked {
		a.x.people.Add(s)
		s.Release()
	}
	a.parked = nil
	for _, r := range a.doubtful {
		a.x.doubtful.Add(r)
	}
	a.doubtful = nil
	for _, s := range gone { // only this goroutine adds anybody
		a.x.people.Gone(s, a.x.people.Mark(s.Range))
		s.Release()
	}
	mu.mark = a.mark
	maps.Copy(mu.journals, a.journals)
	a.opens.Written()
	for n, o := range a.late {
		if mu.late[n] = o; o == nil {
			delete(mu.late, n)
		}
	}
	mu.totals.Written(a.totals)
	clear(a.journals)
	clear(a.totals)
	clear(a.late)
	a.changes, a.held = append(a.changes, a.held...), nil
	return nil
}

// openOf gives what is open of a reserve, and what is late; nil if there is none.
func (a *ahead) openOf(n opens.Name) (open, late *opens.Open) {
	late, changed := a.late[n]
	if !changed {
		late = a.x.mu.late[n]
	}
	return a.opens.Get(n), late
}

func (t *txn) reserved(r job.Range, id job.ID) (spans.Set, error) {
	return readReserved(t.ahead.rows, r, id)
}

func (t *txn) numbers() numbers.Ahead {
	return numbers.Ahead{Table: t.x.numbers, Rows: t.ahead.rows}
}

func (t *txn) charges() charge.Book { return charge.Book{Rows: t.ahead.rows} }
