// Package idset holds the sets of the data plane: the ids of one range (2^20 of
// them) as up to 16 containers of 65,536 bits, worked on a word at a time, or a
// handful of them as a list.
//
// A Set belongs to one goroutine; several may read it. Its containers come from a pool;
// Release gives them back, and a set that is never released is merely garbage. Nothing here
// allocates per id.
package idset

import (
	"iter"
	"math/bits"
	"slices"
	"sync"

	"crier/job"
)

// ContainerBits is the width of a container, as in roaring.
const ContainerBits = 16

// Words is the number of 64-bit words of a container.
const Words = 1 << (ContainerBits - 6)

// Containers is the number of containers of a range.
const Containers = 1 << (job.RangeBits - ContainerBits)

// Container is 65,536 ids as bits: id & 0xffff is bit (id & 63) of word
// (id & 0xffff) >> 6.
type Container [Words]uint64

var pool = sync.Pool{New: func() any { return new(Container) }}

// GetContainer gives a zeroed container from the pool.
func GetContainer() *Container {
	c := pool.Get().(*Container)
	clear(c[:])
	return c
}

// PutContainer returns a container to the pool.
func PutContainer(c *Container) { pool.Put(c) }

// Card counts the ids of the container.
func (c *Container) Card() int {
	n := 0
	for _, w := range c {
		n += bits.OnesCount64(w)
	}
	return n
}

// Set is a set of ids of one range. The zero value is the empty set of range 0.
type Set struct {
	Range job.Range
	dense bool     // the ids are in the containers, else in the list
	few   []uint32 // ascending
	c     *containers
}

// containers are those of a range; nil: nobody is there. A list needs none, and most sets are lists.
type containers [Containers]*Container

var noContainers containers // for reading only

func (s *Set) parts() *containers {
	if s.c == nil {
		return &noContainers
	}
	return s.c
}

// New makes an empty set of ids of a range.
func New(r job.Range) *Set { return &Set{Range: r} }

// Of makes a set of ids, all of one range. It is meant for tests and small sets.
func Of(ids ...uint32) *Set {
	s := &Set{}
	if len(ids) > 0 {
		s.Range = job.Recipient(ids[0]).Range()
	}
	for _, id := range ids {
		s.Add(id)
	}
	return s
}

// Container gives the i-th container of the range for reading, or nil if it is
// absent. Of a list it is a copy.
func (s *Set) Container(i int) *Container {
	if !s.dense {
		return s.copied(i)
	}
	return s.parts()[i]
}

// Ensure gives the i-th container of the range for writing.
func (s *Set) Ensure(i int) *Container {
	s.spill()
	if s.c == nil {
		s.c = &containers{}
	}
	if s.c[i] == nil {
		s.c[i] = GetContainer()
	}
	return s.c[i]
}

// Drop removes the i-th container.
func (s *Set) Drop(i int) {
	if from, to := s.part(i); from < to {
		s.few = slices.Delete(s.few, from, to)
	}
	if c := s.parts()[i]; c != nil {
		PutContainer(c)
		s.c[i] = nil
	}
}

// Held counts the containers that the set holds in memory; a nil set has none.
func (s *Set) Held() (n int) {
	if s == nil {
		return 0
	}
	for _, c := range s.parts() {
		if c != nil {
			n++
		}
	}
	return n
}

// Release gives the set's containers back to the pool and leaves it empty.
func (s *Set) Release() {
	if s == nil {
		return
	}
	for i, c := range s.parts() {
		if c != nil {
			PutContainer(c)
			s.c[i] = nil
		}
	}
	s.few, s.dense = nil, false
}

// Add puts one id in. The id must be of the set's range.
func (s *Set) Add(id uint32) {
	if !s.dense && s.addFew(id) {
		return
	}
	s.Ensure(int(id >> 16 & (Containers - 1)))[id>>6&(Words-1)] |= 1 << (id & 63)
}

// Remove takes one id out.
func (s *Set) Remove(id uint32) {
	if !s.dense {
		if at, ok := slices.BinarySearch(s.few, id); ok {
			s.few = slices.Delete(s.few, at, at+1)
		}
		return
	}
	if c := s.parts()[id>>16&(Containers-1)]; c != nil {
		c[id>>6&(Words-1)] &^= 1 << (id & 63)
	}
}

// Has reports whether the id, of whatever range, is in the set.
func (s *Set) Has(id uint32) bool {
	if job.Recipient(id).Range() != s.Range {
		return false
	}
	if !s.dense {
		_, ok := slices.BinarySearch(s.few, id)
		return ok
	}
	c := s.parts()[id>>16&(Containers-1)]
	return c != nil && c[id>>6&(Words-1)]>>(id&63)&1 == 1
}

// And keeps what is also in t, a set of the same range.
func (s *Set) And(t *Set) {
	switch {
	case !s.dense:
		s.keepFew(t.Has)
		return
	case !t.dense:
		kept := Set{Range: s.Range, few: slices.Clone(t.few)}
		kept.keepFew(s.Has)
		s.Release()
		*s = kept
		return
	}
	for i, c := range s.parts() {
		switch d := t.parts()[i]; {
		case c == nil:
		case d == nil:
			s.Drop(i)
		default:
			for w := range c {
				c[w] &= d[w]
			}
		}
	}
}

// AndNot takes out what is in t, a set of the same range.
func (s *Set) AndNot(t *Set) {
	switch {
	case !s.dense:
		s.keepFew(func(id uint32) bool { return !t.Has(id) })
		return
	case !t.dense:
		for _, id := range t.few {
			s.Remove(id)
		}
		return
	}
	for i, c := range s.parts() {
		d := t.parts()[i]
		if c == nil || d == nil {
			continue
		}
		for w := range c {
			c[w] &^= d[w]
		}
	}
}

// Or puts in what is in t, a set of the same range.
func (s *Set) Or(t *Set) {
	for _, id := range t.few {
		s.Add(id)
	}
	for i, d := range t.parts() {
		if d == nil {
			continue
		}
		c := s.Ensure(i)
		for w := range c {
			c[w] |= d[w]
		}
	}
}

// Clone copies the set.
func (s *Set) Clone() *Set {
	t := &Set{Range: s.Range, dense: s.dense, few: slices.Clone(s.few)}
	if s.c != nil {
		t.c = &containers{}
	}
	for i, c := range s.parts() {
		if c != nil {
			t.c[i] = pool.Get().(*Container)
			*t.c[i] = *c
		}
	}
	return t
}

// Card counts the ids; a nil set is empty.
func (s *Set) Card() int {
	if s == nil {
		return 0
	}
	n := len(s.few)
	for _, c := range s.parts() {
		if c != nil {
			n += c.Card()
		}
	}
	return n
}

// IsEmpty reports whether the set has no id; a nil set is empty.
func (s *Set) IsEmpty() bool {
	if s == nil {
		return true
	}
	if len(s.few) > 0 {
		return false
	}
	for _, c := range s.parts() {
		if c == nil {
			continue
		}
		for _, w := range c {
			if w != 0 {
				return false
			}
		}
	}
	return true
}

// Equal reports whether two sets hold the same ids.
func (s *Set) Equal(t *Set) bool {
	if s.Range != t.Range {
		return s.IsEmpty() && t.IsEmpty()
	}
	if !s.dense || !t.dense {
		return s.Card() == t.Card() && s.hasAll(t)
	}
	var none Container
	for i := range s.parts() {
		a, b := s.parts()[i], t.parts()[i]
		if a == nil {
			a = &none
		}
		if b == nil {
			b = &none
		}
		if *a != *b {
			return false
		}
	}
	return true
}

// hasAll reports whether a set of the same range, of which one is a list, is a part of it.
func (s *Set) hasAll(t *Set) bool {
	for id := range t.All() {
		if !s.Has(id) {
			return false
		}
	}
	return true
}

// Intersects reports whether the sets, of the same range, share an id.
func (s *Set) Intersects(t *Set) bool {
	switch {
	case !s.dense:
		return slices.ContainsFunc(s.few, t.Has)
	case !t.dense:
		return slices.ContainsFunc(t.few, s.Has)
	}
	for i, c := range s.parts() {
		d := t.parts()[i]
		if c == nil || d == nil {
			continue
		}
		for w := range c {
			if c[w]&d[w] != 0 {
				return true
			}
		}
	}
	return false
}

// KeepSpan takes out what lies outside the span.
func (s *Set) KeepSpan(span job.Span) {
	s.keepFew(func(id uint32) bool { return span.Lo <= uint64(id) && uint64(id) < span.Hi })
	base := uint64(s.Range.Lo())
	for i, c := range s.parts() {
		if c == nil {
			continue
		}
		lo := base + uint64(i)<<ContainerBits
		hi := lo + 1<<ContainerBits
		if span.Lo <= lo && hi <= span.Hi {
			continue
		}
		if span.Hi <= lo || hi <= span.Lo {
			s.Drop(i)
			continue
		}
		from, to := max(span.Lo, lo)-lo, min(span.Hi, hi)-lo
		for w := range c {
			c[w] &= wordMask(uint64(w)*64, from, to)
		}
	}
}

// wordMask has the bits of the word that starts at bit at and lie in [from, to).
func wordMask(at, from, to uint64) uint64 {
	if to <= at || from >= at+64 {
		return 0
	}
	m := ^uint64(0)
	if from > at {
		m <<= from - at
	}
	if to < at+64 {
		m &= 1<<(to-at) - 1
	}
	return m
}

// AddSpan puts in every id of the range that lies in the span.
func (s *Set) AddSpan(span job.Span) {
	base := uint64(s.Range.Lo())
	for i := range Containers {
		lo := base + uint64(i)<<ContainerBits
		if span.Hi <= lo || lo+1<<ContainerBits <= span.Lo {
			continue
		}
		c := s.Ensure(i)
		from, to := max(span.Lo, lo)-lo, min(span.Hi, lo+1<<ContainerBits)-lo
		for w := range c {
			c[w] |= wordMask(uint64(w)*64, from, to)
		}
	}
}

// All yields the ids in ascending order.
func (s *Set) All() iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		if s == nil {
			return
		}
		for _, id := range s.few {
			if !yield(id) {
				return
			}
		}
		for i, c := range s.parts() {
			if c == nil {
				continue
			}
			base := s.Range.Lo() + uint32(i)<<ContainerBits
			for w, word := range c {
				for ; word != 0; word &= word - 1 {
					if !yield(base + uint32(w)<<6 + uint32(bits.TrailingZeros64(word))) {
						return
					}
				}
			}
		}
	}
}

// Cut finds the end of the longest span, starting at lo and ending at a word
// boundary, that holds at most n ids of the set. If the first word with an id
// holds more than n (n is at least 1), the end lies inside that word, after its
// n-th id. It returns hi if the whole of [lo, hi) fits.
func (s *Set) Cut(lo, hi uint64, n int) uint64 {
	if !s.dense {
		return s.cutFew(lo, hi, n)
	}
	left := n
	base := uint64(s.Range.Lo())
	for i, c := range s.parts() {
		at := base + uint64(i)<<ContainerBits
		if c == nil || at+1<<ContainerBits <= lo || at >= hi {
			continue
		}
		for w, word := range c {
			k := bits.OnesCount64(word)
			if k <= left {
				left -= k
				continue
			}
			start := at + uint64(w)<<6
			if left < n {
				return max(start, lo)
			}
			for ; left > 0; left-- {
				word &= word - 1
			}
			return start + uint64(bits.TrailingZeros64(word))
		}
	}
	return hi
}
