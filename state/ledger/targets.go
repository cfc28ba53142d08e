package ledger

import (
	"fmt"
	"math/bits"

	"crier/internal/bin"
	"crier/internal/idset"
	"crier/job"
)

// MaxGateways is the largest number of incarnations in one entry.
const MaxGateways = 1 << 12

// Targets is one set of recipients per gateway incarnation; the sets are disjoint
// and of one range. It is stored as their union and, per id in ascending order,
// the ordinal of its incarnation in as few bits as fit.
type Targets struct {
	Incs []job.Incarnation
	Sets []*idset.Set
}

// Union is all targets as one set, the caller's own.
func (t Targets) Union(r job.Range) *idset.Set {
	u := idset.New(r)
	for _, s := range t.Sets {
		u.Or(s)
	}
	return u
}

// Card counts the targets.
func (t Targets) Card() int {
	n := 0
	for _, s := range t.Sets {
		n += s.Card()
	}
	return n
}

func (t Targets) held() (n int) {
	for _, s := range t.Sets {
		n += s.Held()
	}
	return n
}

func (t Targets) write(w *bin.Writer) {
	w.Uint(uint64(len(t.Incs)))
	if len(t.Incs) == 0 {
		return
	}
	for _, i := range t.Incs {
		w.Incarnation(i)
	}
	union := t.Union(t.Sets[0].Range)
	w.Set(union)
	width := bits.Len(uint(len(t.Incs) - 1))
	if width > 0 {
		w.Fixed(t.pack(union, width))
	}
	union.Release()
}

// pack writes the ordinals of the union's ids, width bits each.
func (t Targets) pack(union *idset.Set, width int) []byte {
	out := make([]byte, 0, (union.Card()*width+7)/8)
	var acc uint64
	var n int
	var planes [12]uint64
	for id, word := range union.AllWords() {
		t.slicePlanes(id, width, &planes)
		for ; word != 0; word &= word - 1 {
			b := bits.TrailingZeros64(word)
			for p := range width {
				acc |= (planes[p] >> b & 1) << (n + p)
			}
			for n += width; n >= 8; n -= 8 {
				out = append(out, byte(acc))
				acc >>= 8
			}
		}
	}
	if n > 0 {
		out = append(out, byte(acc))
	}
	return out
}

// slicePlanes gives, for the word from an id on, bit p of the ordinals as planes[p].
func (t Targets) slicePlanes(id uint32, width int, planes *[12]uint64) {
	clear(planes[:width])
	for k, s := range t.Sets {
		word := s.Word(id)
		if word == 0 {
			continue
		}
		for p := range width {
			if k>>p&1 == 1 {
				planes[p] |= word
			}
		}
	}
}

func readTargets(r *bin.Reader) Targets {
	n := int(r.Max(MaxGateways))
	if n == 0 {
		return Targets{}
	}
	t := Targets{Incs: make([]job.Incarnation, n), Sets: make([]*idset.Set, n)}
	for i := range t.Incs {
		t.Incs[i] = r.Incarnation()
	}
	union := r.Set()
	if n == 1 {
		t.Sets[0] = union
		return t
	}
	for i := range t.Sets {
		t.Sets[i] = idset.New(union.Range)
	}
	width := bits.Len(uint(n - 1))
	packed := r.Fixed((union.Card()*width + 7) / 8)
	if packed != nil {
		if err := t.unpack(union, width, packed); err != nil {
			r.Fail(err)
		}
	}
	union.Release()
	return t
}

func (t Targets) unpack(union *idset.Set, width int, packed []byte) error {
	var acc uint64
	var n, at int
	mask := uint64(1)<<width - 1
	for id, word := range union.AllWords() {
		for ; word != 0; word &= word - 1 {
			for n < width {
				acc |= uint64(packed[at]) << n
				at++
				n += 8
			}
			k := int(acc & mask)
			acc >>= width
			n -= width
			if k >= len(t.Sets) {
				return fmt.Errorf("target ordinal %d of %d gateways", k, len(t.Sets))
			}
			t.Sets[k].AddWord(id, word&-word)
		}
	}
	return nil
}

// Cut shortens a block until it has at most budget targets; 0 is no bound.
func (e *Reserve) Cut(budget int) {
	if budget == 0 || e.Targets.Card() <= budget {
		return
	}
	union := e.Targets.Union(e.Range())
	e.Span.Hi = union.Cut(e.Span.Lo, e.Span.Hi, budget)
	union.Release()
	for _, d := range e.Dropped {
		d.Set.KeepSpan(e.Span)
	}
	for _, s := range e.Targets.Sets {
		s.KeepSpan(e.Span)
	}
}
