package ledger

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"crier/internal/idset"
	"crier/job"
)

var sets = cmp.Comparer(func(a, b *idset.Set) bool {
	if a == nil || b == nil {
		return a.IsEmpty() && b.IsEmpty()
	}
	return a.Equal(b)
})

func randomSet(rng *rand.Rand, r job.Range, n int) *idset.Set {
	s := idset.New(r)
	for range n {
		s.Add(r.Lo() + rng.Uint32N(1<<20))
	}
	return s
}

// randomTargets deals ids to gateways and remembers, in a map, who got which.
func randomTargets(rng *rand.Rand, r job.Range, gateways, n int) (Targets, map[uint32]int) {
	var t Targets
	for i := range gateways {
		t.Incs = append(t.Incs, job.Incarnation{Gateway: "gw", Start: uint32(i)})
		t.Sets = append(t.Sets, idset.New(r))
	}
	dealt := map[uint32]int{}
	for range n {
		id := r.Lo() + rng.Uint32N(1<<20)
		if _, ok := dealt[id]; ok || gateways == 0 {
			continue
		}
		k := rng.IntN(gateways)
		dealt[id] = k
		t.Sets[k].Add(id)
	}
	return t, dealt
}

func TestEveryEntrySurvivesARecord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		r := job.Range(rng.IntN(job.Ranges))
		id := job.NewID(time.UnixMilli(rng.Int64N(1<<40)), [10]byte{1, 2, 3})
		ref := job.Ref{Journal: job.Journal{Worker: "w1", Incarnation: 7}, N: rng.Uint64(), Entry: 9}
		inc := job.Incarnation{Gateway: "gw1", Start: 3}
		targets, dealt := randomTargets(rng, r, rng.IntN(20), rng.IntN(5000))
		rec := Record{Journal: ref.Journal, N: 5, Nonce: [16]byte{9}, Prev: job.Digest{8}, Entries: []Entry{
			Open{Boot: "boot"},
			&Reserve{Job: id, Slice: 4, Span: job.Span{Lo: uint64(r.Lo()), Hi: uint64(r.Lo()) + 1<<20}, IDs: 77, Rest: job.Parked,
				Dropped: []Drop{{job.ReasonRelation, randomSet(rng, r, 50)}}, Targets: targets},
			&Drain{Job: id, Range: r, Targets: targets},
			&Done{Job: id, Range: r, Of: ref, Inc: inc, Waiting: randomSet(rng, r, 3), Mute: randomSet(rng, r, 3)},
			&Doubt{Job: id, Range: r, Of: ref, Inc: inc},
			&Decide{Job: id, Range: r, Delivered: randomSet(rng, r, 3), Failed: randomSet(rng, r, 1)},
			&Outcome{Job: id, Range: r, Outcome: job.Expired, Set: randomSet(rng, r, 30)},
			Seal{By: ref.Journal},
		}}
		b := rec.Bytes()
		got, err := ParseRecord(b)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(rec, got, sets, cmp.Comparer(func(a, b Targets) bool {
			return len(a.Sets) == len(b.Sets) && cmp.Equal(a.Incs, b.Incs) && cmp.Equal(a.Sets, b.Sets, sets)
		})); d != "" {
			t.Fatal(d)
		}
		for id, k := range dealt {
			if !got.Entries[2].(*Drain).Targets.Sets[k].Has(id) {
				t.Fatalf("id %d was dealt to gateway %d and is not there", id, k)
			}
		}
		if !bytes.Equal(got.Bytes(), b) || !got.Sealed() {
			t.Fatalf("the record's bytes change, or its seal is lost")
		}
	})
}

func TestTargetsAreShort(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	targets, _ := randomTargets(rng, 0, 8, 16*20000)
	e := EncodeEntry(&Reserve{Targets: targets})
	if per := len(e) / 16; per > 16<<10 {
		t.Fatalf("%d bytes a dense container with 30 %% online at 8 gateways, want about 15 KB", per)
	}
}

// many makes entries that have a set in each of 16 containers.
func many(entries int) (rec Record, containers int) {
	sparse := idset.New(7)
	for c := range uint32(idset.Containers) { // three in each: together too many to be a list
		for _, id := range []uint32{5, 10, 15} {
			sparse.Add(job.Range(7).Lo() + c<<idset.ContainerBits + id)
		}
	}
	for i := range entries {
		e := []Entry{&Outcome{Range: 7, Outcome: job.Expired, Set: sparse}, &Decide{Range: 7, Parked: sparse, Failed: sparse},
			&Done{Range: 7, NotHere: sparse}, &Drain{Range: 7, Targets: Targets{[]job.Incarnation{{}}, []*idset.Set{sparse}}},
			&Reserve{Span: job.Span{Lo: 7 << 20, Hi: 8 << 20}, Dropped: []Drop{{job.ReasonRelation, sparse}}},
			Seal{}}[i%6]
		rec.Entries = append(rec.Entries, e)
		containers += []int{16, 32, 16, 16, 16, 0}[i%6]
	}
	return rec, containers
}

// A record whose sets would take far more memory than it has bytes is refused
// before they do.
func TestTheMemoryOfARecordIsBounded(t *testing.T) {
	n := 0
	for _, c := many(n); c <= MaxContainers; _, c = many(n) {
		n++
	}
	over, _ := many(n)
	rec, containers := many(n - 1)
	total := 0
	for _, e := range rec.Entries {
		total += Containers(e)
	}
	if total != containers {
		t.Fatalf("%d containers are counted as %d", containers, total)
	}
	if _, err := ParseRecord(rec.Bytes()); err != nil {
		t.Errorf("%d containers: %v", containers, err)
	}
	if _, err := ParseRecord(over.Bytes()); !errors.Is(err, ErrRecord) {
		t.Errorf("more than %d containers: %v", MaxContainers, err)
	}
	sparse := over.Entries[0].(*Outcome).Set
	bomb := Record{Entries: make([]Entry, MaxEntries)}
	for i := range bomb.Entries {
		bomb.Entries[i] = &Decide{Delivered: sparse, Parked: sparse, Failed: sparse}
	}
	b := bomb.Bytes()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := ParseRecord(b)
	runtime.ReadMemStats(&after)
	if took := (after.TotalAlloc - before.TotalAlloc) >> 20; !errors.Is(err, ErrRecord) || took > 150 {
		t.Errorf("%d bytes: %v, after %d MiB", len(b), err, took)
	}
	// One entry is as large as it is: it cannot be written in parts.
	wide := &Reserve{Span: job.Span{Hi: 1 << 20}}
	for range 255 {
		wide.Dropped = append(wide.Dropped, Drop{job.ReasonRelation, sparse})
	}
	for i := range 1000 {
		wide.Targets.Incs = append(wide.Targets.Incs, job.Incarnation{Start: uint32(i)})
		s := idset.New(0)
		for c := range uint32(idset.Containers) {
			for id := range uint32(3) {
				s.Add(c<<idset.ContainerBits + 3*uint32(i) + id)
			}
		}
		wide.Targets.Sets = append(wide.Targets.Sets, s)
	}
	if n := Containers(wide); n <= MaxContainers {
		t.Fatalf("only %d containers", n)
	}
	if _, err := ParseRecord(Record{Entries: []Entry{wide}}.Bytes()); err != nil {
		t.Errorf("one large entry: %v", err)
	}
}

func FuzzParseRecord(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 2))
	targets, _ := randomTargets(rng, 0, 3, 20)
	f.Add(Record{Entries: []Entry{&Drain{Targets: targets}, Seal{}}}.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRecord(b)
		if err != nil {
			return
		}
		if _, err := ParseRecord(r.Bytes()); err != nil {
			t.Fatal(err)
		}
	})
}
