// Package page is how the parked recipients of a job are cut into rows: 1,024 ids as bits.
package page

import (
	"encoding/binary"
	"fmt"
	"iter"
	"math/bits"
	"slices"

	"crier/internal/idset"
	"crier/job"
)

// Bits is the width of a page: the 1,024 ids whose parked recipients of one
// job share a row. A row is at most 150 bytes with its key. A login reads all rows of its page,
// those of neighbours too: the fewer ids share it, the fewer these are; and the more rows a job
// has that is parked for everybody.
const (
	Bits  = 10
	Words = 1 << (Bits - 6)
	Count = 1 << (job.RangeBits - Bits) // of a range
)

// Number is which page of its range an id is in.
func Number(id uint32) int { return int(id) >> Bits & (Count - 1) }

// maskBytes is a bit for each word.
const maskBytes = Words / 8

// Page is the ids of a page as bits.
type Page [Words]uint64

// IsEmpty reports whether nobody is in it.
func (p *Page) IsEmpty() bool { return *p == Page{} }

// Card counts the ids.
func (p *Page) Card() int {
	n := 0
	for _, w := range p {
		n += bits.OnesCount64(w)
	}
	return n
}

// Bytes writes the mask of the words that are not zero, then those words.
func (p *Page) Bytes() []byte {
	var mask uint16
	b := make([]byte, maskBytes, maskBytes+8*Words)
	for i, w := range p {
		if w != 0 {
			mask |= 1 << i
			b = binary.LittleEndian.AppendUint64(b, w)
		}
	}
	binary.LittleEndian.PutUint16(b, mask)
	return b
}

// Parse reads what Bytes wrote.
func Parse(b []byte, p *Page) error {
	if len(b) < maskBytes || len(b) != maskBytes+8*bits.OnesCount16(binary.LittleEndian.Uint16(b)) {
		return fmt.Errorf("parked row of %d bytes", len(b))
	}
	clear(p[:])
	mask := binary.LittleEndian.Uint16(b)
	for at := maskBytes; mask != 0; mask &= mask - 1 {
		p[bits.TrailingZeros16(mask)] = binary.LittleEndian.Uint64(b[at:])
		at += 8
	}
	return nil
}

// All yields the pages in which a set has ids, each with its words, ascending.
func All(s *idset.Set) iter.Seq2[int, []uint64] {
	return func(yield func(int, []uint64) bool) {
		few, isFew := s.Few()
		for n := 0; n < Count; n++ {
			if isFew { // to the next that has any
				if len(few) == 0 {
					return
				}
				n = Number(few[0])
			}
			words := Of(s, n)
			if words != nil && !yield(n, words) {
				return
			}
			for len(few) > 0 && Number(few[0]) == n {
				few = few[1:]
			}
		}
	}
}

// Of gives the words of a set that lie in a page; nil if there are none.
func Of(s *idset.Set, n int) []uint64 {
	if few, ok := s.Few(); ok {
		return ofFew(few, s.Range.Lo()+uint32(n)<<Bits)
	}
	c := s.Container(n * Words / idset.Words)
	if c == nil {
		return nil
	}
	at := n * Words % idset.Words
	w := c[at : at+Words]
	for _, x := range w {
		if x != 0 {
			return w
		}
	}
	return nil
}

// ofFew gives the words of ids, ascending, that lie in the page from an id on.
func ofFew(ids []uint32, first uint32) (words []uint64) {
	at, _ := slices.BinarySearch(ids, first)
	for _, id := range ids[at:] {
		if id>>Bits != first>>Bits {
			break
		}
		if words == nil {
			words = make([]uint64, Words)
		}
		words[id>>6%Words] |= 1 << (id & 63)
	}
	return words
}

// AddTo puts the ids of the n-th page into a set.
func (p *Page) AddTo(s *idset.Set, n int) {
	first := s.Range.Lo() + uint32(n)<<Bits
	for i, w := range p {
		if w != 0 {
			s.AddWord(first+uint32(i)<<6, w)
		}
	}
}
