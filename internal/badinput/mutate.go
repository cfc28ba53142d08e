// Package badinput gives tests the input that hurts code which trusts it: mutants of
// bytes that are good, JSON texts, strings and paths. The real ones are read from the
// test data; without it there are made ones, and the test's log says so.
//
// It guarantees that a mutant differs from what it was made of, and that the same seed
// gives the same mutants.
package badinput

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
)

// Most is how many mutants of a sample are tried if they are small.
const Most = 10_000

// Number is how many mutants of a sample a test tries: CRIER_MUTANTS; by default Most,
// or as many as have 16 MiB together, and fewer with the race detector.
func Number(t testing.TB, sample []byte) int {
	t.Helper()
	if s := os.Getenv("CRIER_MUTANTS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			t.Fatalf("CRIER_MUTANTS is %q: want how many mutants of each sample, such as %d", s, Most)
		}
		return n
	}
	return max(1, min(Most, 16<<20/(len(sample)+1))/share)
}

// Mutant is a sample after one change, or a few.
type Mutant struct {
	Seed  uint64
	Kind  string // of the change
	Bytes []byte // the test's own
}

// String names the mutant so that it can be made again.
func (m Mutant) String() string {
	return fmt.Sprintf("mutant %d (%s, %d bytes)", m.Seed, m.Kind, len(m.Bytes))
}

// Mutants makes n mutants of a sample; parts of the others are spliced in.
func Mutants(n int, sample []byte, others ...[]byte) iter.Seq[Mutant] {
	return func(yield func(Mutant) bool) {
		for seed := range uint64(n) {
			if m, ok := mutant(seed, sample, others); ok && !yield(m) {
				return
			}
		}
	}
}

// mutant makes one mutant; a sample that no change changes has none.
func mutant(seed uint64, sample []byte, others [][]byte) (Mutant, bool) {
	rng := rand.New(rand.NewPCG(seed, 0x6d757461))
	for range 16 {
		k := kinds[rng.IntN(len(kinds))]
		b := k.change(rng, slices.Clone(sample), others)
		if rng.IntN(8) == 0 { // two wrongs that may cover each other
			b = kinds[rng.IntN(len(kinds))].change(rng, b, others)
		}
		if !bytes.Equal(b, sample) {
			return Mutant{seed, k.name, b}, true
		}
	}
	return Mutant{}, false
}

// kinds are the changes. Each gets bytes that it may write to.
var kinds = []struct {
	name   string
	change func(rng *rand.Rand, b []byte, others [][]byte) []byte
}{
	{"bit flips", flip},
	{"other bytes", overwrite},
	{"truncation", func(rng *rand.Rand, b []byte, _ [][]byte) []byte { return b[:rng.IntN(len(b)+1)] }},
	{"cut", cut},
	{"splice", splice},
	{"length field", length},
	{"varint", varint},
	{"duplicated part", duplicate},
	{"swapped parts", swap},
	{"inserted bytes", insert},
	{"zeros", zeros},
}

// at chooses a place, half of the time near the start, where headers are.
func at(rng *rand.Rand, n int) int {
	if n == 0 {
		return 0
	}
	if rng.IntN(2) == 0 {
		return rng.IntN(min(n, 64))
	}
	return rng.IntN(n)
}

// part chooses a part, mostly a short one.
func part(rng *rand.Rand, n int) (lo, hi int) {
	lo = at(rng, n)
	most := n - lo
	if rng.IntN(4) > 0 {
		most = min(most, 16)
	}
	return lo, lo + rng.IntN(most+1)
}

func flip(rng *rand.Rand, b []byte, _ [][]byte) []byte {
	for range 1 << rng.IntN(4) {
		if len(b) > 0 {
			b[at(rng, len(b))] ^= 1 << rng.IntN(8)
		}
	}
	return b
}

// edges are bytes at which something begins or ends.
var edges = []byte{0, 1, 0x7f, 0x80, 0xff, ' ', '\n', '"', '{', '}', '[', ']', ',', ':', '\\', '0', '9', '-', '.', '/'}

func overwrite(rng *rand.Rand, b []byte, _ [][]byte) []byte {
	for range 1 + rng.IntN(4) {
		if len(b) == 0 {
			break
		}
		b[at(rng, len(b))] = edges[rng.IntN(len(edges))]
		if rng.IntN(2) == 0 {
			b[at(rng, len(b))] = byte(rng.Uint32())
		}
	}
	return b
}

func cut(rng *rand.Rand, b []byte, _ [][]byte) []byte {
	lo, hi := part(rng, len(b))
	return slices.Delete(b, lo, hi)
}

// splice puts the end, or a part, of another sample behind the start of this one.
func splice(rng *rand.Rand, b []byte, others [][]byte) []byte {
	from := b
	if len(others) > 0 {
		from = others[rng.IntN(len(others))]
	}
	from = slices.Clone(from)
	head := b[:at(rng, len(b))]
	if rng.IntN(2) == 0 {
		return append(slices.Clip(head), from[at(rng, len(from)):]...)
	}
	lo, hi := part(rng, len(from))
	return slices.Concat(head, from[lo:hi], b[min(len(b), len(head)+hi-lo):])
}

// limits are numbers at which fields of some width end.
var limits = []uint64{0, 1, 2, 0x7f, 0x80, 0xff, 0x100, 0xfff, 0x1000, 0x1001, 0x7fff, 0x8000, 0xffff, 0x10000, 0xfffff, 0x100000,
	0x7fffffff, 0x80000000, 0xffffffff, 0x100000000, 0x7fffffffffffffff, 0x8000000000000000, 0xffffffffffffffff}

func number(rng *rand.Rand) uint64 {
	switch rng.IntN(4) {
	case 0:
		return rng.Uint64() >> rng.IntN(64)
	case 1:
		return limits[rng.IntN(len(limits))] + uint64(rng.IntN(5)) - 2
	}
	return limits[rng.IntN(len(limits))]
}

// length writes a number of 2, 4 or 8 bytes, in one of both orders, or moves the one
// that is there by a little.
func length(rng *rand.Rand, b []byte, _ [][]byte) []byte {
	width := 2 << rng.IntN(3)
	if len(b) < width {
		return b
	}
	i := at(rng, len(b)-width+1)
	if rng.IntN(2) == 0 {
		i &^= width - 1
	}
	v, field := number(rng), b[i:i+width]
	var order interface {
		binary.ByteOrder
		binary.AppendByteOrder
	} = binary.LittleEndian
	if rng.IntN(4) == 0 {
		order = binary.BigEndian
	}
	whole := make([]byte, 8)
	if rng.IntN(2) == 0 {
		if order == binary.LittleEndian {
			copy(whole, field)
		} else {
			copy(whole[8-width:], field)
		}
		v = order.Uint64(whole) + uint64(rng.IntN(9)) - 4
	}
	whole = order.AppendUint64(whole[:0], v)
	if order == binary.BigEndian {
		whole = whole[8-width:]
	}
	copy(field, whole)
	return b
}

// varint writes a number as a varint over the one that seems to be there.
func varint(rng *rand.Rand, b []byte, _ [][]byte) []byte {
	i := at(rng, len(b))
	v, n := binary.Uvarint(b[i:])
	n = max(0, min(n, len(b)-i))
	if rng.IntN(2) == 0 {
		v += uint64(rng.IntN(9)) - 4
	} else {
		v = number(rng)
	}
	return slices.Concat(b[:i], binary.AppendUvarint(nil, v), b[i+n:])
}

func duplicate(rng *rand.Rand, b []byte, _ [][]byte) []byte {
	lo, hi := part(rng, len(b))
	again := slices.Clone(b[lo:hi])
	to := hi
	if rng.IntN(2) == 0 {
		to = at(rng, len(b))
	}
	for range rng.IntN(3) {
		again = append(again, b[lo:hi]...)
	}
	return slices.Insert(b, to, again...)
}

func swap(rng *rand.Rand, b []byte, _ [][]byte) []byte {
	lo, hi := part(rng, len(b))
	n := min(hi-lo, len(b)-hi)
	for i := range n {
		b[lo+i], b[hi+i] = b[hi+i], b[lo+i]
	}
	return b
}

func insert(rng *rand.Rand, b []byte, _ [][]byte) []byte {
	more := make([]byte, 1+rng.IntN(16))
	for i := range more {
		more[i] = byte(rng.Uint32())
	}
	to := at(rng, len(b))
	if rng.IntN(3) == 0 {
		to = len(b)
	}
	return slices.Insert(b, to, more...)
}

func zeros(rng *rand.Rand, b []byte, _ [][]byte) []byte {
	lo, hi := part(rng, len(b))
	clear(b[lo:hi])
	return b
}
