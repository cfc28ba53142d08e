package idset

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"
	"pgregory.net/rapid"

	"crier/job"
)

// genSet draws a set of one range in the shapes that occur: sparse, dense, runs,
// full containers. The roaring bitmap of the same ids is the oracle.
func genSet(t *rapid.T, r job.Range, label string) (*Set, *roaring.Bitmap) {
	s, o := New(r), roaring.New()
	seed := rapid.Uint64().Draw(t, label+" seed")
	rng := rand.New(rand.NewPCG(seed, 1))
	for range rapid.IntRange(0, 4).Draw(t, label+" parts") {
		base := r.Lo() + rng.Uint32N(1<<20)
		switch rng.IntN(4) {
		case 0:
			for range rng.IntN(200) {
				id := r.Lo() + rng.Uint32N(1<<20)
				s.Add(id)
				o.Add(id)
			}
		case 1:
			for range rng.IntN(20000) {
				id := base&^0xffff + rng.Uint32N(1<<16)
				s.Add(id)
				o.Add(id)
			}
		default:
			hi := min(uint64(base)+rng.Uint64N(200000), uint64(r.Lo())+1<<20)
			s.AddSpan(job.Span{Lo: uint64(base), Hi: hi})
			o.AddRange(uint64(base), hi)
		}
	}
	return s, o
}

func same(t interface{ Fatalf(string, ...any) }, what string, s *Set, o *roaring.Bitmap) {
	if got, want := slices.Collect(s.All()), o.ToArray(); !slices.Equal(got, want) {
		t.Fatalf("%s: %d ids, the oracle has %d", what, len(got), len(want))
	}
	if s.Card() != int(o.GetCardinality()) || s.IsEmpty() != o.IsEmpty() {
		t.Fatalf("%s: Card %d, IsEmpty %v", what, s.Card(), s.IsEmpty())
	}
}

func TestAlgebraAgreesWithRoaring(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := job.Range(rapid.SampledFrom([]int{0, 1, 77, 4095}).Draw(t, "range"))
		a, oa := genSet(t, r, "a")
		b, ob := genSet(t, r, "b")
		same(t, "set", a, oa)
		if a.Intersects(b) != oa.Intersects(ob) {
			t.Fatalf("Intersects is %v", a.Intersects(b))
		}
		if a.Equal(b) != oa.Equals(ob) {
			t.Fatalf("Equal is %v", a.Equal(b))
		}
		for name, op := range map[string]func(*Set, *roaring.Bitmap){
			"and":    func(s *Set, o *roaring.Bitmap) { s.And(b); o.And(ob) },
			"andnot": func(s *Set, o *roaring.Bitmap) { s.AndNot(b); o.AndNot(ob) },
			"or":     func(s *Set, o *roaring.Bitmap) { s.Or(b); o.Or(ob) },
			"span": func(s *Set, o *roaring.Bitmap) {
				lo := uint64(r.Lo()) + uint64(rapid.IntRange(0, 1<<20).Draw(t, "lo"))
				hi := lo + uint64(rapid.IntRange(0, 1<<20).Draw(t, "len"))
				s.KeepSpan(job.Span{Lo: lo, Hi: hi})
				o.RemoveRange(0, lo)
				o.RemoveRange(hi, 1<<32)
			},
		} {
			s, o := a.Clone(), oa.Clone()
			op(s, o)
			same(t, name, s, o)
		}
	})
}

func TestCodecIsCanonicalAndShort(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, o := genSet(t, 9, "s")
		enc := s.AppendTo(nil)
		got, n, err := Decode(append(enc[:len(enc):len(enc)], 1, 2, 3))
		if err != nil || n != len(enc) {
			t.Fatalf("decoded %d of %d bytes: %v", n, len(enc), err)
		}
		same(t, "decoded", got, o)
		if !bytes.Equal(got.AppendTo(nil), enc) {
			t.Fatalf("the encoding of the decoded set differs")
		}
		o.RunOptimize()
		if limit := int(o.GetSerializedSizeInBytes()) + 64; len(enc) > limit {
			t.Fatalf("%d bytes, roaring takes %d", len(enc), limit-64)
		}
		for cut := range min(len(enc), 40) {
			if _, _, err := Decode(enc[:cut]); err == nil && cut < headerBytes {
				t.Fatalf("decoded %d bytes", cut)
			}
		}
	})
}

func TestCut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, o := genSet(t, 3, "s")
		n := rapid.IntRange(1, 5000).Draw(t, "n")
		lo := uint64(job.Range(3).Lo())
		hi := lo + 1<<20
		end := s.Cut(lo, hi, n)
		o.RemoveRange(end, 1<<32)
		got := int(o.GetCardinality())
		switch {
		case got > n:
			t.Fatalf("%d ids before %d, want at most %d", got, end, n)
		case end == hi && got != s.Card():
			t.Fatalf("whole span, but %d of %d ids", got, s.Card())
		case end != hi && got == 0:
			t.Fatalf("no progress: an empty block")
		}
	})
}

// every gives n ids, each so many after the one before.
func every(n, step int) []uint32 {
	ids := make([]uint32, n)
	for i := range ids {
		ids[i] = uint32(i * step)
	}
	return ids
}

// encodeAs writes ids of one container in a kind of the caller's choice.
func encodeAs(kind byte, ids []uint32) []byte {
	b := []byte{0, 0, 1, 0, kind}
	u16 := func(v uint32) { b = append(b, byte(v), byte(v>>8)) }
	switch kind {
	case kindArray:
		u16(uint32(len(ids)))
		for _, id := range ids {
			u16(id)
		}
	case kindRuns:
		var runs [][2]uint32
		for _, id := range ids {
			if n := len(runs); n > 0 && runs[n-1][1]+1 == id {
				runs[n-1][1] = id
				continue
			}
			runs = append(runs, [2]uint32{id, id})
		}
		u16(uint32(len(runs)))
		for _, r := range runs {
			u16(r[0])
			u16(r[1])
		}
	case kindBitmap:
		words := make([]byte, bitmapBytes)
		for _, id := range ids {
			words[id>>3] |= 1 << (id & 7)
		}
		b = append(b, words...)
	}
	return b
}

// Of the three forms of a container Decode takes the one that AppendTo writes, at
// the borders between them too.
func TestDecodeTakesOnlyTheShortest(t *testing.T) {
	for name, ids := range map[string][]uint32{
		"nobody":                     nil,
		"one id":                     {9},
		"two neighbours":             {9, 10},
		"neighbours and one":         {9, 10, 12},
		"the ends":                   {0, 65535},
		"the last two":               {65534, 65535},
		"an array at its longest":    every(4095, 2),
		"one id more":                every(4096, 2),
		"runs at their longest":      slices.DeleteFunc(every(2047*3, 1), func(id uint32) bool { return id%3 == 2 }),
		"one run more":               slices.DeleteFunc(every(2048*3, 1), func(id uint32) bool { return id%3 == 2 }),
		"runs of words, then nobody": every(5000, 1),
		"all but one":                every(65535, 1),
		"everybody":                  every(65536, 1),
		"every second":               every(32768, 2),
	} {
		want := Of(ids...).AppendTo(nil)
		taken := 0
		for kind := range byte(3) {
			enc := encodeAs(kind, ids)
			_, n, err := Decode(enc)
			switch {
			case bytes.Equal(enc, want):
				if taken++; err != nil || n != len(enc) {
					t.Errorf("%s: kind %d, which AppendTo writes: %d, %v", name, kind, n, err)
				}
			case !errors.Is(err, ErrEncoding):
				t.Errorf("%s: kind %d, which AppendTo does not write: %v", name, kind, err)
			}
		}
		if taken != 1 && len(ids) > 0 {
			t.Errorf("%s: %d forms are taken", name, taken)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(Of(5, 70000).AppendTo(nil))
	for _, ids := range [][]uint32{{0}, {0, 1}, {7, 8, 9}, {65535}, every(4095, 2), every(4096, 2), every(2047, 3)} {
		for kind := range byte(3) {
			f.Add(encodeAs(kind, ids))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, n, err := Decode(b)
		if err != nil {
			return
		}
		if enc := s.AppendTo(nil); !bytes.Equal(enc, b[:n]) {
			t.Fatalf("%x is taken, and written as %x", b[:n], enc)
		}
		again, _, err := Decode(b[:n])
		if err != nil || !again.Equal(s) {
			t.Fatalf("a decoded set does not survive: %v", err)
		}
	})
}

func BenchmarkEncodeDecode(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	s := New(0)
	for range 300000 {
		s.Add(rng.Uint32N(1 << 20))
	}
	buf := s.AppendTo(nil)
	b.SetBytes(int64(len(buf)))
	for b.Loop() {
		buf = s.AppendTo(buf[:0])
		d, _, _ := Decode(buf)
		d.Release()
	}
}
