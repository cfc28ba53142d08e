// Package acceptedtest holds every accepted-file to the same behaviour.
package acceptedtest

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"crier/job"
	"crier/presence/gateway"
	"crier/presence/gateway/accepted"
)

// Store is the accepted-file of one running incarnation.
type Store interface {
	Append(r gateway.Record) error
	Mark(ref job.Ref, rank uint32)
	Free(start uint32, ref job.Ref) error
	Close() error
}

// Machine is where the accepted-files of one gateway are.
type Machine interface {
	// Open starts an incarnation; the one before is killed if it was not closed.
	Open(start uint32) (Store, gateway.History, error)
	// Reboot stops the machine and starts it again.
	Reboot()
	// Limit is a number of records of 20,000 recipients that does not fit.
	Limit() int
}

// Run holds a machine, made anew for each test, to the behaviour.
func Run(t *testing.T, machine func(t *testing.T) Machine) {
	for name, test := range map[string]func(*testing.T, Machine){
		"what was appended survives a kill":        testKill,
		"a freed record is gone":                   testFree,
		"after a reboot nothing can be said":       testReboot,
		"a start is used once":                     testStarts,
		"full files take nothing, until one frees": testFull,
		"old incarnations become unreadable":       testKeep,
		"it agrees with a list":                    testModel,
	} {
		t.Run(name, func(t *testing.T) { test(t, machine(t)) })
	}
}

// Record makes a record with n accepted recipients, one away, and some mute.
func Record(n uint64, ids ...uint32) gateway.Record {
	r := gateway.Record{Ref: job.Ref{Journal: job.Journal{Worker: "w1", Incarnation: 2}, N: n, Entry: 3}, IDs: ids,
		Mute: gateway.MakeBits(len(ids)), Acked: gateway.MakeBits(len(ids))}
	r.Job[15] = byte(n)
	if len(ids) > 0 {
		r.Away = []uint32{ids[len(ids)-1] + 1}
		r.Mute.Set(len(ids) - 1)
	}
	return r
}

func open(t *testing.T, m Machine, start uint32) (Store, gateway.History) {
	t.Helper()
	s, h, err := m.Open(start)
	if err != nil {
		t.Fatalf("opening start %d: %v", start, err)
	}
	return s, h
}

func appended(t *testing.T, s Store, r gateway.Record) {
	t.Helper()
	if err := s.Append(r); err != nil {
		t.Fatal(err)
	}
}

// find gives what a history says of a start.
func find(h gateway.History, start uint32) (gateway.Ended, bool) {
	i := slices.IndexFunc(h.Ended, func(e gateway.Ended) bool { return e.Start == start })
	if i < 0 {
		return gateway.Ended{}, false
	}
	return h.Ended[i], true
}

func same(a, b gateway.Record) bool {
	if a.Ref != b.Ref || a.Job != b.Job || !slices.Equal(a.IDs, b.IDs) || !slices.Equal(a.Away, b.Away) {
		return false
	}
	for i := range a.IDs {
		if a.Mute.Has(i) != b.Mute.Has(i) || a.Acked.Has(i) != b.Acked.Has(i) {
			return false
		}
	}
	return true
}

func testKill(t *testing.T, m Machine) {
	s, h := open(t, m, 4)
	if h.First != 4 || len(h.Ended) != 0 {
		t.Fatalf("a new machine remembers %+v", h)
	}
	big := make([]uint32, 0, 100000)
	for i := range uint32(100000) {
		big = append(big, 1<<20+i*7)
	}
	want := []gateway.Record{Record(1, 5, 70000, 70001), Record(2, big...)}
	want[1].Acked.Set(99)
	for _, r := range want {
		appended(t, s, r)
	}
	for _, rank := range []uint32{0, 2, 63, 64, 99999, 200000} {
		for i := range want {
			s.Mark(want[i].Ref, rank)
			if int(rank) < len(want[i].IDs) {
				want[i].Acked.Set(int(rank))
			}
		}
	}
	s.Mark(Record(9, 1).Ref, 0)
	for start := uint32(5); start < 8; start++ { // it stays until somebody frees it
		_, h = open(t, m, start)
		e, ok := find(h, 4)
		if !ok || e.Unreadable || len(e.Records) != 2 || !same(e.Records[0], want[0]) || !same(e.Records[1], want[1]) || h.First != 4 {
			t.Fatalf("start %d finds %d records, first %d", start, len(e.Records), h.First)
		}
		if len(h.Ended) != 1 {
			t.Fatalf("start %d speaks of %d starts, of which one left something", start, len(h.Ended))
		}
	}
}

func testFree(t *testing.T, m Machine) {
	s, _ := open(t, m, 1)
	one, two := Record(1, 5, 6), Record(2, 7)
	appended(t, s, one)
	appended(t, s, two)
	for range 2 {
		if err := s.Free(1, one.Ref); err != nil {
			t.Fatal(err)
		}
	}
	s, h := open(t, m, 2)
	if e, _ := find(h, 1); len(e.Records) != 1 || !same(e.Records[0], two) {
		t.Fatalf("after one is freed: %+v", h)
	}
	appended(t, s, one) // another incarnation, the same reserve
	if err := s.Free(1, two.Ref); err != nil {
		t.Fatal(err)
	}
	s, h = open(t, m, 3)
	if _, ok := find(h, 1); ok || h.First != 1 {
		t.Fatalf("after all are freed: %+v", h)
	}
	if e, _ := find(h, 2); len(e.Records) != 1 {
		t.Fatalf("start 2 left %+v", h)
	}
	if err := s.Free(2, one.Ref); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, h = open(t, m, 9); len(h.Ended) != 0 || h.First != 1 {
		t.Fatalf("when nothing is left: %+v", h)
	}
}

func testReboot(t *testing.T, m Machine) {
	s, _ := open(t, m, 1)
	appended(t, s, Record(1, 5))
	open(t, m, 2) // accepts nothing
	m.Reboot()
	for start := uint32(3); start < 6; start++ {
		s, h := open(t, m, start)
		if e, ok := find(h, 1); !ok || !e.Unreadable || len(e.Records) != 0 {
			t.Fatalf("start %d says of the one before the reboot: %+v", start, h)
		}
		if _, ok := find(h, 2); ok {
			t.Fatalf("start %d: 2 accepted nothing, and is listed: %+v", start, h)
		}
		if err := s.Free(1, Record(1, 5).Ref); err != nil {
			t.Fatal(err)
		}
	}
}

func testStarts(t *testing.T, m Machine) {
	s, _ := open(t, m, 5)
	appended(t, s, Record(1, 5))
	for _, start := range []uint32{5, 4} {
		if _, _, err := m.Open(start); job.CodeOf(err) != job.CodeConflict {
			t.Fatalf("start %d after 5: %v", start, err)
		}
	}
	if _, h := open(t, m, 6); h.First != 5 || len(h.Ended) != 1 {
		t.Fatalf("after refused starts: %+v", h)
	}
}

func testFull(t *testing.T, m Machine) {
	s, _ := open(t, m, 1)
	var in []gateway.Record
	ids := make([]uint32, 0, 20000)
	for i := range uint32(20000) { // neither runs nor few: a large record
		ids = append(ids, i*3)
	}
	for n := range m.Limit() {
		r := Record(uint64(n), ids...)
		if err := s.Append(r); err != nil {
			if !errors.Is(err, accepted.ErrFull) {
				t.Fatalf("full: %v", err)
			}
			break
		}
		in = append(in, r)
	}
	if len(in) == m.Limit() || len(in) < 2 {
		t.Fatalf("%d records went in", len(in))
	}
	for _, r := range in {
		if err := s.Free(1, r.Ref); err != nil {
			t.Fatal(err)
		}
	}
	appended(t, s, Record(1<<20, ids...))
	_, h := open(t, m, 2)
	if e, _ := find(h, 1); len(e.Records) != 1 || e.Records[0].Ref.N != 1<<20 {
		t.Fatalf("%d records are left", len(e.Records))
	}
}

func testKeep(t *testing.T, m Machine) {
	const starts = 20
	for start := uint32(1); start <= starts; start++ {
		s, _ := open(t, m, start)
		appended(t, s, Record(uint64(start), 5))
	}
	_, h := open(t, m, starts+1)
	readable, unreadable := 0, 0
	for _, e := range h.Ended {
		if e.Unreadable {
			unreadable++
		} else {
			readable++
		}
	}
	if readable != 16 || unreadable != starts-16 {
		t.Fatalf("%d incarnations are readable, %d are not", readable, unreadable)
	}
}

// testModel does what a gateway may do in any order, against plain lists.
func testModel(t *testing.T, m Machine) {
	rng := rand.New(rand.NewPCG(7, 7))
	type entry struct {
		start uint32
		r     gateway.Record
	}
	var model []entry
	start := uint32(1)
	s, _ := open(t, m, start)
	for n := range uint64(400) {
		switch rng.IntN(10) {
		case 0, 1, 2, 3:
			ids := []uint32{}
			for id := rng.Uint32N(5); len(ids) < 1+rng.IntN(200); id += 1 + rng.Uint32N(300) {
				ids = append(ids, id)
			}
			r := Record(n, ids...)
			appended(t, s, r)
			r.Acked = slices.Clone(r.Acked)
			model = append(model, entry{start, r})
		case 4, 5, 6, 7:
			if len(model) == 0 {
				continue
			}
			e := model[rng.IntN(len(model))]
			rank := rng.IntN(len(e.r.IDs))
			s.Mark(e.r.Ref, uint32(rank))
			if e.start == start {
				e.r.Acked.Set(rank)
			}
		case 8:
			if len(model) == 0 {
				continue
			}
			i := rng.IntN(len(model))
			if err := s.Free(model[i].start, model[i].r.Ref); err != nil {
				t.Fatal(err)
			}
			model = slices.Delete(model, i, i+1)
		default:
			if rng.IntN(8) > 0 {
				continue
			}
			start++
			var h gateway.History
			s, h = open(t, m, start)
			got := 0
			for _, e := range h.Ended {
				for _, r := range e.Records {
					i := slices.IndexFunc(model, func(x entry) bool { return x.start == e.Start && x.r.Ref == r.Ref })
					if i < 0 || !same(model[i].r, r) {
						t.Fatalf("start %d has a record %s that is not as it was left", e.Start, r.Ref)
					}
					got++
				}
			}
			if got != len(model) {
				t.Fatalf("%d records came back, %d were left", got, len(model))
			}
		}
	}
}
