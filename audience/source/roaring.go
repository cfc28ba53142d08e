package source

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"

	"crier/audience"
	"crier/internal/idset"
)

// Roaring reads a bitmap in the portable 32-bit roaring format.
type Roaring struct {
	in   Input
	head []byte // the first bytes, to name another format by
	s    *audience.Stream
	part idset.Container
	ids  drainer
	err  error // sticky
}

// NewRoaring reads a bitmap from an input.
func NewRoaring(in Input) *Roaring { return &Roaring{in: in} }

// Name is the package's name.
func (r *Roaring) Name() string { return r.in.Name }

// Close closes the input.
func (r *Roaring) Close() error { return r.in.R.Close() }

// NextBatch reads ids.
func (r *Roaring) NextBatch(ctx context.Context, ids []uint32) (int, error) {
	if r.err == nil && r.s == nil {
		r.err = r.start()
	}
	n := 0
	for n < len(ids) && r.err == nil {
		if r.ids.c == nil {
			if r.err = ctx.Err(); r.err == nil {
				r.err = r.nextContainer()
			}
			continue
		}
		n += r.ids.next(ids[n:])
	}
	if r.err == nil || r.err == io.EOF && n > 0 {
		return n, nil
	}
	return 0, r.err
}

func (r *Roaring) start() (err error) {
	b := bufio.NewReaderSize(r.in.R, bufferSize)
	// An error of Peek comes again when the stream reads.
	head, _ := b.Peek(headBytes)
	r.head = append(r.head, head...)
	r.s, err = audience.NewStream(b)
	return r.explain(err)
}

func (r *Roaring) nextContainer() error {
	key, err := r.s.Next(&r.part)
	if err != nil {
		return r.explain(err)
	}
	r.ids.start(&r.part, uint32(key)<<16)
	return nil
}

// explain says what the input is if it is not what was expected.
func (r *Roaring) explain(err error) error {
	switch {
	case err == nil || err == io.EOF:
		return err
	case audience.IsFormat(err):
		if is64Bit(r.head) {
			err = errors.New("this is a 64-bit roaring bitmap; only the portable 32-bit roaring format is read")
		}
		return refuse(r.in.File, 0, 0, err)
	}
	return reading(r.in.File, err)
}

// headBytes is how much of an input is looked at to tell a 64-bit bitmap.
const headBytes = 32

// is64Bit reports whether a file that is no 32-bit bitmap starts like one of the
// two 64-bit layouts. Both are a number of 32-bit bitmaps, each behind the high
// half of its ids: the portable one counts in 8 bytes, little-endian; the older
// one of Java in 4, big-endian, behind a byte that says how ids are ordered.
func is64Bit(head []byte) bool {
	le := binary.LittleEndian
	if len(head) >= 8 {
		count := le.Uint64(head)
		if count == 0 && len(head) == 8 || count > 0 && count <= 1<<32 && len(head) >= 16 && isCookie(le.Uint32(head[12:])) {
			return true
		}
	}
	if len(head) >= 5 && head[0] <= 1 {
		count := binary.BigEndian.Uint32(head[1:])
		return count == 0 && len(head) == 5 || count > 0 && len(head) >= 13 && isCookie(le.Uint32(head[9:]))
	}
	return false
}

// isCookie reports whether a 32-bit bitmap can start so.
func isCookie(v uint32) bool { return v == 12346 || v&0xffff == 12347 }
