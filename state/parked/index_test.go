package parked_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"crier/internal/idset"
	"crier/job"
	"crier/state/ledger"
	"crier/state/parked"
	"crier/state/parked/crowd"
	"crier/state/parked/kv"
	"crier/state/parked/spans"
)

func init() { // before the command line, which may say otherwise
	flag.Set("rapid.checks", "25")
	flag.Set("rapid.nofailfile", "true")
}

type fataler interface {
	Fatalf(string, ...any)
	Fatal(...any)
}

// recorder is a store that remembers its writes, to be cut short like a crash does.
type recorder struct {
	*kv.Memory
	batches []*kv.Batch
}

func (r *recorder) Write(b *kv.Batch) error {
	r.batches = append(r.batches, b.Clone())
	return r.Memory.Write(b)
}

// unsure is a store of which a write fails that it may have taken nevertheless.
type unsure struct {
	kv.Store
	fails, takes bool
}

func (u *unsure) Write(b *kv.Batch) error {
	if !u.fails {
		return u.Store.Write(b)
	}
	if u.takes {
		if err := u.Store.Write(b); err != nil {
			return err
		}
	}
	return kv.ErrNotWritten
}

// An index whose store failed takes nothing in, for nobody knows what the store has; opened
// again it goes on from there, and is in the end what one is that never failed.
func TestAFailedWriteEndsAnIndex(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newHistory(rapid.Uint64().Draw(t, "seed"))
		for range rapid.IntRange(2, 40).Draw(t, "records") {
			h.record()
		}
		whole := newIndex(t, kv.NewMemory(), h)
		apply(t, whole, h.records...)
		db := &unsure{Store: kv.NewMemory(), takes: rapid.Bool().Draw(t, "takes")}
		x := newIndex(t, db, h)
		good := rapid.IntRange(0, len(h.records)-1).Draw(t, "good")
		apply(t, x, h.records[:good]...)
		db.fails = true
		rest := h.records[good:]
		if _, err := x.Apply(context.Background(), rest[:rapid.IntRange(1, len(rest)).Draw(t, "together")]...); !errors.Is(err, kv.ErrNotWritten) {
			t.Fatalf("a write that failed: %v", err)
		}
		db.fails = false
		before := dump(t, x)
		if _, err := x.Apply(context.Background(), rest...); !errors.Is(err, kv.ErrNotWritten) || dump(t, x) != before {
			t.Fatalf("it goes on: %v", err)
		}
		x = newIndex(t, db, h)
		for len(rest) > 0 && rest[0].Seq < x.Watermark() {
			rest = rest[1:]
		}
		apply(t, x, rest...)
		if got, want := dump(t, x), dump(t, whole); got != want {
			t.Fatalf("opened again it is\n%s\nwant\n%s", got, want)
		}
	})
}

func newIndex(t fataler, db kv.Store, h *history) *parked.Index {
	x, err := parked.New(context.Background(), db, h, h)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// apply applies records, some of them together.
func apply(t fataler, x *parked.Index, records ...ledger.Stored) []parked.Change {
	var all []parked.Change
	for n := 1; len(records) > 0; n++ {
		together := min(1+n%4, len(records))
		changes, err := x.Apply(context.Background(), records[:together]...)
		if err != nil {
			t.Fatal(err)
		}
		all, records = append(all, changes...), records[together:]
	}
	return all
}

func dump(t fataler, x *parked.Index) string {
	var b strings.Builder
	err := x.Dump(func(k, v []byte) error {
		fmt.Fprintf(&b, "%x = %x\n", k, v)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func must[T any](t fataler) func(T, error) T {
	return func(v T, err error) T {
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// tally counts a job's recipients of one range, or of all (a range that is none).
func (h *history) tally(id job.ID, r job.Range) parked.Tally {
	var t parked.Tally
	for k, s := range h.people {
		if k.id != id || r != noRange && job.Recipient(k.who).Range() != r {
			continue
		}
		t.Reserved++
		switch s.outcome {
		case job.HandedOff:
			t.HandedOff++
		case job.Parked:
			t.Parked++
		case job.InDoubt:
			t.InDoubt++
		case job.Delivered:
			t.Delivered++
		case job.Expired:
			t.Expired++
		case job.Recalled:
			t.Recalled++
		case job.Cancelled:
			t.Cancelled++
		case job.Failed:
			t.Failed++
			t.FailedFor[s.reason]++
		case job.Dropped:
			t.Dropped[s.reason]++
		}
	}
	return t
}

const noRange = job.Range(1<<16 - 1)

// where is what the index must say of one recipient.
func (h *history) where(k who) job.Outcome {
	s := h.people[k]
	switch {
	case s == nil:
		return job.Pending
	case !s.outcome.Terminal():
		return s.outcome
	}
	for _, l := range h.lots {
		if l.job == k.id && l.names[k.who] { // an incarnation may still write
			return job.HandedOff
		}
	}
	return job.Delivered
}

func equal(t fataler, what string, got, want any) {
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
		t.Fatalf("%s:\n got %s\nwant %s", what, g, w)
	}
}

func ids(s *idset.Set) []uint32 { return slices.Collect(s.All()) }

// check compares everything that the index tells with the history.
func check(t fataler, x *parked.Index, h *history) {
	for _, id := range testJobs {
		equal(t, fmt.Sprint("total of ", id), must[parked.Tally](t)(x.Total(id)), h.tally(id, noRange))
		for _, r := range testRanges {
			reserved := must[spans.Set](t)(x.Reserved(r, id))
			equal(t, "any in doubt", must[bool](t)(x.InDoubt(r, id)), h.tally(id, r).InDoubt > 0)
			equal(t, "any parked", must[bool](t)(x.IsParked(r, id)), h.tally(id, r).Parked > 0)
			equal(t, "gaps", reserved.Gaps(job.Span{Lo: uint64(r.Lo()), Hi: uint64(r.Lo()) + regionSize}), h.gaps(id, r))
			isParked := func(s *status) bool { return s != nil && s.outcome == job.Parked }
			equal(t, "parked in", ids(must[*idset.Set](t)(x.ParkedIn(r, id))), h.members(id, r, isParked))
		}
		for i := range h.packages[id] {
			got := must[job.Outcome](t)(x.Where(id, job.Recipient(i)))
			if want := h.where(who{id, i}); got != want {
				t.Fatalf("recipient %d of %s is %s, want %s (%+v)", i, id, got, want, h.people[who{id, i}])
			}
		}
	}
	for _, r := range testRanges {
		checkParkedOf(t, x, h, r)
		checkDoubts(t, x, h, r)
	}
	checkOpen(t, x, h)
	checkCharges(t, x, h)
}

func (h *history) gaps(id job.ID, r job.Range) []job.Span {
	var out []job.Span
	from := placeOf(uint64(r.Lo()))
	for n, reserved := range h.spans[id][from : from+regionSize] {
		i := uint64(r.Lo()) + uint64(n)
		switch {
		case reserved:
		case len(out) > 0 && out[len(out)-1].Hi == i:
			out[len(out)-1].Hi++
		default:
			out = append(out, job.Span{Lo: i, Hi: i + 1})
		}
	}
	return out
}

// checkParkedOf: what waits for some recipients, in the order in which it was parked.
func checkParkedOf(t fataler, x *parked.Index, h *history, r job.Range) {
	type row struct {
		number  parked.Number
		id      job.ID
		flagged bool
		who     uint32
	}
	all, asked := idset.New(r), idset.New(r)
	var want []row
	for k, s := range h.people {
		if job.Recipient(k.who).Range() != r {
			continue
		}
		if s.outcome == job.Parked {
			all.Add(k.who)
		}
		if k.who%3 == 0 {
			continue
		}
		asked.Add(k.who)
		if s.outcome == job.Parked {
			want = append(want, row{s.number, k.id, s.flagged, k.who})
		}
	}
	checkWaiting(t, x, h, r, all)
	order := func(a, b row) int {
		return cmp.Or(cmp.Compare(a.number.Seq, b.number.Seq), cmp.Compare(a.number.Entry, b.number.Entry), slices.Compare(a.id[:], b.id[:]),
			cmp.Compare(fmt.Sprint(a.flagged), fmt.Sprint(b.flagged)), cmp.Compare(a.who, b.who))
	}
	slices.SortFunc(want, order)
	var got []row
	for _, it := range must[[]parked.Item](t)(x.ParkedOf(asked)) {
		for i := range it.Set.All() {
			got = append(got, row{it.Number, it.Job, it.Flagged, i})
		}
	}
	equal(t, "parked of", got, want) // in the same order
}

// checkWaiting: for whom anything is parked, and for whom too much, item by item.
func checkWaiting(t fataler, x *parked.Index, h *history, r job.Range, all *idset.Set) {
	waiting := must[*idset.Set](t)(x.MayWait(r))
	missed := all.Clone()
	if missed.AndNot(waiting); !missed.IsEmpty() {
		t.Fatalf("%d wait, and are not among %d", ids(missed), ids(waiting))
	}
	must[[]parked.Item](t)(x.ParkedOf(waiting)) // which finds for whom there is nothing
	equal(t, "all parked", ids(must[*idset.Set](t)(x.MayWait(r))), ids(all))
	for most := range 3 {
		c := crowd.Limits{Cap: most, Of: map[job.ID]crowd.Member{}}
		for _, id := range testJobs {
			if h.dice.IntN(4) > 0 {
				c.Of[id] = crowd.Member{Group: h.dice.IntN(3), Counts: h.dice.IntN(4) > 0}
			}
		}
		items, groups, want := map[uint32]int{}, map[[2]int]int{}, idset.New(r)
		for k, s := range h.people {
			m := c.Of[k.id]
			if s.outcome != job.Parked || job.Recipient(k.who).Range() != r {
				continue
			}
			if m.Counts {
				items[k.who]++
			}
			if m.Group > 0 {
				groups[[2]int{int(k.who), m.Group}]++
			}
			if items[k.who] > most && most > 0 || groups[[2]int{int(k.who), m.Group}] > 1 {
				want.Add(k.who)
			}
		}
		crowded, err := x.Crowded(r, c)
		if err != nil {
			t.Fatalf("crowded: %v", err)
		}
		equal(t, fmt.Sprintf("crowded by %+v", c), ids(crowded), ids(want))
		h.crowded += want.Card()
	}
}

func checkDoubts(t fataler, x *parked.Index, h *history, r job.Range) {
	var got, want []string
	for _, d := range must[[]parked.Doubt](t)(x.DoubtIn(r, job.ID{})) {
		for i := range d.Set.All() {
			got = append(got, fmt.Sprint(d.Job, i, d.Ref, d.Inc, d.Unanswered, d.Mute))
		}
		if d.Set.IsEmpty() || d.Range != r {
			t.Fatalf("%+v", d)
		}
	}
	for k, s := range h.people {
		if s.outcome == job.InDoubt && job.Recipient(k.who).Range() == r {
			want = append(want, fmt.Sprint(k.id, k.who, s.lot.ref, s.lot.inc, !s.mute && !s.final, s.mute))
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	equal(t, "in doubt", got, want)
	for _, id := range testJobs {
		n := 0
		for _, d := range must[[]parked.Doubt](t)(x.DoubtIn(r, id)) {
			n += d.Set.Card()
			if d.Job != id {
				t.Fatalf("asked for %s, got %+v", id, d)
			}
		}
		equal(t, "in doubt of one job", n, h.tally(id, r).InDoubt)
	}
}

// checkJournals: each journal is told by name, with its records, and what is open of it.
func checkJournals(t fataler, x *parked.Index, h *history, open map[job.Journal]int) {
	var got, want []string
	for _, j := range x.JournalInfos() {
		got = append(got, fmt.Sprint(j.Journal, j.Sealed, j.Open))
		if i := slices.IndexFunc(h.writers, func(w *writer) bool { return w.journal == j.Journal }); !j.Sealed && h.writers[i].next != j.Records {
			t.Fatalf("%s has %d records, want %d", j.Journal, j.Records, h.writers[i].next)
		}
	}
	for _, w := range h.writers {
		if w.next > 0 {
			want = append(want, fmt.Sprint(w.journal, w.sealed, open[w.journal]))
		}
	}
	slices.Sort(want)
	if !slices.IsSorted(got) {
		t.Fatalf("journals out of order: %v", got)
	}
	equal(t, "journals", got, want)
}

// checkOpen: a successor gets all that an incarnation may still tell of.
func checkOpen(t fataler, x *parked.Index, h *history) {
	var got, want []string
	open := map[job.Journal]int{}
	last := job.Ref{}
	for _, o := range x.OpenReserves(func(job.Journal) bool { return true }) {
		got = append(got, fmt.Sprint(o.Ref, o.Inc, o.Job, o.Range, o.Doubted, ids(o.Set)))
		if o.Ref.Journal == last.Journal && o.Ref.Before(last) {
			t.Fatalf("%s comes after %s", o.Ref, last)
		}
		last = o.Ref
	}
	for k, l := range h.lots {
		if len(l.names) == 0 {
			continue
		}
		doubted := false
		for i := range l.names {
			s := h.people[who{l.job, i}]
			doubted = doubted || s.lot != k || s.outcome != job.HandedOff
		}
		want = append(want, fmt.Sprint(k.ref, k.inc, l.job, l.rng, doubted, slices.Sorted(maps.Keys(l.names))))
		open[k.ref.Journal]++
	}
	checkJournals(t, x, h, open)
	slices.Sort(got)
	slices.Sort(want)
	equal(t, "open", got, want)
	for _, w := range h.writers {
		if x.Sealed(w.journal) != w.sealed {
			t.Fatalf("%s sealed: %v, want %v", w.journal, !w.sealed, w.sealed)
		}
		if got := x.HasOpen(w.journal); got != (open[w.journal] > 0) {
			t.Fatalf("%s has anything open: %v, want %d", w.journal, got, open[w.journal])
		}
		for _, o := range x.OpenReserves(func(j job.Journal) bool { return j == w.journal }) {
			if o.Ref.Journal != w.journal {
				t.Fatalf("%s is not of %s", o.Ref, w.journal)
			}
		}
	}
}

func TestIndexAgainstANaiveModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newHistory(rapid.Uint64().Draw(t, "seed"))
		x := newIndex(t, kv.NewMemory(), h)
		apply(t, x, h.records...)
		for n := range rapid.IntRange(0, 120).Draw(t, "records") {
			before := map[who]status{}
			for k, s := range h.people {
				before[k] = *s
			}
			done := len(h.records)
			h.record()
			changes := apply(t, x, h.records[done:]...)
			checkChanges(t, h, before, changes)
			if n%20 == 0 {
				check(t, x, h)
			}
		}
		check(t, x, h)
		if got := x.Watermark(); got != h.seq+1 {
			t.Fatalf("watermark %d, the last record is %d", got, h.seq)
		}
	})
}

// checkChanges: who was parked by a reserve or a decision is told.
func checkChanges(t fataler, h *history, before map[who]status, changes []parked.Change) {
	last := h.records[len(h.records)-1]
	if ledger.IsErasure(last.Subject) {
		if len(changes) > 0 {
			t.Fatalf("an erasure changes what jobs count: %v", changes)
		}
		return
	}
	told := map[who]bool{}
	sentBack, parks := map[job.ID]bool{}, map[job.ID]bool{}
	for _, e := range must[ledger.Record](t)(ledger.ParseRecord(last.Data)).Entries {
		switch e := e.(type) {
		case *ledger.Done:
			sentBack[e.Job] = true
		case *ledger.Reserve:
			parks[e.Job] = true
		case *ledger.Decide:
			parks[e.Job] = true
		}
	}
	for _, c := range changes {
		if !parks[c.Job] || c.Parked.IsEmpty() || c.Parked.Range != c.Range {
			t.Fatalf("neither a reserve nor a decision tells of parked ones: %+v", c)
		}
		for i := range c.Parked.All() {
			told[who{c.Job, i}] = true
		}
	}
	for k, s := range h.people {
		fresh := before[k].outcome != job.Parked && s.outcome == job.Parked
		if fresh && !s.flagged && before[k].outcome == job.Pending && s.number == (parked.Number{}) {
			t.Fatal("a recipient is parked without a number")
		}
		if fresh && before[k].outcome == job.InDoubt && s.flagged && !told[k] && !sentBack[k.id] {
			t.Fatalf("%d of %s was parked by a decision, nobody is told", k.who, k.id)
		}
		if _, was := before[k]; fresh && !was && !told[k] && !sentBack[k.id] {
			t.Fatalf("%d of %s was parked by a block, nobody is told", k.who, k.id)
		}
	}
}

func TestRebuildAndCrashGiveAnEqualIndex(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newHistory(rapid.Uint64().Draw(t, "seed"))
		for range rapid.IntRange(0, 60).Draw(t, "records") {
			h.record()
		}
		db := &recorder{Memory: kv.NewMemory()}
		x := newIndex(t, db, h)
		apply(t, x, h.records...)
		want := dump(t, x)
		check(t, x, h)

		// The records again: nothing changes.
		if changes := apply(t, x, h.records...); len(changes) > 0 || dump(t, x) != want {
			t.Fatalf("records that were applied change the index: %v", changes)
		}
		// From the beginning, in another store.
		again := newIndex(t, kv.NewMemory(), h)
		apply(t, again, h.records...)
		if dump(t, again) != want {
			t.Fatal("an index that is built again is not equal")
		}
		// From any watermark on: a crash leaves a prefix of the writes.
		for range 5 {
			cut := rapid.IntRange(0, len(db.batches)).Draw(t, "writes before the crash")
			left := kv.NewMemory()
			for _, b := range db.batches[:cut] {
				left.Write(b)
			}
			x := newIndex(t, left, h)
			from := x.Watermark()
			for _, st := range h.records {
				if st.Seq >= from {
					apply(t, x, st)
				}
			}
			if dump(t, x) != want {
				t.Fatalf("after a crash behind write %d the index is not equal", cut)
			}
			check(t, x, h)
		}
		// Opened again, it says the same.
		check(t, newIndex(t, db, h), h)
	})
}

func TestJobsCounts(t *testing.T) {
	tally := parked.Tally{Reserved: 9, HandedOff: 1, Parked: 2, InDoubt: 1, Delivered: 1, Expired: 1, Recalled: 1, Cancelled: 1}
	tally.Dropped[job.ReasonRelation] = 1
	c := tally.Counts(12)
	if c.Pending != 3 || c.Sum() != c.Package || c.Open() != 7 || c.Dropped[job.ReasonRelation] != 1 || len(c.Dropped) != 1 {
		t.Fatalf("%+v", c)
	}
}

func TestInvalidRecordsAreRefusedAndChangeNothing(t *testing.T) {
	const r = job.Range(2)
	lo := r.Lo()
	id := job.ID{1}
	j := job.Journal{Worker: "w", Incarnation: 1}
	inc, inc2 := job.Incarnation{Gateway: "g", Start: 1}, job.Incarnation{Gateway: "h", Start: 1}
	span := func(a, b uint32) job.Span { return job.Span{Lo: uint64(lo + a), Hi: uint64(lo + b)} }
	of := func(ids ...uint32) *idset.Set {
		s := idset.New(r)
		for _, i := range ids {
			s.Add(lo + i)
		}
		return s
	}
	at := func(incs []job.Incarnation, sets ...*idset.Set) ledger.Targets {
		return ledger.Targets{Incs: incs, Sets: sets}
	}
	one := []job.Incarnation{inc}
	// The package is 0..9; 0..3 are reserved: 0 dropped, 1 a target, 2 and 3 parked.
	h := &history{rng: rand.New(rand.NewPCG(1, 1)), packages: map[job.ID]map[uint32]bool{id: {}}}
	for i := range uint32(10) {
		h.packages[id][lo+i] = true
	}
	w := &writer{journal: j}
	h.append(w, []ledger.Entry{ledger.Open{}})
	h.append(w, []ledger.Entry{&ledger.Reserve{Job: id, Span: span(0, 4), IDs: 4, Rest: job.Parked,
		Dropped: []ledger.Drop{{Reason: job.ReasonRelation, Set: of(0)}}, Targets: at(one, of(1))}})
	ref := job.Ref{Journal: j, N: 1}
	reserve := func(change func(*ledger.Reserve)) ledger.Entry {
		e := &ledger.Reserve{Job: id, Span: span(4, 8), IDs: 4, Rest: job.Parked, Dropped: []ledger.Drop{{Reason: job.ReasonRelation, Set: of(4)}},
			Targets: at([]job.Incarnation{inc, inc2}, of(5), of(6))}
		change(e)
		return e
	}
	other := idset.Of((r + 1).Lo() + 5)
	for name, e := range map[string]ledger.Entry{
		"a block that is reserved already": reserve(func(e *ledger.Reserve) {
			e.Span, e.IDs, e.Dropped, e.Targets = span(3, 5), 2, nil, ledger.Targets{}
		}),
		"a block around one that is reserved": reserve(func(e *ledger.Reserve) { e.Span, e.IDs, e.Dropped, e.Targets = span(0, 10), 10, nil, ledger.Targets{} }),
		"an empty block":                      reserve(func(e *ledger.Reserve) { e.Span, e.IDs, e.Dropped, e.Targets = span(4, 4), 0, nil, ledger.Targets{} }),
		"a block of two ranges":               reserve(func(e *ledger.Reserve) { e.Span.Hi = uint64((r + 1).Lo()) + 1; e.IDs = 6 }),
		"too many ids":                        reserve(func(e *ledger.Reserve) { e.IDs = 5 }),
		"too few ids":                         reserve(func(e *ledger.Reserve) { e.IDs = 3 }),
		"a drop outside of the package":       reserve(func(e *ledger.Reserve) { e.Dropped[0].Set.Add(lo + 100) }),
		"a drop outside, counted":             reserve(func(e *ledger.Reserve) { e.Dropped[0].Set.Add(lo + 9); e.IDs = 5 }),
		"a target outside, counted":           reserve(func(e *ledger.Reserve) { e.Targets.Sets[0].Add(lo + 9); e.IDs = 5 }),
		"a target that is dropped":            reserve(func(e *ledger.Reserve) { e.Dropped[0].Set.Add(lo + 5) }),
		"dropped twice": reserve(func(e *ledger.Reserve) {
			e.Dropped = append(e.Dropped, ledger.Drop{Reason: job.ReasonSuppressed, Set: of(4)})
		}),
		"a drop of another range":         reserve(func(e *ledger.Reserve) { e.Dropped[0].Set = idset.Of((r + 1).Lo() + 4) }),
		"targets of another range":        reserve(func(e *ledger.Reserve) { e.Targets = at(one, other) }),
		"two sets for one incarnation":    reserve(func(e *ledger.Reserve) { e.Targets.Incs[1] = inc }),
		"dropped for no reason":           reserve(func(e *ledger.Reserve) { e.Dropped[0].Reason = job.NoReason }),
		"dropped for tries":               reserve(func(e *ledger.Reserve) { e.Dropped[0].Reason = job.ReasonTries }),
		"the rest is delivered":           reserve(func(e *ledger.Reserve) { e.Rest = job.Delivered }),
		"the rest is pending":             reserve(func(e *ledger.Reserve) { e.Rest = job.Pending }),
		"the rest is dropped":             reserve(func(e *ledger.Reserve) { e.Rest = job.Dropped }),
		"a drain of who is not parked":    &ledger.Drain{Job: id, Range: r, Targets: at(one, of(1))},
		"a drain of who is partly parked": &ledger.Drain{Job: id, Range: r, Targets: at(one, of(2, 5))},
		"a drain of another job":          &ledger.Drain{Job: job.ID{2}, Range: r, Targets: at(one, of(2))},
		"a drain to one incarnation twice": &ledger.Drain{Job: id, Range: r, Targets: at([]job.Incarnation{inc, inc},
			of(2), of(3))},
		"a drain of another range":           &ledger.Drain{Job: id, Range: r + 1, Targets: at(one, of(2))},
		"an end for who is not parked":       &ledger.Outcome{Job: id, Range: r, Outcome: job.Expired, Set: of(2, 4)},
		"an end that is none":                &ledger.Outcome{Job: id, Range: r, Outcome: job.InDoubt, Set: of(2)},
		"parked ones are delivered":          &ledger.Outcome{Job: id, Range: r, Outcome: job.Delivered, Set: of(2)},
		"parked ones are dropped as such":    &ledger.Outcome{Job: id, Range: r, Outcome: job.Dropped, Set: of(2)},
		"parked ones fail for suppression":   &ledger.Outcome{Job: id, Range: r, Outcome: job.Failed, Reason: job.SuppressedParked, Set: of(2)},
		"parked ones expire for a reason":    &ledger.Outcome{Job: id, Range: r, Outcome: job.Expired, Reason: job.ReasonTries, Set: of(2)},
		"an end for another range":           &ledger.Outcome{Job: id, Range: r, Outcome: job.Expired, Set: other},
		"a done about another range":         &ledger.Done{Job: id, Range: r, Of: ref, Inc: inc, NotHere: other},
		"a done that waits in another range": &ledger.Done{Job: id, Range: r, Of: ref, Inc: inc, Waiting: other},
		"a decision about another range":     &ledger.Decide{Job: id, Range: r, Failed: other},
	} {
		t.Run(name, func(t *testing.T) {
			x := newIndex(t, kv.NewMemory(), h)
			apply(t, x, h.records...)
			before := dump(t, x)
			rec := ledger.Record{Journal: j, N: 2, Entries: []ledger.Entry{e}}
			if _, err := x.Apply(context.Background(), ledger.Stored{Seq: h.seq + 1, Data: rec.Bytes()}); !errors.Is(err, parked.ErrLedger) {
				t.Fatalf("error %v, want ErrLedger", err)
			}
			if dump(t, x) != before {
				t.Fatal("a refused record changed the index")
			}
			// Nothing of it is kept beside the rows either.
			rec.Entries = []ledger.Entry{reserve(func(*ledger.Reserve) {})}
			apply(t, x, ledger.Stored{Seq: h.seq + 1, Data: rec.Bytes()})
			if total, _ := x.Total(id); total.Reserved != 8 || total.HandedOff != 3 || total.Parked != 3 || total.Dropped[job.ReasonRelation] != 2 {
				t.Fatalf("%+v", total)
			}
		})
	}
	for name, rec := range map[string]ledger.Record{
		"a number left out": {Journal: j, N: 3, Entries: []ledger.Entry{ledger.Open{}}},
		"a number again":    {Journal: j, N: 1, Entries: []ledger.Entry{ledger.Open{}}},
		"no entries":        {Journal: j, N: 2},
		"a late beginning":  {Journal: job.Journal{Worker: "x", Incarnation: 1}, N: 1, Entries: []ledger.Entry{ledger.Open{}}},
	} {
		t.Run(name, func(t *testing.T) {
			x := newIndex(t, kv.NewMemory(), h)
			apply(t, x, h.records...)
			before := dump(t, x)
			if _, err := x.Apply(context.Background(), ledger.Stored{Seq: h.seq + 1, Data: rec.Bytes()}); !errors.Is(err, parked.ErrLedger) {
				t.Fatalf("error %v, want ErrLedger", err)
			}
			if _, err := x.Apply(context.Background(), ledger.Stored{Seq: h.seq + 1, Data: bytes.Repeat([]byte{1}, 20)}); !errors.Is(err, ledger.ErrRecord) {
				t.Fatalf("error %v, want ErrRecord", err)
			}
			if dump(t, x) != before {
				t.Fatal("a refused record changed the index")
			}
		})
	}
}

// A client that has a message decides a doubt at once; but while the incarnation may
// still write it again, nobody is told to forget it, and a successor asks for it.
func TestADecisionBeforeTheLastWordLeavesTheReserveOpen(t *testing.T) {
	id, j, inc := job.ID{1}, job.Journal{Worker: "w", Incarnation: 1}, job.Incarnation{Gateway: "g", Start: 1}
	h := &history{rng: rand.New(rand.NewPCG(1, 1)), packages: map[job.ID]map[uint32]bool{id: {0: true, 1: true, 2: true, 3: true}}}
	w := &writer{journal: j}
	db := kv.NewMemory()
	x := newIndex(t, db, h)
	ref := job.Ref{Journal: j}
	for i, step := range []struct {
		entry ledger.Entry
		where string // of 0, 1, 2 and 3
		open  string
	}{
		{&ledger.Reserve{Job: id, Span: job.Span{Lo: 0, Hi: 4}, IDs: 4, Rest: job.Parked, Targets: ledger.Targets{Incs: []job.Incarnation{inc}, Sets: []*idset.Set{idset.Of(0, 1, 2, 3)}}},
			"handed_off handed_off handed_off handed_off", "[0 1 2 3] false"},
		{&ledger.Doubt{Job: id, Of: ref, Inc: inc}, "in_doubt in_doubt in_doubt in_doubt", "[0 1 2 3] true"},
		{&ledger.Decide{Job: id, Delivered: idset.Of(0), Failed: idset.Of(1)}, "handed_off handed_off in_doubt in_doubt", "[0 1 2 3] true"},
		{&ledger.Done{Job: id, Of: ref, Inc: inc, Waiting: idset.Of(0, 2), NotHere: idset.Of(3)}, "handed_off delivered handed_off parked", "[0 2] true"},
		{&ledger.Doubt{Job: id, Of: ref, Inc: inc}, "handed_off delivered in_doubt parked", "[0 2] true"},
		{&ledger.Decide{Job: id, Parked: idset.Of(2)}, "handed_off delivered parked parked", "[0 2] true"},
		{&ledger.Doubt{Job: id, Of: ref, Inc: inc, Final: true}, "delivered delivered parked parked", ""},
	} {
		apply(t, x, h.append(w, []ledger.Entry{step.entry}))
		for range 2 {
			var where, open []string
			for who := range job.Recipient(4) {
				where = append(where, must[job.Outcome](t)(x.Where(id, who)).String())
			}
			for _, o := range x.OpenReserves(func(job.Journal) bool { return true }) {
				open = append(open, fmt.Sprint(ids(o.Set), o.Doubted))
			}
			if got := strings.Join(where, " "); got != step.where {
				t.Errorf("entry %d: %s, want %s", i, got, step.where)
			}
			if got := strings.Join(open, "; "); got != step.open {
				t.Errorf("entry %d: open %s, want %s", i, got, step.open)
			}
			x = newIndex(t, db, h) // opened again it says the same
		}
	}
	total := must[parked.Tally](t)(x.Total(id))
	if total.Delivered != 1 || total.Failed != 1 || total.Parked != 2 || total.InDoubt != 0 || total.HandedOff != 0 {
		t.Errorf("%+v", total)
	}
}

// Readers see whole entries only: who is reserved is never pending again, and who
// goes from one place to the next is never in none.
func TestReadersBesideApply(t *testing.T) {
	h := newHistory(11)
	for range 150 {
		h.record()
	}
	x := newIndex(t, kv.NewMemory(), h)
	stop, done := make(chan struct{}), make(chan struct{})
	k := who{id: testJobs[0]}
	for i := range h.packages[k.id] {
		if s := h.people[who{k.id, i}]; s != nil && s.outcome != job.Delivered && h.where(who{k.id, i}) != job.Delivered {
			k.who = max(k.who, i) // open to the end: it is never delivered on its way
		}
	}
	if k.who == 0 {
		t.Fatal("this history leaves nobody open")
	}
	go func() {
		defer close(done)
		reserved := false
		for {
			select {
			case <-stop:
				return
			default:
			}
			where, err := x.Where(k.id, job.Recipient(k.who))
			if err != nil || where == job.Delivered || reserved && where == job.Pending {
				t.Errorf("recipient %d is %s (%v), reserved: %v", k.who, where, err, reserved)
				return
			}
			reserved = where != job.Pending
			for _, o := range x.OpenReserves(func(job.Journal) bool { return true }) {
				if o.Set.IsEmpty() {
					t.Errorf("%s is open and has no ids", o.Ref)
				}
			}
			x.Watermark()
			x.Sealed(h.writers[0].journal)
		}
	}()
	apply(t, x, h.records...)
	close(stop)
	<-done
}
