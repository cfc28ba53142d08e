package audience

import (
	"context"
	"errors"
	"io"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"crier/internal/idset"
)

// Bounds of collecting. The ids wait in a buffer that grows to maxBatch (16 MiB,
// and as much for sorting), so that unsorted ones are merged rarely; the merged
// set is a roaring bitmap of at most 512 MiB. The garbage collector may let the
// heap grow to twice what is live.
const (
	minBatch = 1 << 14
	maxBatch = 1 << 22
)

// collector gathers the ids of one source after the other. It sorts a batch
// before it adds it: adding ids one by one in random order costs forty times as
// much.
type collector struct {
	most int      // ids that wait; maxBatch unless a test wants many merges
	ids  []uint32 // waiting
	tmp  []uint32 // of the sort
	acc  *roaring.Bitmap
	read uint64
}

// collect reads a source to its end. The set is in c.acc, run-optimised.
func (c *collector) collect(ctx context.Context, src Source) error {
	c.ids, c.acc, c.read = c.ids[:0], roaring.New(), 0
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		c.makeRoom()
		n, err := src.NextBatch(ctx, c.ids[len(c.ids):cap(c.ids)])
		c.ids = c.ids[:len(c.ids)+n]
		c.read += uint64(n)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	c.merge()
	c.acc.RunOptimize()
	return nil
}

// makeRoom merges a full buffer, or makes it larger.
func (c *collector) makeRoom() {
	if len(c.ids) < cap(c.ids) {
		return
	}
	if cap(c.ids) >= c.most {
		c.merge()
		return
	}
	c.ids = append(make([]uint32, 0, min(max(minBatch, 4*cap(c.ids)), c.most)), c.ids...)
}

// merge puts the waiting ids into the set.
func (c *collector) merge() {
	if len(c.ids) == 0 {
		return
	}
	if !slices.IsSorted(c.ids) {
		c.sort()
	}
	if c.acc.IsEmpty() || c.ids[0] >= c.acc.Maximum() {
		c.acc.AddMany(c.ids)
	} else {
		part := roaring.New()
		part.AddMany(c.ids)
		c.acc.Or(part)
	}
	c.ids = c.ids[:0]
}

// sort is a radix sort by three digits of 11 bits.
func (c *collector) sort() {
	const digits, width = 3, 11
	if cap(c.tmp) < len(c.ids) {
		c.tmp = make([]uint32, cap(c.ids))
	}
	from, to := c.ids, c.tmp[:len(c.ids)]
	var at [digits][1 << width]uint32
	for _, id := range from {
		for d := range digits {
			at[d][id>>(d*width)&(1<<width-1)]++
		}
	}
	for d := range digits {
		sum := uint32(0)
		for i, n := range at[d] {
			at[d][i] = sum
			sum += n
		}
		for _, id := range from {
			i := &at[d][id>>(d*width)&(1<<width-1)]
			to[*i] = id
			*i++
		}
		from, to = to, from
	}
	c.ids, c.tmp = from, to[:cap(to)]
}

// containers shows the containers of the collected set in ascending order.
func (c *collector) containers(use func(key uint16, part *idset.Container) error) error {
	part := idset.GetContainer()
	defer idset.PutContainer(part)
	ids := make([]uint32, 1<<14)
	key, any := uint16(0), false
	it := c.acc.ManyIterator()
	for n := it.NextMany(ids); n > 0; n = it.NextMany(ids) {
		for _, id := range ids[:n] {
			if k := uint16(id >> 16); k != key {
				if any {
					if err := use(key, part); err != nil {
						return err
					}
					clear(part[:])
				}
				key = k
			}
			any = true
			part[id>>6&(idset.Words-1)] |= 1 << (id & 63)
		}
	}
	if !any {
		return nil
	}
	return use(key, part)
}
