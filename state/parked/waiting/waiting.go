// Package waiting remembers for whom anything may be parked, so that who is parked and online is
// found without reading every row again and again. It may name somebody for whom nothing is
// parked any more, never miss one for whom something is: rows are written before who they
// are for is added, and nobody is taken out for whom rows may have been written since it was
// looked.
//
// Memory: two bytes a recipient where few of 65,536 neighbours wait, a bit for each of them where
// many do: 512 MiB if somebody waits everywhere in the whole space of ids.
package waiting

import (
	"sync"

	"github.com/RoaringBitmap/roaring/v2"

	"crier/internal/idset"
	"crier/job"
)

// People is those of all ranges. The zero value knows nothing yet. It is safe for concurrent use:
// looks at many ranges at once do not wait for each other.
type People struct {
	some [64]struct { // ranges with the same remainder
		sync.Mutex
		ranges map[job.Range]*part
	}
}

// part is the people of one range.
type part struct {
	known bool            // the rows that were there before it are in
	ids   *roaring.Bitmap // less the range's first id
	added uint64          // how often somebody was added
}

// Add notes those of a range for whom rows were written. The set is kept by the caller.
func (p *People) Add(s *idset.Set) {
	some := &p.some[int(s.Range)%len(p.some)]
	some.Lock()
	defer some.Unlock()
	if x := some.ranges[s.Range]; x != nil {
		x.add(s)
	}
}

func (x *part) add(s *idset.Set) {
	x.added++
	if few, ok := s.Few(); ok {
		for _, id := range few {
			x.ids.Add(id - s.Range.Lo())
		}
		return
	}
	x.ids.Or(bitmapOf(s))
}

// bitmapOf is a set as the library has it.
func bitmapOf(s *idset.Set) *roaring.Bitmap {
	words := make([]uint64, idset.Containers*idset.Words)
	for id, word := range s.AllWords() {
		words[(id-s.Range.Lo())>>6] = word
	}
	return roaring.FromDense(words, false)
}

// In gives those of a range, as the caller's set. The first time it asks read for whom there are
// rows.
func (p *People) In(r job.Range, read func() (*idset.Set, error)) (*idset.Set, error) {
	some := &p.some[int(r)%len(p.some)]
	some.Lock()
	if some.ranges == nil {
		some.ranges = map[job.Range]*part{}
	}
	x := some.ranges[r]
	if x == nil { // who is added from now on, while it is read, is noted
		x = &part{ids: roaring.New()}
		some.ranges[r] = x
	}
	known := x.known
	some.Unlock()
	if !known {
		s, err := read()
		if err != nil {
			return nil, err
		}
		defer s.Release()
		some.Lock()
		x.add(s)
		x.known = true
		some.Unlock()
	}
	some.Lock()
	defer some.Unlock()
	return x.set(r), nil
}

// set is the ids as a set.
func (x *part) set(r job.Range) *idset.Set {
	s := idset.New(r)
	if x.ids.GetCardinality() > 1<<job.RangeBits/64 {
		for w, word := range x.ids.ToDense() {
			if word != 0 {
				s.AddWord(r.Lo()+uint32(w)<<6, word)
			}
		}
		return s
	}
	ids := make([]uint32, 256)
	for it := x.ids.ManyIterator(); ; {
		n := it.NextMany(ids)
		for _, id := range ids[:n] {
			s.Add(r.Lo() + id)
		}
		if n < len(ids) {
			return s
		}
	}
}

// Mark is where a range is; see Gone.
func (p *People) Mark(r job.Range) uint64 {
	some := &p.some[int(r)%len(p.some)]
	some.Lock()
	defer some.Unlock()
	if x := some.ranges[r]; x != nil {
		return x.added
	}
	return 0
}

// Gone takes out those of a range for whom no rows were found since the mark was taken, unless
// somebody was added since.
func (p *People) Gone(s *idset.Set, mark uint64) {
	some := &p.some[int(s.Range)%len(p.some)]
	some.Lock()
	defer some.Unlock()
	x := some.ranges[s.Range]
	if x == nil || x.added != mark {
		return
	}
	for id := range s.All() {
		x.ids.Remove(id - s.Range.Lo())
	}
}
