package audience

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"math/bits"

	"crier/internal/idset"
	"crier/job"
)

// canonical collects what a header says of a set whose containers are given in
// ascending order: the digest over its ids as four bytes each, and the rest.
type canonical struct {
	h        hash.Hash
	buf      []byte // 256 KiB, the ids of one container
	card     uint64
	min, max uint32
}

func newCanonical() *canonical { return &canonical{h: sha256.New()} }

// add takes the next container of ids that start with key.
func (d *canonical) add(key uint16, c *idset.Container) {
	b := d.buf[:0]
	for w, word := range c {
		base := uint32(key)<<16 | uint32(w)<<6
		for ; word != 0; word &= word - 1 {
			b = binary.LittleEndian.AppendUint32(b, base|uint32(bits.TrailingZeros64(word)))
		}
	}
	d.buf = b
	if len(b) == 0 {
		return
	}
	if d.card == 0 {
		d.min = binary.LittleEndian.Uint32(b)
	}
	d.max = binary.LittleEndian.Uint32(b[len(b)-4:])
	d.card += uint64(len(b) / 4)
	d.h.Write(b)
}

// addSet takes the containers of the next range.
func (d *canonical) addSet(s *idset.Set) {
	for i := range idset.Containers {
		if c := s.Container(i); c != nil {
			d.add(uint16(int(s.Range)*idset.Containers+i), c)
		}
	}
}

// info gives what was collected.
func (d *canonical) info() Info {
	return Info{Cardinality: d.card, Min: d.min, Max: d.max, SHA256: job.Digest(d.h.Sum(nil))}
}
