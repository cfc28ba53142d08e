package audience

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"math"
	"slices"

	"crier/internal/idset"
	"crier/job"
)

// Portable reads a set in the portable 32-bit roaring format, a range at a time.
// It is safe for concurrent readers. It holds an index of at most 0.75 MiB; each
// container is checked when it is read, so that a damaged one is an error and
// not another set of the same size.
type Portable struct {
	data *store
	base int64 // where the set starts in data
	l    *layout
	at   []uint32 // where each container starts from base on, and the end
	card uint64
}

// OpenPortable indexes a set of size bytes and checks its structure: the order
// of the keys, and that the containers fill the bytes without gap or rest.
func OpenPortable(r io.ReaderAt, size int64) (*Portable, error) {
	return newPortable(&store{size: size, r: r}, 0, size)
}

func newPortable(data *store, base, size int64) (*Portable, error) {
	if size > math.MaxUint32 {
		return nil, fmt.Errorf("%w: %d bytes are more than any set takes", ErrFormat, size)
	}
	l, err := readLayout(bufio.NewReaderSize(&cursor{data, base, base + size}, 1<<14))
	if err != nil {
		return nil, err
	}
	p := &Portable{data: data, base: base, l: l}
	for i := range l.cards {
		p.card += uint64(l.card(i))
	}
	return p, p.locate(size)
}

// cursor reads a store from front to back.
type cursor struct {
	data    *store
	at, end int64
}

func (c *cursor) Read(b []byte) (n int, err error) {
	if c.at >= c.end {
		return 0, io.EOF
	}
	err = c.data.view(c.at, min(int64(len(b)), c.end-c.at), func(v []byte) error {
		n = copy(b, v)
		return nil
	})
	c.at += int64(n)
	return n, err
}

// locate finds where the containers are. Only containers of runs, and only if
// there are no offsets (so fewer than four), have to be looked at.
func (p *Portable) locate(size int64) error {
	n := len(p.l.keys)
	p.at = make([]uint32, n+1)
	at := p.l.size
	for i := range n {
		if err := p.l.checkOffset(i, at); err != nil {
			return err
		}
		p.at[i] = uint32(at)
		length := int64(plainBytes(p.l.card(i)))
		switch {
		case !p.l.isRun(i):
		case p.l.offsets != nil && i+1 < n:
			length = int64(p.l.offsets[i+1]) - at
		case p.l.offsets != nil:
			length = size - at
		default:
			runs, err := p.countRuns(at, size)
			if err != nil {
				return err
			}
			length = 2 + 4*int64(runs)
		}
		if length < 2 || length > maxRunBytes || length > size-at {
			return fmt.Errorf("%w: container %d has no room for its %d ids", ErrFormat, i, p.l.card(i))
		}
		at += length
	}
	p.at[n] = uint32(at)
	if at != size {
		return fmt.Errorf("%w: %d bytes follow the last container", ErrFormat, size-at)
	}
	return nil
}

func (p *Portable) countRuns(at, size int64) (runs uint16, err error) {
	if size-at < 2 {
		return 0, fmt.Errorf("%w: a container is missing", ErrFormat)
	}
	err = p.data.view(p.base+at, 2, func(b []byte) error {
		runs = binary.LittleEndian.Uint16(b)
		return nil
	})
	return runs, err
}

// Cardinality is the number of ids.
func (p *Portable) Cardinality() uint64 { return p.card }

// Containers is the number of containers.
func (p *Portable) Containers() int { return len(p.l.keys) }

// span finds the containers [i, j) of a range.
func (p *Portable) span(r job.Range) (i, j int) {
	lo := int(r) * idset.Containers
	i, _ = slices.BinarySearchFunc(p.l.keys, lo, func(k uint16, v int) int { return int(k) - v })
	for j = i; j < len(p.l.keys) && int(p.l.keys[j]) < lo+idset.Containers; j++ {
	}
	return i, j
}

// Range gives the ids of one range; the set is the caller's to release. A range
// without ids gives an empty set.
func (p *Portable) Range(r job.Range) (*idset.Set, error) {
	s := idset.New(r)
	i, j := p.span(r)
	if i == j {
		return s, nil
	}
	if err := p.view(i, j, func(b []byte) error { return p.decode(i, j, b, s) }); err != nil {
		s.Release()
		return nil, fmt.Errorf("range %s: %w", r, err)
	}
	return s, nil
}

// view shows the bytes of containers [i, j): those of one range at most.
func (p *Portable) view(i, j int, use func([]byte) error) error {
	return p.data.view(p.base+int64(p.at[i]), int64(p.at[j]-p.at[i]), use)
}

// decode puts containers [i, j), whose bytes are b, in s.
func (p *Portable) decode(i, j int, b []byte, s *idset.Set) error {
	for k := i; k < j; k++ {
		part := b[p.at[k]-p.at[i] : p.at[k+1]-p.at[i]]
		c := s.Ensure(int(p.l.keys[k]) % idset.Containers)
		if err := decodeContainer(part, p.l.card(k), p.l.isRun(k), c); err != nil {
			return fmt.Errorf("container %d: %w", k, err)
		}
	}
	return nil
}

// RangeCardinality is the number of ids of one range.
func (p *Portable) RangeCardinality(r job.Range) int {
	n := 0
	for i, j := p.span(r); i < j; i++ {
		n += p.l.card(i)
	}
	return n
}

// Ranges yields, in ascending order, the ranges that have ids, and how many. It
// reads nothing but the index.
func (p *Portable) Ranges() iter.Seq2[job.Range, int] {
	return func(yield func(job.Range, int) bool) {
		for i := 0; i < len(p.l.keys); {
			r, n := job.Range(p.l.keys[i]/idset.Containers), 0
			for ; i < len(p.l.keys) && job.Range(p.l.keys[i]/idset.Containers) == r; i++ {
				n += p.l.card(i)
			}
			if !yield(r, n) {
				return
			}
		}
	}
}

// Has reports whether an id is in the set; it reads one container.
func (p *Portable) Has(id uint32) (has bool, err error) {
	k, ok := slices.BinarySearch(p.l.keys, uint16(id>>16))
	if !ok {
		return false, nil
	}
	c := idset.GetContainer()
	defer idset.PutContainer(c)
	err = p.view(k, k+1, func(b []byte) error { return decodeContainer(b, p.l.card(k), p.l.isRun(k), c) })
	if err != nil {
		return false, fmt.Errorf("container %d: %w", k, err)
	}
	return c[id>>6&(idset.Words-1)]>>(id&63)&1 == 1, nil
}

// Validate reads every container and checks it.
func (p *Portable) Validate(ctx context.Context) error {
	return p.each(ctx, func([]byte, *idset.Set) error { return nil })
}

// each shows all containers in order, a range at a time, as bytes and as a set.
func (p *Portable) each(ctx context.Context, use func(raw []byte, s *idset.Set) error) error {
	for r := range p.Ranges() {
		if err := ctx.Err(); err != nil {
			return err
		}
		s := idset.New(r)
		i, j := p.span(r)
		err := p.view(i, j, func(b []byte) error {
			if err := p.decode(i, j, b, s); err != nil {
				return err
			}
			return use(b, s)
		})
		s.Release()
		if err != nil {
			return fmt.Errorf("range %s: %w", r, err)
		}
	}
	return nil
}
