package opens_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"testing"

	"crier/internal/idset"
	"crier/job"
	"crier/state/parked/kv"
	"crier/state/parked/opens"
)

// world has a table with its store, and a plain map that says what it must have.
type world struct {
	t     *testing.T
	rng   *rand.Rand
	store *kv.Memory
	table *opens.Table
	want  map[opens.Name][]uint32
	seqs  map[opens.Name]uint64
	says  map[string][]uint32 // what the ledger says
}

func said(seq uint64, entry uint16, inc job.Incarnation) string { return fmt.Sprint(seq, entry, inc) }

func (w *world) name(record uint64) opens.Name {
	entry := uint16(w.rng.IntN(4))
	return opens.Name{Range: job.Range(record % 2), Job: job.ID{byte(entry) + 1}, Inc: job.Incarnation{Gateway: "g", Start: uint32(w.rng.IntN(2))},
		Ref: job.Ref{Journal: job.Journal{Worker: "w", Incarnation: 1}, N: record, Entry: entry}}
}

// step changes something of one record: opens it, leaves half of it, or closes it.
func (w *world) step(a *opens.Ahead, record uint64, want map[opens.Name][]uint32) {
	n := w.name(record)
	ids, isOpen := want[n]
	switch {
	case !isOpen && w.seqs[n] == 0:
		ids = []uint32{n.Range.Lo() + uint32(record)%100, n.Range.Lo() + 200, n.Range.Lo() + 70_000}
		w.seqs[n] = 1000 + record
		w.says[said(w.seqs[n], n.Ref.Entry, n.Inc)] = ids
		a.Put(&opens.Open{Name: n, Set: idset.Of(ids...), Seq: w.seqs[n]})
	case !isOpen: // one in doubt answers after all
		ids = []uint32{n.Range.Lo() + 200}
		a.Put(&opens.Open{Name: n, Set: idset.Of(ids...)})
	case len(ids) > 1 && w.rng.IntN(2) == 0:
		ids = ids[1:]
		a.Put(&opens.Open{Name: n, Set: idset.Of(ids...)})
	default:
		a.Drop(n)
		delete(want, n)
		return
	}
	want[n] = ids
}

func (w *world) check(what string, get func(opens.Name) *opens.Open, want map[opens.Name][]uint32) {
	w.t.Helper()
	for n := range w.seqs {
		o, ids := get(n), want[n]
		if (o != nil) != (ids != nil) || o != nil && !o.Set.Equal(idset.Of(ids...)) {
			w.t.Fatalf("%s: %v is %v, want %v", what, n, o, ids)
		}
	}
}

func (w *world) targets(seq uint64, entry uint16, inc job.Incarnation) (job.ID, *idset.Set, error) {
	ids, ok := w.says[said(seq, entry, inc)]
	if !ok {
		return job.ID{}, nil, fmt.Errorf("the ledger says nothing of record %d, entry %d at %s", seq, entry, inc)
	}
	return job.ID{byte(entry) + 1}, idset.Of(ids...), nil
}

// load reads the table from the store, as a start does.
func (w *world) load() *opens.Table {
	t := &opens.Table{}
	for r := range job.Range(2) {
		if err := t.Load(r, w.store, w.targets); err != nil {
			w.t.Fatal(err)
		}
	}
	return t
}

func dump(t *testing.T, s kv.Store) (rows []string) {
	t.Helper()
	if err := s.Scan(nil, nil, func(k, v []byte) error {
		rows = append(rows, fmt.Sprintf("%x %x", k, v))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return rows
}

// batch changes some things and writes them.
func (w *world) batch() {
	a := opens.NewAhead(w.table)
	want := maps.Clone(w.want)
	for range 1 + w.rng.IntN(12) {
		w.step(&a, w.rng.Uint64N(6), want)
	}
	w.check("ahead", a.Get, want)
	w.check("the table meanwhile", w.table.Get, w.want)
	var b kv.Batch
	a.Rows(&b)
	if err := w.store.Write(&b); err != nil {
		w.t.Fatal(err)
	}
	a.Written()
	w.want = want
	w.check("the table", w.table.Get, want)
}

func TestRowsSayWhatIsOpen(t *testing.T) {
	for seed := range uint64(300) {
		w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 0)), store: kv.NewMemory(), table: &opens.Table{},
			want: map[opens.Name][]uint32{}, seqs: map[opens.Name]uint64{}, says: map[string][]uint32{}}
		for range 30 {
			w.batch()
			loaded := w.load()
			n := 0
			for range loaded.All() {
				n++
			}
			if n != len(w.want) {
				t.Fatalf("seed %d: %d are open after a start, want %d", seed, n, len(w.want))
			}
			w.check("after a start", loaded.Get, w.want)
			whole := kv.NewMemory() // the rows follow from what is open, whatever the batches were
			a := opens.NewAhead(&opens.Table{})
			for o := range loaded.All() {
				a.Put(o)
			}
			var b kv.Batch
			a.Rows(&b)
			if err := whole.Write(&b); err != nil {
				t.Fatal(err)
			}
			if got, want := dump(t, w.store), dump(t, whole); !reflect.DeepEqual(got, want) {
				t.Fatalf("seed %d: rows\n%v\nwant\n%v", seed, got, want)
			}
		}
	}
}

// What opens and closes between two writes costs no row, and what one record opens in a range
// at one incarnation costs one.
func TestFewRows(t *testing.T) {
	w := &world{t: t, rng: rand.New(rand.NewPCG(1, 1)), store: kv.NewMemory(), table: &opens.Table{}}
	name := func(entry uint16) opens.Name {
		return opens.Name{Range: 1, Job: job.ID{byte(entry)}, Ref: job.Ref{Journal: job.Journal{Worker: "w", Incarnation: 1}, N: 9, Entry: entry}, Inc: job.Incarnation{Gateway: "g", Start: 1}}
	}
	write := func(change func(a *opens.Ahead)) int {
		a := opens.NewAhead(w.table)
		change(&a)
		var b kv.Batch
		a.Rows(&b)
		a.Written()
		return len(b.Ops)
	}
	open := func(a *opens.Ahead) {
		for entry := range uint16(10) {
			a.Put(&opens.Open{Name: name(entry), Set: idset.Of(job.Range(1).Lo()), Seq: 77})
		}
	}
	drop := func(a *opens.Ahead) {
		for entry := range uint16(10) {
			a.Drop(name(entry))
		}
	}
	if n := write(func(a *opens.Ahead) { open(a); drop(a) }); n != 0 {
		t.Errorf("what opened and closed at once took %d changes", n)
	}
	if n := write(open); n != 1 {
		t.Errorf("ten entries of a record took %d changes", n)
	}
	if n := write(drop); n != 1 {
		t.Errorf("closing ten entries of a record took %d changes", n)
	}
}

func TestNeeds(t *testing.T) {
	table := &opens.Table{}
	a := opens.NewAhead(table)
	n := opens.Name{Range: 3, Job: job.ID{1}, Ref: job.Ref{Journal: job.Journal{Worker: "w"}, N: 2}, Inc: job.Incarnation{Gateway: "g"}}
	a.Put(&opens.Open{Name: n, Set: idset.Of(job.Range(3).Lo()), Seq: 300})
	n.Ref.Entry = 1
	a.Put(&opens.Open{Name: n, Set: idset.Of(job.Range(3).Lo())})
	var b kv.Batch
	a.Rows(&b)
	var needs []uint64
	for _, op := range b.Ops {
		seq, ok, err := opens.Needs(op.Key, op.Value)
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			needs = append(needs, seq)
		}
	}
	if !reflect.DeepEqual(needs, []uint64{300}) {
		t.Errorf("the rows need the records %v, want 300 alone", needs)
	}
	for _, op := range b.Ops {
		if _, ok, err := opens.Needs(op.Key, []byte{0x80}); (err != nil) != ok {
			t.Errorf("a row that breaks off: %v, %v", ok, err)
		}
	}
}
