package logins

import (
	"slices"
	"testing"

	"crier/internal/idset"
	"crier/job"
)

// The packages, put together, have each recipient as often as messages are due to it, and each
// package has whom it is asked about one by one.
func TestMembersAreWhoTheyAreSaidToBe(t *testing.T) {
	for _, m := range []Members{{Recipients: 20_000, Jobs: 40, Items: 4, Heavy: 3, Seed: 1}, {Recipients: 1009, Jobs: 7, Items: 7, Seed: 2}, {Recipients: 510, Jobs: 1000, Items: 2, Heavy: 10}} {
		if err := m.Validate(); err != nil {
			t.Fatal(err)
		}
		times := map[uint32]int{}
		for n := range m.Jobs {
			var got []uint32
			if err := m.members(n, func(s *idset.Set) error { got = slices.AppendSeq(got, s.All()); return nil }); err != nil {
				t.Fatal(err)
			}
			var want []uint32
			for i := range m.Recipients {
				if m.in(i, n) {
					want = append(want, m.id(i))
				}
			}
			if !slices.Equal(got, want) {
				t.Fatalf("%+v: job %d has %d recipients, want %d", m, n, len(got), len(want))
			}
			for _, id := range got {
				times[id]++
			}
		}
		for i := range m.Recipients {
			if times[m.id(i)] != m.due(i) {
				t.Fatalf("%+v: recipient %d is in %d jobs, want %d", m, i, times[m.id(i)], m.due(i))
			}
			if at, ok := m.indexOf(m.id(i)); !ok || at != i {
				t.Fatalf("recipient %d is found at %d, %v", i, at, ok)
			}
			if _, ok := m.indexOf(m.id(i) + 1); ok && m.id(i+1) != m.id(i)+1 {
				t.Fatalf("a stranger beside recipient %d is taken for one", i)
			}
		}
	}
	var ranges []job.Range
	m := Members{Recipients: 30_000, Jobs: 10, Items: 1}
	if err := m.ranges(0, m.Recipients, 1, func(s *idset.Set) error { ranges = append(ranges, s.Range); return nil }); err != nil || !slices.IsSorted(ranges) || len(ranges) != 5 {
		t.Fatalf("%v, %v: want each of five ranges once", ranges, err)
	}
	for _, m := range []Members{{Recipients: 100, Jobs: 3, Items: 2}, {Recipients: 1 << 30, Jobs: 1, Items: 1}, {Recipients: 5, Jobs: 10, Items: 1}, {Recipients: 10_000, Jobs: 4000, Items: 1}} {
		if m.Validate() == nil {
			t.Errorf("%+v is valid", m)
		}
	}
}
