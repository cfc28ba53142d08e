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
	"crier/state/parked/page"
	"crier/state/parked/row"
	"crier/state/parked/spans"
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
	open     map[string]*Open // as in Index; nil: gone
	late     map[string]*Open // the same
	totals   map[job.ID]Tally // of the jobs that it changes
	pages    page.Kept
	doubtful []job.Range // with new rows of doubt
	parked   []*idset.Set
	held     []Change
	changes  []Change // of what is written
}

func newAhead(x *Index) *ahead {
	x.held.Drop() // what could not be written
	return &ahead{x: x, rows: x.held, journals: map[job.Journal]journal{}, mark: x.mu.mark, open: map[string]*Open{}, late: map[string]*Open{}, totals: map[job.ID]Tally{}}
}

// totalsMost is of how many jobs the totals are remembered: 1 MiB.
const totalsMost = 4096

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
	for _, c := range t.changes {
		a.totals[c.Job] = c.Total
	}
	a.held = append(a.held, t.changes...)
	a.parked = append(a.parked, t.parked...)
	for _, k := range t.closed {
		a.open[k] = nil
	}
	for _, o := range t.opened {
		a.open[string(openKey(o.Range, o.Job, o.Ref, o.Inc))] = o
	}
	for _, o := range t.late {
		k := string(openKey(o.Range, o.Job, o.Ref, o.Inc))
		if a.late[k] = o; o.Set.IsEmpty() {
			a.late[k] = nil
		}
	}
	if a.rows.Bytes() < aheadMost {
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
	b.Put(globalKey(rowMark), w.B)
	for j, js := range a.journals {
		var w bin.Writer
		w.Uint(js.next)
		w.Bool(js.sealed)
		b.Put(globalKey(rowJournal, row.Journal(j)), w.B)
	}
	for id, total := range a.totals {
		var w bin.Writer
		total.write(&w)
		b.Put(globalKey(rowTotal, id[:]), w.B)
	}
	if err := a.rows.Hold(&b); err != nil {
		return err
	}
	var gone []*idset.Set
	err := a.pages.Emptied(func(id page.ID, p page.Page) {
		s := idset.New(id.Range)
		p.AddTo(s, id.Number)
		gone = append(gone, s)
	})
	if err != nil {
		return err
	}
	mu.Lock() // Where must not see half of an entry
	defer mu.Unlock()
	if err := a.rows.Flush(); err != nil {
		return fmt.Errorf("writing the parked index: %w", err)
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
	merge(mu.open, a.open)
	merge(mu.late, a.late)
	if len(mu.totals)+len(a.totals) > totalsMost {
		clear(mu.totals)
	}
	maps.Copy(mu.totals, a.totals)
	clear(a.journals)
	clear(a.totals)
	clear(a.open)
	clear(a.late)
	a.changes, a.held = append(a.changes, a.held...), nil
	return nil
}

func merge(into, from map[string]*Open) {
	for k, o := range from {
		if o == nil {
			delete(into, k)
		} else {
			into[k] = o
		}
	}
}

// openOf gives what is open of a reserve, and what is late, by openKey; nil if there is none.
func (a *ahead) openOf(key string) (open, late *Open) {
	a.x.mu.RLock()
	open, late = a.x.mu.open[key], a.x.mu.late[key]
	a.x.mu.RUnlock()
	if o, ok := a.open[key]; ok {
		open = o
	}
	if o, ok := a.late[key]; ok {
		late = o
	}
	return open, late
}

func (t *txn) reserved(r job.Range, id job.ID) (spans.Set, error) {
	return readReserved(t.ahead.rows, r, id)
}

func (t *txn) charges() charge.Book { return charge.Book{Rows: t.ahead.rows} }
