package source

import (
	"context"
	"io"
	"iter"

	"crier/audience"
	"crier/internal/idset"
	"crier/job"
)

// Followers reads any set that is kept by ranges, such as the followers of an
// account. It holds one range (128 KiB).
type Followers struct {
	name string
	set  audience.Ranged
	next func() (job.Range, int, bool)
	stop func()
	part *idset.Set // the range under way, or nil
	i    int        // container of it that comes next
	ids  drainer
	err  error // sticky
}

// NewFollowers makes a package of a name from a set, which must not change.
func NewFollowers(name string, set audience.Ranged) *Followers {
	f := &Followers{name: name, set: set}
	f.next, f.stop = iter.Pull2(set.Ranges())
	return f
}

// Name is the package's name.
func (f *Followers) Name() string { return f.name }

// Close lets go of the set; it stays open.
func (f *Followers) Close() error {
	f.stop()
	f.part.Release()
	f.part, f.ids.c, f.err = nil, nil, io.EOF
	return nil
}

// NextBatch reads ids.
func (f *Followers) NextBatch(ctx context.Context, ids []uint32) (int, error) {
	n := 0
	for n < len(ids) && f.err == nil {
		switch {
		case f.ids.c != nil:
			n += f.ids.next(ids[n:])
		case f.part == nil:
			if f.err = ctx.Err(); f.err == nil {
				f.err = f.nextRange()
			}
		case f.i == idset.Containers:
			f.part.Release()
			f.part = nil
		default:
			if c := f.part.Container(f.i); c != nil {
				f.ids.start(c, f.part.Range.Lo()+uint32(f.i)<<idset.ContainerBits)
			}
			f.i++
		}
	}
	if f.err == nil || f.err == io.EOF && n > 0 {
		return n, nil
	}
	return 0, f.err
}

func (f *Followers) nextRange() (err error) {
	r, _, ok := f.next()
	if !ok {
		return io.EOF
	}
	f.part, err = f.set.Range(r)
	f.i = 0
	return err
}
