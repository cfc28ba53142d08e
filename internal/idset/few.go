package idset

import (
	"cmp"
	"encoding/binary"
	"iter"
	"math/bits"
	"slices"
)

// fewMost is up to how many ids a set is a list: a container for each of a handful of ids,
// spread over a range, would take 8 KiB.
const fewMost = 32

// Few gives the ids in ascending order if the set is still a list; the caller only reads them.
func (s *Set) Few() (ids []uint32, ok bool) { return s.few, !s.dense }

// part gives where a container's ids begin and end in the list.
func (s *Set) part(i int) (from, to int) {
	lo := s.Range.Lo() + uint32(i)<<ContainerBits
	from, _ = slices.BinarySearch(s.few, lo)
	for to = from; to < len(s.few) && s.few[to]-lo < 1<<ContainerBits; to++ {
	}
	return from, to
}

// spill makes containers of the list.
func (s *Set) spill() {
	if s.dense {
		return
	}
	few := s.few
	s.few, s.dense = nil, true
	for _, id := range few {
		s.Add(id)
	}
}

// copied gives a container of the list's ids, or nil if it has none there.
func (s *Set) copied(i int) *Container {
	from, to := s.part(i)
	if from == to {
		return nil
	}
	c := GetContainer()
	for _, id := range s.few[from:to] {
		c[id>>6&(Words-1)] |= 1 << (id & 63)
	}
	return c
}

// addFew puts an id into the list and reports whether there was room for it.
func (s *Set) addFew(id uint32) bool {
	at, ok := slices.BinarySearch(s.few, id)
	if ok {
		return true
	}
	if len(s.few) == fewMost {
		return false
	}
	s.few = slices.Insert(s.few, at, id)
	return true
}

// keepFew takes out of the list whom keep refuses.
func (s *Set) keepFew(keep func(uint32) bool) {
	n := 0
	for _, id := range s.few {
		if keep(id) {
			s.few[n] = id
			n++
		}
	}
	s.few = s.few[:n]
}

// Word gives the 64 ids from an id on that is a multiple of 64 and of the set's range.
func (s *Set) Word(id uint32) (word uint64) {
	if s.dense {
		if c := s.parts()[id>>16&(Containers-1)]; c != nil {
			word = c[id>>6&(Words-1)]
		}
		return word
	}
	at, _ := slices.BinarySearch(s.few, id)
	for _, x := range s.few[at:] {
		if x>>6 != id>>6 {
			break
		}
		word |= 1 << (x & 63)
	}
	return word
}

// AddWord puts in those of the 64 ids from an id on that are bits of the word.
func (s *Set) AddWord(id uint32, word uint64) {
	for !s.dense && word != 0 {
		s.Add(id + uint32(bits.TrailingZeros64(word)))
		word &= word - 1
	}
	if word != 0 {
		s.Ensure(int(id >> 16 & (Containers - 1)))[id>>6&(Words-1)] |= word
	}
}

// AllWords yields the words that are not zero, each with its first id, in ascending order.
func (s *Set) AllWords() iter.Seq2[uint32, uint64] {
	return func(yield func(uint32, uint64) bool) {
		for at := 0; at < len(s.few); {
			first, word := s.few[at]&^63, uint64(0)
			for ; at < len(s.few) && s.few[at]&^63 == first; at++ {
				word |= 1 << (s.few[at] & 63)
			}
			if !yield(first, word) {
				return
			}
		}
		for i := range s.parts() {
			for w, word := range s.denseWords(i) {
				if !yield(s.Range.Lo()+uint32(i)<<ContainerBits+uint32(w)<<6, word) {
					return
				}
			}
		}
	}
}

// WordsIn yields the words of the i-th container that are not zero, by their place in it.
func (s *Set) WordsIn(i int) iter.Seq2[int, uint64] {
	if s.dense {
		return s.denseWords(i)
	}
	from, to := s.part(i)
	part := Set{Range: s.Range, few: s.few[from:to]}
	return func(yield func(int, uint64) bool) {
		for id, word := range part.AllWords() {
			if !yield(int(id>>6&(Words-1)), word) {
				return
			}
		}
	}
}

func (s *Set) denseWords(i int) iter.Seq2[int, uint64] {
	return func(yield func(int, uint64) bool) {
		if s.parts()[i] == nil {
			return
		}
		for w, word := range s.parts()[i] {
			if word != 0 && !yield(w, word) {
				return
			}
		}
	}
}

// Reaches reports whether the set may have ids in the i-th container.
func (s *Set) Reaches(i int) bool {
	from, to := s.part(i)
	return from < to || s.parts()[i] != nil
}

// appendFew appends the encodings of the list's containers and gives their mask.
func (s *Set) appendFew(b []byte) ([]byte, uint16) {
	var mask uint16
	for at := 0; at < len(s.few); {
		i := int(s.few[at] >> 16 & (Containers - 1))
		from, to := s.part(i)
		b, mask, at = appendList(b, s.few[from:to]), mask|1<<i, to
	}
	return b, mask
}

// appendList appends the encoding of a container that has the given ids.
func appendList(b []byte, ids []uint32) []byte {
	runs := 1
	for k := 1; k < len(ids); k++ {
		if ids[k] != ids[k-1]+1 {
			runs++
		}
	}
	if kindOf(len(ids), runs) == kindArray {
		b = binary.LittleEndian.AppendUint16(append(b, kindArray), uint16(len(ids)))
		for _, id := range ids {
			b = binary.LittleEndian.AppendUint16(b, uint16(id))
		}
		return b
	}
	b = binary.LittleEndian.AppendUint16(append(b, kindRuns), uint16(runs))
	for k, id := range ids {
		if k == 0 || id != ids[k-1]+1 {
			b = binary.LittleEndian.AppendUint16(b, uint16(id))
		}
		if k == len(ids)-1 || ids[k+1] != id+1 {
			b = binary.LittleEndian.AppendUint16(b, uint16(id))
		}
	}
	return b
}

// fits reports whether an encoded container, an array or of runs, has so few ids that the list
// has room for them.
func (s *Set) fits(b []byte) bool {
	if s.dense || len(b) < 3 {
		return false
	}
	n, room := int(binary.LittleEndian.Uint16(b[1:])), fewMost-len(s.few)
	if n > room || b[0] == kindArray {
		return b[0] == kindArray && n <= room && len(b) >= 3+2*n
	}
	if b[0] != kindRuns || len(b) < 3+4*n {
		return false
	}
	for at := 3; at < 3+4*n; at += 4 {
		first, last := int(binary.LittleEndian.Uint16(b[at:])), int(binary.LittleEndian.Uint16(b[at+2:]))
		if room -= last - first + 1; last < first || room < 0 {
			return false
		}
	}
	return true
}

// decodeFew decodes what fits, as Container.decode does.
func (s *Set) decodeFew(i int, b []byte) (int, error) {
	n, p := int(binary.LittleEndian.Uint16(b[1:])), b[3:]
	if n == 0 {
		return 0, errShort
	}
	base, size := s.Range.Lo()+uint32(i)<<ContainerBits, 2
	card, runs, before := 0, 0, -2
	if b[0] == kindRuns {
		size = 4
	}
	for range n {
		first := int(binary.LittleEndian.Uint16(p))
		last := int(binary.LittleEndian.Uint16(p[size-2:]))
		if first <= before || last < first || size == 4 && first == before+1 {
			return 0, errOrder
		}
		if first > before+1 {
			runs++
		}
		for id := first; id <= last; id++ {
			s.few = append(s.few, base+uint32(id))
		}
		card, before, p = card+last-first+1, last, p[size:]
	}
	return len(b) - len(p), shortest(b[0], card, runs)
}

// cutFew is Cut of a list.
func (s *Set) cutFew(lo, hi uint64, n int) uint64 {
	from, _ := slices.BinarySearchFunc(s.few, lo, func(id uint32, lo uint64) int { return cmp.Compare(uint64(id), lo) })
	if from+n >= len(s.few) || uint64(s.few[from+n]) >= hi {
		return hi
	}
	// The first id too many: the span ends before its word, or, if that would be empty, before it.
	if start := uint64(s.few[from+n] &^ 63); uint64(s.few[from]) < start {
		return max(start, lo)
	}
	return uint64(s.few[from+n])
}
