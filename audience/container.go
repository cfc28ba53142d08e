package audience

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"crier/internal/idset"
)

// Sizes of the portable roaring format. A container is an array of ids up to
// maxArray of them, a bitmap above, or runs if a flag says so; which of the first
// two follows from the cardinality alone.
const (
	maxContainers = 1 << 16
	maxArray      = 4096
	bitmapBytes   = idset.Words * 8
	maxRuns       = 1 << 15 // as many as leave a gap between each two
	maxRunBytes   = 2 + 4*maxRuns
)

// plainBytes is the length of a container that is not runs.
func plainBytes(card int) int {
	if card <= maxArray {
		return 2 * card
	}
	return bitmapBytes
}

// decodeContainer sets the ids of one container in c, which is empty, and checks
// that b is just such a container of card ids.
func decodeContainer(b []byte, card int, run bool, c *idset.Container) error {
	switch {
	case run:
		return decodeRuns(b, card, c)
	case len(b) != plainBytes(card):
		return fmt.Errorf("%w: %d bytes for %d ids", ErrFormat, len(b), card)
	case card > maxArray:
		for w := range c {
			c[w] = binary.LittleEndian.Uint64(b[8*w:])
		}
		if n := c.Card(); n != card {
			return fmt.Errorf("%w: a bitmap of %d ids, not %d", ErrFormat, n, card)
		}
		return nil
	}
	before := -1
	for ; len(b) >= 2; b = b[2:] {
		v := int(binary.LittleEndian.Uint16(b))
		if v <= before {
			return fmt.Errorf("%w: ids are not ascending", ErrFormat)
		}
		c[v>>6] |= 1 << (v & 63)
		before = v
	}
	return nil
}

func decodeRuns(b []byte, card int, c *idset.Container) error {
	if len(b) < 2 || len(b) != 2+4*int(binary.LittleEndian.Uint16(b)) {
		return fmt.Errorf("%w: %d bytes do not hold the runs they promise", ErrFormat, len(b))
	}
	before, n := -2, 0 // a run starts after a gap
	for b = b[2:]; len(b) >= 4; b = b[4:] {
		first := int(binary.LittleEndian.Uint16(b))
		last := first + int(binary.LittleEndian.Uint16(b[2:]))
		if first <= before+1 || last >= 1<<idset.ContainerBits {
			return fmt.Errorf("%w: runs overlap, touch or leave the container", ErrFormat)
		}
		c.AddRun(first, last)
		n += last - first + 1
		before = last
	}
	if n != card {
		return fmt.Errorf("%w: runs of %d ids, not %d", ErrFormat, n, card)
	}
	return nil
}

// appendContainer appends a container in its shortest form: runs if they are
// shorter than both others. (Roaring's run optimisation decides the same, but for
// runs that are up to 30 bytes longer than a bitmap.)
func appendContainer(b []byte, c *idset.Container) (out []byte, card int, run bool) {
	card, runs := measure(c)
	switch {
	case 2+4*runs < min(bitmapBytes, 2*card):
		b = binary.LittleEndian.AppendUint16(b, uint16(runs))
		return appendRuns(b, c), card, true
	case card > maxArray:
		for _, w := range c {
			b = binary.LittleEndian.AppendUint64(b, w)
		}
		return b, card, false
	}
	for w, word := range c {
		for ; word != 0; word &= word - 1 {
			b = binary.LittleEndian.AppendUint16(b, uint16(w<<6+bits.TrailingZeros64(word)))
		}
	}
	return b, card, false
}

// measure counts the ids and the runs of a container.
func measure(c *idset.Container) (card, runs int) {
	carry := uint64(0)
	for _, w := range c {
		card += bits.OnesCount64(w)
		runs += bits.OnesCount64(w &^ (w<<1 | carry))
		carry = w >> 63
	}
	return card, runs
}

func appendRuns(b []byte, c *idset.Container) []byte {
	const end = idset.Words * 64
	for at := 0; ; {
		first := seek(c, at, 0)
		if first == end {
			return b
		}
		at = seek(c, first, ^uint64(0))
		b = binary.LittleEndian.AppendUint16(b, uint16(first))
		b = binary.LittleEndian.AppendUint16(b, uint16(at-1-first))
	}
}

// seek finds the first bit at or after from that is set in c XOR flip.
func seek(c *idset.Container, from int, flip uint64) int {
	mask := ^uint64(0) << (from & 63)
	for w := from >> 6; w < idset.Words; w++ {
		if word := (c[w] ^ flip) & mask; word != 0 {
			return w<<6 + bits.TrailingZeros64(word)
		}
		mask = ^uint64(0)
	}
	return idset.Words * 64
}
