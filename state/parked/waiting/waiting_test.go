package waiting

import (
	"errors"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"crier/internal/idset"
	"crier/job"
)

const testRange = job.Range(5)

// TestNobodyWhoWaitsIsMissed: rows come and go, and somebody looks, at every instant between the
// two: whoever has a row that was there when People was asked is in what it gives.
func TestNobodyWhoWaitsIsMissed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var p People
		rows, unnoted := map[uint32]bool{}, map[uint32]bool{} // unnoted: written, not added yet
		type look struct {
			mark  uint64
			found map[uint32]bool // nil: not read yet
			who   []uint32
		}
		var looks []*look
		read := func() (*idset.Set, error) { return setOf(rows), nil }
		draw := func() []uint32 {
			if rapid.IntRange(0, 20).Draw(t, "many") == 0 {
				var many []uint32
				for id := range uint32(300) {
					many = append(many, testRange.Lo()+id*3)
				}
				return many
			}
			ids := rapid.SliceOfN(rapid.Uint32Range(0, 100), 1, 4).Draw(t, "who")
			for i := range ids {
				ids[i] += testRange.Lo()
			}
			return ids
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 6).Draw(t, "step") {
			case 0, 1: // rows are written
				for _, id := range draw() {
					rows[id], unnoted[id] = true, true
				}
			case 2: // and then noted
				p.Add(setOf(unnoted))
				clear(unnoted)
			case 3: // rows go
				for _, id := range draw() {
					if !unnoted[id] {
						delete(rows, id)
					}
				}
			case 4: // somebody begins to look
				looks = append(looks, &look{mark: p.Mark(testRange), who: draw()})
			case 5: // reads, and tells
				if len(looks) == 0 {
					continue
				}
				x := looks[0]
				if x.found == nil {
					x.found = maps.Clone(rows)
					continue
				}
				gone := idset.New(testRange)
				for _, id := range x.who {
					if !x.found[id] {
						gone.Add(id)
					}
				}
				p.Gone(gone, x.mark)
				looks = looks[1:]
			case 6:
				got, err := p.In(testRange, read)
				if err != nil {
					t.Fatal(err)
				}
				for id := range rows {
					if !got.Has(id) && !unnoted[id] {
						t.Fatalf("%d has a row, and is not among %d", id, slices.Collect(got.All()))
					}
				}
			}
		}
	})
}

func setOf(ids map[uint32]bool) *idset.Set {
	s := idset.New(testRange)
	for id := range ids {
		s.Add(id)
	}
	return s
}

// TestWhoIsGoneIsNotNamed, but who was added meanwhile stays; a failed reading is made again.
func TestWhoIsGoneIsNotNamed(t *testing.T) {
	var p People
	lo := testRange.Lo()
	fault := errors.New("no disk")
	if _, err := p.In(testRange, func() (*idset.Set, error) { return nil, fault }); !errors.Is(err, fault) {
		t.Fatalf("it could not be read: %v", err)
	}
	in := func() []uint32 {
		s, err := p.In(testRange, func() (*idset.Set, error) { return idset.Of(lo+1, lo+2, lo+3), nil })
		if err != nil {
			t.Fatal(err)
		}
		return slices.Collect(s.All())
	}
	if got := in(); !slices.Equal(got, []uint32{lo + 1, lo + 2, lo + 3}) {
		t.Fatalf("of the rows: %d", got)
	}
	mark := p.Mark(testRange)
	p.Gone(idset.Of(lo+2), mark)
	if got := in(); !slices.Equal(got, []uint32{lo + 1, lo + 3}) {
		t.Fatalf("one is gone: %d", got)
	}
	p.Add(idset.Of(lo + 9))
	p.Gone(idset.Of(lo+1, lo+9), mark)
	if got := in(); !slices.Equal(got, []uint32{lo + 1, lo + 3, lo + 9}) {
		t.Fatalf("somebody was added since the look: %d", got)
	}
	p.Gone(idset.Of(lo+1, lo+9), p.Mark(testRange))
	if got := in(); !slices.Equal(got, []uint32{lo + 3}) {
		t.Fatalf("nobody was: %d", got)
	}
}
