package totals

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"crier/job"
	"crier/state/parked/kv"
)

func rows(t *testing.T, scan func(fn func(k, v []byte) error) error) (all []string) {
	t.Helper()
	if err := scan(func(k, v []byte) error { all = append(all, fmt.Sprintf("%x %x", k, v)); return nil }); err != nil {
		t.Fatal(err)
	}
	return all
}

func folded(s kv.Store) func(fn func(k, v []byte) error) error {
	return func(fn func(k, v []byte) error) error {
		take, end := Folded(fn)
		if err := s.Scan(nil, nil, take); err != nil {
			return err
		}
		return end()
	}
}

// Whatever the batches were, and whenever the index is opened again, a total is what it was
// last made; and the folded rows are those of a plain store of totals.
func TestTotalsSurviveEveryBatch(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 0))
		store, plain := kv.NewMemory(), kv.NewMemory()
		beside := func(b *kv.Batch) { // rows of others, before and behind
			for _, k := range []string{"\x00\x07p", "\xff\xffW", "\xff\xffj", "\xff\xffz"} {
				b.Put([]byte(k), []byte{1})
			}
		}
		want := map[job.ID]Tally{}
		jobs := []int{1, 5, 300, 6000}[seed%4]
		var table Table
		if err := table.Load(store); err != nil {
			t.Fatal(err)
		}
		for n := range 300 {
			a := Ahead{}
			for range rng.IntN(min(jobs, 40)) {
				id := job.ID{byte(rng.IntN(jobs)), byte(rng.IntN(jobs) >> 8)}
				total := want[id]
				total.Add(&Tally{Delivered: 1, Parked: uint64(rng.IntN(3))})
				a[id] = total
			}
			var b, p kv.Batch
			beside(&b)
			beside(&p)
			table.Rows(&b, a)
			for id, total := range a {
				before, has := want[id]
				if got, ok := table.Get(id); ok && got != before || !ok && has && n == 0 {
					t.Fatalf("before it is written, %s has %+v, want %+v", id, got, before)
				}
				want[id] = total
				one := Table{since: map[job.ID]Tally{}, turn: turns} // it writes the row of the job
				one.Rows(&p, Ahead{id: total})
			}
			if err := store.Write(&b); err != nil {
				t.Fatal(err)
			}
			table.Written(a)
			if len(table.since) > most || len(table.known) > most {
				t.Fatalf("%d and %d totals are remembered", len(table.since), len(table.known))
			}
			p.Ops = append(p.Ops, kv.Op{Key: changesKey(0)}) // a row of changes that says nothing
			if err := plain.Write(&p); err != nil {
				t.Fatal(err)
			}
			if rng.IntN(10) == 0 {
				table = Table{}
				if err := table.Load(store); err != nil {
					t.Fatal(err)
				}
			}
			for id, total := range want {
				got, ok := table.Get(id)
				if !ok {
					var err error
					if got, err = Read(store, id); err != nil {
						t.Fatal(err)
					}
				}
				if got != total {
					t.Fatalf("seed %d, batch %d: %s has %+v, want %+v", seed, n, id, got, total)
				}
			}
			if n%20 == 0 {
				got := rows(t, folded(store))
				if want := rows(t, func(fn func(k, v []byte) error) error { return plain.Scan(nil, nil, fn) }); !reflect.DeepEqual(got, want) {
					t.Fatalf("seed %d, batch %d: the rows are\n%v\nwant\n%v", seed, n, got, want)
				}
			}
		}
	}
}

func TestChangesThatBreakOff(t *testing.T) {
	store := kv.NewMemory()
	var b kv.Batch
	b.Put(changesKey(0), []byte{1, 2, 3})
	if err := store.Write(&b); err != nil {
		t.Fatal(err)
	}
	var table Table
	if err := table.Load(store); err == nil {
		t.Error("a row of changes that breaks off is taken")
	}
}
