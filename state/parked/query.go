package parked

import (
	"cmp"
	"errors"
	"slices"

	"crier/internal/bin"
	"crier/internal/idset"
	"crier/job"
	"crier/state/parked/charge"
	"crier/state/parked/crowd"
	"crier/state/parked/kv"
	"crier/state/parked/opens"
	"crier/state/parked/page"
	"crier/state/parked/row"
	"crier/state/parked/spans"
	"crier/state/parked/totals"
)

// Reserved reads what of a job is reserved in a range. How many recipients there have which outcome
// is written nowhere: who is parked, in doubt or handed off has rows, and every drain and done of
// one recipient would change it.
func (x *Index) Reserved(r job.Range, id job.ID) (spans.Set, error) { return readReserved(x.kv, r, id) }

func readReserved(rows charge.Rows, r job.Range, id job.ID) (spans.Set, error) {
	b, err := rows.Get(reservedKey(r, id))
	if err != nil || b == nil {
		return nil, err
	}
	return spans.Parse(b)
}

// Tally counts a job's recipients by outcome; what is pending is not in it.
type Tally = totals.Tally

// Total tells how many recipients of a job have which outcome; absent is zero.
func (x *Index) Total(id job.ID) (Tally, error) {
	x.mu.RLock()
	t, ok := x.mu.totals.Get(id)
	x.mu.RUnlock()
	if ok {
		return t, nil
	}
	return totals.Read(x.kv, id)
}

// Item is what waits for some recipients of a range: one job, parked by one record.
type Item struct {
	Job     job.ID
	Number  Number
	Flagged bool // may have been seen
	Set     *idset.Set
}

// ParkedOf lists what is parked for the given recipients, which are all of one
// range, in the order in which it was parked. The sets are the caller's.
func (x *Index) ParkedOf(who *idset.Set) ([]Item, error) {
	mark := x.people.Mark(who.Range)
	items, err := x.itemsOf(who)
	if err != nil {
		return nil, err
	}
	gone := who.Clone()
	for _, it := range items {
		gone.AndNot(it.Set)
	}
	x.people.Gone(gone, mark)
	gone.Release()
	return items, nil
}

// MayWait gives everybody of a range for whom anything is parked, and perhaps some for whom nothing
// is any more. The set is the caller's.
func (x *Index) MayWait(r job.Range) (*idset.Set, error) {
	return x.people.In(r, func() (*idset.Set, error) {
		s := idset.New(r)
		prefix := row.Key(r, page.Letter)
		err := x.kv.Scan(prefix, row.After(prefix), func(k, v []byte) error {
			var p page.Page
			if err := page.Parse(v, &p); err != nil {
				return err
			}
			p.AddTo(s, page.NumberIn(k))
			return nil
		})
		return s, err
	})
}

func (x *Index) itemsOf(who *idset.Set) ([]Item, error) {
	var items []Item
	for n, words := range page.All(who) {
		prefix := page.Prefix(who.Range, n)
		if err := x.scanParked(who.Range, prefix, words, &items); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(items, func(a, b Item) int {
		return cmp.Or(cmp.Compare(a.Number.Seq, b.Number.Seq), cmp.Compare(a.Number.Entry, b.Number.Entry),
			slices.Compare(a.Job[:], b.Job[:]), cmp.Compare(b2i(a.Flagged), b2i(b.Flagged)))
	})
	return mergeItems(items), nil
}

// scanParked appends what the rows under prefix hold of the given words (nil:
// of everything).
func (x *Index) scanParked(r job.Range, prefix []byte, words []uint64, items *[]Item) error {
	return x.kv.Scan(prefix, row.After(prefix), func(k, v []byte) error {
		row, err := parseParkedKey(k)
		if err != nil {
			return err
		}
		var p page.Page
		if err := page.Parse(v, &p); err != nil {
			return err
		}
		for i := range words {
			p[i] &= words[i]
		}
		if p.IsEmpty() {
			return nil
		}
		id, err := x.numbers.Job(row.job)
		if err != nil {
			return err
		}
		s := idset.New(r)
		p.AddTo(s, row.page)
		*items = append(*items, Item{id, row.number, row.flagged, s})
		return nil
	})
}

// mergeItems joins neighbours that differ in nothing but their page.
func mergeItems(items []Item) []Item {
	out := items[:0]
	for _, it := range items {
		if n := len(out); n > 0 && out[n-1].Job == it.Job && out[n-1].Number == it.Number && out[n-1].Flagged == it.Flagged {
			out[n-1].Set.Or(it.Set)
			it.Set.Release()
			continue
		}
		out = append(out, it)
	}
	return out
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Crowded gives the recipients of a range for whom too much is parked.
func (x *Index) Crowded(r job.Range, c crowd.Limits) (*idset.Set, error) {
	return crowd.In(x.kv, x.numbers, r, c)
}

// ParkedIn gives the recipients of a job that are parked in a range.
func (x *Index) ParkedIn(r job.Range, id job.ID) (*idset.Set, error) {
	s := idset.New(r)
	of, err := x.numbers.Of(id)
	if err != nil || of == 0 {
		return s, err
	}
	for n := range page.Count {
		prefix := page.JobPrefix(r, n, of)
		err := x.kv.Scan(prefix, row.After(prefix), func(k, v []byte) error {
			var p page.Page
			if err := page.Parse(v, &p); err != nil {
				return err
			}
			p.AddTo(s, n)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return s, nil
}

// InDoubt reports whether anybody of a job is in doubt in a range.
func (x *Index) InDoubt(r job.Range, id job.ID) (found bool, err error) {
	err = x.scanDoubts(r, id, func(_ Doubt, how byte) { found = found || how != doubtDecided })
	return found, err
}

// IsParked reports whether anybody of a job is parked in a range. Where nobody is, it asks the
// store once a page.
func (x *Index) IsParked(r job.Range, id job.ID) (bool, error) {
	of, err := x.numbers.Of(id)
	if err != nil || of == 0 {
		return false, err
	}
	for n := range page.Count {
		prefix := page.JobPrefix(r, n, of)
		if has, err := hasRow(x.kv, prefix, row.After(prefix)); has || err != nil {
			return has, err
		}
	}
	return false, nil
}

var errRow = errors.New("there is a row")

// hasRow reports whether a store has any row from start on and before end.
func hasRow(store kv.Store, start, end []byte) (bool, error) {
	err := store.Scan(start, end, func(_, _ []byte) error { return errRow })
	if errors.Is(err, errRow) {
		return true, nil
	}
	return false, err
}

// Parkings changes whenever anybody is parked in a range, from the first MayWait of it on.
func (x *Index) Parkings(r job.Range) uint64 { return x.people.Mark(r) }

// Doubt is a job's recipients in doubt in one range.
type Doubt struct {
	Job        job.ID
	Range      job.Range
	Ref        job.Ref
	Inc        job.Incarnation
	Unanswered bool // the incarnation has not given its last word
	Mute       bool // written to a client that does not say what it has
	Set        *idset.Set
}

// DoubtIn lists what is in doubt in a range; a zero id lists every job's.
func (x *Index) DoubtIn(r job.Range, id job.ID) ([]Doubt, error) {
	var out []Doubt
	err := x.scanDoubts(r, id, func(d Doubt, how byte) {
		if how != doubtDecided {
			out = append(out, d)
		}
	})
	return out, err
}

func (x *Index) scanDoubts(r job.Range, id job.ID, fn func(d Doubt, how byte)) error {
	mark, may := x.doubtful.Has(r)
	if !may {
		return nil
	}
	prefix := row.Key(r, rowDoubt)
	if !id.IsZero() {
		prefix = row.Key(r, rowDoubt, id[:])
	}
	found := !id.IsZero()
	err := x.kv.Scan(prefix, row.After(prefix), func(k, v []byte) error {
		found = true
		kr := bin.NewReader(k[3:])
		d := Doubt{Range: r, Job: kr.JobID(), Ref: kr.Ref(), Inc: kr.Incarnation()}
		how := kr.Byte()
		d.Unanswered, d.Mute = how == doubtUnanswered, how == doubtMute
		if err := kr.Err(true); err != nil {
			return err
		}
		s, err := row.Set(v)
		if err != nil {
			return err
		}
		d.Set = s
		fn(d, how)
		return nil
	})
	if err == nil && !found {
		x.doubtful.None(r, mark)
	}
	return err
}

// OpenReserves lists what is open of the journals for which want is true, by
// reference and incarnation: all that a gateway may still tell of.
func (x *Index) OpenReserves(want func(job.Journal) bool) []*opens.Open {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var out []*opens.Open
	for o := range x.mu.open.All() {
		if !want(o.Ref.Journal) {
			continue
		}
		if late := x.mu.late[o.Name]; late != nil {
			both := *o
			both.Set, both.Doubted, both.Seq = o.Set.Clone(), true, 0
			both.Set.Or(late.Set)
			o = &both
		}
		out = append(out, o)
	}
	for n, o := range x.mu.late {
		if x.mu.open.Get(n) == nil && want(o.Ref.Journal) {
			out = append(out, o)
		}
	}
	slices.SortFunc(out, func(a, b *opens.Open) int {
		return cmp.Or(cmp.Compare(a.Ref.Journal.Worker, b.Ref.Journal.Worker), cmp.Compare(a.Ref.Journal.Incarnation, b.Ref.Journal.Incarnation),
			cmp.Compare(a.Ref.N, b.Ref.N), cmp.Compare(a.Ref.Entry, b.Ref.Entry), cmp.Compare(a.Inc.Gateway, b.Inc.Gateway), cmp.Compare(a.Inc.Start, b.Inc.Start))
	})
	return out
}

// HasOpen reports whether OpenReserves would list anything of a journal; it copies nothing.
func (x *Index) HasOpen(j job.Journal) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for o := range x.mu.open.All() {
		if o.Ref.Journal == j {
			return true
		}
	}
	for n := range x.mu.late {
		if n.Ref.Journal == j {
			return true
		}
	}
	return false
}

// JournalInfo is what the index knows of a journal.
type JournalInfo struct {
	Journal job.Journal
	Records uint64 // that it had, those behind a seal, which are void, perhaps among them
	Sealed  bool
	Open    int // reserves at one incarnation each, those in doubt that may still be answered among them
}

// JournalInfos lists the journals that have records, by name.
func (x *Index) JournalInfos() []JournalInfo {
	x.mu.RLock()
	defer x.mu.RUnlock()
	open := map[job.Journal]int{}
	for o := range x.mu.open.All() {
		open[o.Ref.Journal]++
	}
	for n, o := range x.mu.late {
		if x.mu.open.Get(n) == nil {
			open[o.Ref.Journal]++
		}
	}
	list := make([]JournalInfo, 0, len(x.mu.journals))
	for j, s := range x.mu.journals {
		list = append(list, JournalInfo{j, s.next, s.sealed, open[j]})
	}
	slices.SortFunc(list, func(a, b JournalInfo) int {
		return cmp.Or(cmp.Compare(a.Journal.Worker, b.Journal.Worker), cmp.Compare(a.Journal.Incarnation, b.Journal.Incarnation))
	})
	return list
}

// Where tells where one recipient of a job stands, as far as the index knows: a
// terminal outcome is told as Delivered, whichever it is, but as HandedOff while a
// reserve that names the recipient is open: the incarnation may still write, and
// its clients must remember the message.
func (x *Index) Where(id job.ID, who job.Recipient) (job.Outcome, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	r := who.Range()
	reserved, err := x.Reserved(r, id)
	if err != nil || !reserved.Has(who) {
		return job.Pending, err
	}
	for o := range x.mu.open.All() {
		if o.Job == id && o.Set.Has(uint32(who)) {
			return job.HandedOff, nil
		}
	}
	inDoubt, decided := false, false
	err = x.scanDoubts(r, id, func(d Doubt, how byte) {
		has := d.Set.Has(uint32(who))
		inDoubt, decided = inDoubt || has && how != doubtDecided, decided || has && how == doubtDecided
	})
	if err != nil {
		return job.Pending, err
	}
	if inDoubt {
		return job.InDoubt, nil
	}
	n := page.Number(uint32(who))
	var items []Item
	of, err := x.numbers.Of(id)
	if err == nil && of != 0 {
		err = x.scanParked(r, page.JobPrefix(r, n, of), page.Of(idset.Of(uint32(who)), n), &items)
	}
	if err != nil {
		return job.Pending, err
	}
	switch {
	case len(items) > 0:
		return job.Parked, nil
	case decided:
		return job.HandedOff, nil
	}
	return job.Delivered, nil
}

// Dump calls fn for every row, in order, with totals as if each was written: two indexes are equal
// if their dumps are.
func (x *Index) Dump(fn func(key, value []byte) error) error {
	take, end := totals.Folded(fn)
	return errors.Join(x.kv.Scan(nil, nil, take), end())
}
