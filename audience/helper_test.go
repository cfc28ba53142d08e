package audience

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"crier/internal/idset"
	"crier/job"
)

// slicesSource gives the ids of a slice in batches of odd sizes, and then an
// error if it has one.
type slicesSource struct {
	name string
	ids  []uint32
	at   int
	err  error
}

func (s *slicesSource) Name() string { return s.name }
func (s *slicesSource) Close() error { return nil }
func (s *slicesSource) NextBatch(_ context.Context, ids []uint32) (int, error) {
	if s.at == len(s.ids) {
		if s.err != nil {
			return 0, s.err
		}
		return 0, io.EOF
	}
	n := copy(ids[:min(len(ids), 7777)], s.ids[s.at:])
	s.at += n
	return n, nil
}

// shapes makes a bitmap of parts that occur: sparse, dense, runs, whole
// containers, ids at both ends of the id space.
func shapes(rng *rand.Rand) *roaring.Bitmap {
	o := roaring.New()
	for range 1 + rng.IntN(5) {
		base := rng.Uint32() >> (rng.Uint32N(4) * 4)
		switch rng.IntN(6) {
		case 0:
			for range rng.IntN(300) {
				o.Add(rng.Uint32())
			}
		case 1:
			for range rng.IntN(9000) {
				o.Add(base&^0xffff + rng.Uint32N(1<<16))
			}
		case 2:
			o.AddRange(uint64(base), min(uint64(base)+rng.Uint64N(70000), 1<<32))
		case 3:
			for i := range rng.Uint32N(3000) { // as many short runs as make a container doubtful
				o.AddRange(uint64(base&^0xffff+i*20), uint64(base&^0xffff+i*20+1+rng.Uint32N(19)))
			}
		case 4:
			o.AddRange(uint64(base&^0xffff), uint64(base&^0xffff)+1<<16)
		default:
			o.Add(0)
			o.Add(1<<32 - 1)
		}
	}
	return o
}

// naiveDigest is the digest of the canonical set by its definition.
func naiveDigest(ids []uint32) job.Digest {
	var b []byte
	for _, id := range ids {
		b = append(b, byte(id), byte(id>>8), byte(id>>16), byte(id>>24))
	}
	return sha256.Sum256(b)
}

// write makes an envelope of a bitmap with a Writer and gives its bytes.
func write(t testing.TB, name string, o *roaring.Bitmap) []byte {
	t.Helper()
	w, err := NewWriter(t.TempDir(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	s := idset.New(0)
	it := o.Iterator()
	for it.HasNext() {
		id := it.Next()
		if r := job.Recipient(id).Range(); r != s.Range {
			if err := w.Add(s); err != nil {
				t.Fatal(err)
			}
			s.Release()
			s.Range = r
		}
		s.Add(id)
	}
	if err := w.Add(s); err != nil {
		t.Fatal(err)
	}
	d, err := w.Finish(0)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(d.Path())
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Discard(); err != nil {
		t.Fatal(err)
	}
	return b
}

// portableBytes is roaring's own writing of a bitmap.
func portableBytes(t testing.TB, o *roaring.Bitmap) []byte {
	t.Helper()
	b, err := o.ToBytes()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// collectIDs reads a set by way of its ranges.
func collectIDs(s Ranged) (ids []uint32, err error) {
	for r, n := range s.Ranges() {
		part, err := s.Range(r)
		if err != nil {
			return nil, err
		}
		before := len(ids)
		ids = slices.AppendSeq(ids, part.All())
		part.Release()
		if len(ids)-before != n {
			return nil, io.ErrUnexpectedEOF
		}
	}
	return ids, nil
}

// streamIDs reads a set by way of Stream.
func streamIDs(b []byte) (ids []uint32, err error) {
	s, err := NewStream(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	var c idset.Container
	for {
		key, err := s.Next(&c)
		if err == io.EOF {
			return ids, nil
		}
		if err != nil {
			return nil, err
		}
		part := idset.New(job.Range(key / idset.Containers))
		*part.Ensure(int(key) % idset.Containers) = c
		ids = slices.AppendSeq(ids, part.All())
		part.Release()
	}
}

// mutate changes bytes in one of the ways that storage and people do.
func mutate(rng *rand.Rand, b []byte) []byte {
	m := slices.Clone(b)
	head := min(len(m), 700) // half of the changes go where the structure is
	at := func() int {
		if rng.IntN(2) == 0 {
			return rng.IntN(head)
		}
		return rng.IntN(len(m))
	}
	switch rng.IntN(7) {
	case 0:
		m[at()] ^= 1 << rng.IntN(8)
	case 1:
		for range 1 + rng.IntN(4) {
			m[at()] = byte(rng.Uint32())
		}
	case 2:
		m = m[:at()]
	case 3:
		m = append(m, make([]byte, 1+rng.IntN(9))...)
	case 4: // two pieces change places
		n := 1 + rng.IntN(8)
		i, j := rng.IntN(len(m)), rng.IntN(len(m))
		if i+n <= len(m) && j+n <= len(m) {
			t := slices.Clone(m[i : i+n])
			copy(m[i:], m[j:j+n])
			copy(m[j:], t)
		}
	case 5: // a number one more or less
		i := at() &^ 1
		if i+2 <= len(m) {
			d := uint16(1)
			if rng.IntN(2) == 0 {
				d = ^uint16(0)
			}
			binary.LittleEndian.PutUint16(m[i:], binary.LittleEndian.Uint16(m[i:])+d)
		}
	default:
		i := at()
		m = slices.Delete(m, i, min(i+1+rng.IntN(4), len(m)))
	}
	return m
}
