package idset

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"crier/job"
)

// The encoding of a set: range and mask of present containers (16 bits each,
// little-endian like all below), then each container as a kind byte and
//
//	array   count, then the ids (16 bits each, ascending)
//	bitmap  8,192 bytes
//	runs    count, then first and last id of each run
//
// whichever is shortest, so that equal sets of a range have equal bytes. Decode
// takes no other.
const (
	kindArray  = 0
	kindBitmap = 1
	kindRuns   = 2

	bitmapBytes = Words * 8
	headerBytes = 4
)

// ErrEncoding is what Decode returns, wrapped, for bytes that AppendTo cannot
// have written.
var ErrEncoding = errors.New("idset: bad encoding")

// AppendTo appends the encoding of the set; a nil set is written as empty.
func (s *Set) AppendTo(b []byte) []byte {
	if s == nil {
		return append(b, 0, 0, 0, 0)
	}
	at := len(b)
	b = binary.LittleEndian.AppendUint16(b, uint16(s.Range))
	b = append(b, 0, 0)
	b, mask := s.appendFew(b)
	for i, c := range s.parts() {
		if c == nil {
			continue
		}
		n := len(b)
		if b = c.appendTo(b); len(b) > n {
			mask |= 1 << i
		}
	}
	binary.LittleEndian.PutUint16(b[at+2:], mask)
	return b
}

// measure counts the ids and the runs of the container.
func (c *Container) measure() (card, runs int) {
	carry := uint64(0)
	for _, w := range c {
		card += bits.OnesCount64(w)
		runs += bits.OnesCount64(w &^ (w<<1 | carry))
		carry = w >> 63
	}
	return card, runs
}

// kindOf is the shortest kind for a container of so many ids in so many runs.
func kindOf(card, runs int) byte {
	switch {
	case 2+4*runs <= 2+2*card && 2+4*runs <= bitmapBytes:
		return kindRuns
	case 2+2*card <= bitmapBytes:
		return kindArray
	}
	return kindBitmap
}

func (c *Container) appendTo(b []byte) []byte {
	card, runs := c.measure()
	switch {
	case card == 0:
		return b
	case kindOf(card, runs) == kindRuns:
		b = append(b, kindRuns)
		b = binary.LittleEndian.AppendUint16(b, uint16(runs))
		return c.appendRuns(b)
	case kindOf(card, runs) == kindArray:
		b = append(b, kindArray)
		b = binary.LittleEndian.AppendUint16(b, uint16(card))
		for w, word := range c {
			for ; word != 0; word &= word - 1 {
				b = binary.LittleEndian.AppendUint16(b, uint16(w<<6+bits.TrailingZeros64(word)))
			}
		}
		return b
	}
	b = slices.Grow(append(b, kindBitmap), bitmapBytes)
	words := b[len(b) : len(b)+bitmapBytes]
	for w, word := range c {
		binary.LittleEndian.PutUint64(words[8*w:], word)
	}
	return b[:len(b)+bitmapBytes]
}

func (c *Container) appendRuns(b []byte) []byte {
	at, limit := 0, Words*64
	for at < limit {
		first := c.seek(at, 0)
		if first == limit {
			break
		}
		at = c.seek(first, ^uint64(0))
		b = binary.LittleEndian.AppendUint16(b, uint16(first))
		b = binary.LittleEndian.AppendUint16(b, uint16(at-1))
	}
	return b
}

// seek finds the first bit at or after from that is set in the container XOR
// flip: the next id with flip 0, the next gap with flip all ones.
func (c *Container) seek(from int, flip uint64) int {
	for w := from >> 6; w < Words; w++ {
		word := c[w] ^ flip
		if w == from>>6 {
			word &= ^uint64(0) << (from & 63)
		}
		if word != 0 {
			return w<<6 + bits.TrailingZeros64(word)
		}
	}
	return Words * 64
}

// Decode reads one set and returns how many bytes it took. Whatever is wrong
// with the bytes is reported as ErrEncoding; no set is then returned.
func Decode(b []byte) (*Set, int, error) {
	if len(b) < headerBytes {
		return nil, 0, fmt.Errorf("%w: %d bytes are no header", ErrEncoding, len(b))
	}
	s := New(job.Range(binary.LittleEndian.Uint16(b)))
	if s.Range >= job.Ranges {
		return nil, 0, fmt.Errorf("%w: range %d", ErrEncoding, s.Range)
	}
	mask := binary.LittleEndian.Uint16(b[2:])
	at := headerBytes
	for i := range Containers {
		if mask>>i&1 == 0 {
			continue
		}
		n, err := s.decodeContainer(i, b[at:])
		if err != nil {
			s.Release()
			return nil, 0, fmt.Errorf("%w: container %d: %w", ErrEncoding, i, err)
		}
		at += n
	}
	return s, at, nil
}

func (s *Set) decodeContainer(i int, b []byte) (int, error) {
	if s.fits(b) {
		return s.decodeFew(i, b)
	}
	return s.Ensure(i).decode(b)
}

var (
	errShort = errors.New("bytes are missing")
	errOrder = errors.New("ids are not ascending")
	errLong  = errors.New("it has a shorter form")
)

func (c *Container) decode(b []byte) (int, error) {
	if len(b) < 3 {
		return 0, errShort
	}
	if b[0] == kindBitmap {
		if len(b) < 1+bitmapBytes {
			return 0, errShort
		}
		return 1 + bitmapBytes, c.decodeBitmap(b[1:])
	}
	n := int(binary.LittleEndian.Uint16(b[1:]))
	p, before := b[3:], -1
	switch b[0] {
	case kindArray:
		if n == 0 || len(p) < 2*n {
			return 0, errShort
		}
		runs := n
		for i := range n {
			v := int(binary.LittleEndian.Uint16(p[2*i:]))
			if v <= before {
				return 0, errOrder
			}
			if v == before+1 && i > 0 {
				runs--
			}
			c[v>>6] |= 1 << (v & 63)
			before = v
		}
		return 3 + 2*n, shortest(kindArray, n, runs)
	case kindRuns:
		if n == 0 || len(p) < 4*n {
			return 0, errShort
		}
		card := 0
		for i := range n {
			first, last := int(binary.LittleEndian.Uint16(p[4*i:])), int(binary.LittleEndian.Uint16(p[4*i+2:]))
			if first <= before || last < first {
				return 0, errOrder
			}
			c.AddRun(first, last)
			card += last - first + 1
			before = last + 1
		}
		return 3 + 4*n, shortest(kindRuns, card, n)
	}
	return 0, fmt.Errorf("kind %d", b[0])
}

// shortest refuses a kind that AppendTo would not have chosen.
func shortest(kind byte, card, runs int) error {
	if kindOf(card, runs) != kind {
		return errLong
	}
	return nil
}

// decodeBitmap reads the words. More runs than an array has ids are more ids too: it
// is then sure that no other kind is as short, and counts no further.
func (c *Container) decodeBitmap(b []byte) error {
	const most = (bitmapBytes - 2) / 2 // ids of an array
	b = b[:bitmapBytes]
	runs, carry, w := 0, uint64(0), 0
	for ; w < Words && runs <= most; w += 4 {
		x, y := binary.LittleEndian.Uint64(b[8*w:]), binary.LittleEndian.Uint64(b[8*w+8:])
		z, u := binary.LittleEndian.Uint64(b[8*w+16:]), binary.LittleEndian.Uint64(b[8*w+24:])
		c[w], c[w+1], c[w+2], c[w+3] = x, y, z, u
		runs += bits.OnesCount64(x&^(x<<1|carry)) + bits.OnesCount64(y&^(y<<1|x>>63)) +
			bits.OnesCount64(z&^(z<<1|y>>63)) + bits.OnesCount64(u&^(u<<1|z>>63))
		carry = u >> 63
	}
	if runs <= most {
		return shortest(kindBitmap, c.Card(), runs)
	}
	for ; w < Words; w++ {
		c[w] = binary.LittleEndian.Uint64(b[8*w:])
	}
	return nil
}

// AddRun puts in the ids first to last of the container, both included.
func (c *Container) AddRun(first, last int) {
	for w := first >> 6; w <= last>>6; w++ {
		c[w] |= wordMask(uint64(w)*64, uint64(first), uint64(last)+1)
	}
}
