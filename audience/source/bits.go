package source

import (
	"math/bits"

	"crier/internal/idset"
)

// drainer gives the ids of containers, one after the other, in batches.
type drainer struct {
	c    *idset.Container // nil: ask for the next one
	base uint32
	w    int    // word under way
	word uint64 // what is left of it
}

// start takes the next container, whose ids begin at base.
func (d *drainer) start(c *idset.Container, base uint32) {
	d.c, d.base, d.w, d.word = c, base, 0, c[0]
}

// next fills ids and says how many; fewer than asked means that the container is
// at its end.
func (d *drainer) next(ids []uint32) (n int) {
	for n < len(ids) {
		if d.word == 0 {
			if d.w++; d.w == idset.Words {
				d.c = nil
				return n
			}
			d.word = d.c[d.w]
			continue
		}
		ids[n] = d.base + uint32(d.w)<<6 + uint32(bits.TrailingZeros64(d.word))
		d.word &= d.word - 1
		n++
	}
	return n
}
