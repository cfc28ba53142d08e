package idset

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"crier/internal/badinput"
)

// TestMutants: what is taken of a mutant is written as the very bytes that were read, so
// that no set has two encodings; and it takes 8 KiB for each of its containers.
func TestMutants(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	wide := New(4095)
	for range 40 {
		wide.Add(4095<<20 + rng.Uint32N(1<<20))
	}
	dense := Of(every(5000, 3)...)
	limit := func(n int) uint64 { return 384<<10 + 16*uint64(n) }
	badinput.Feed(t, limit, func(m badinput.Mutant) bool {
		s, n, err := Decode(m.Bytes)
		if err != nil {
			if !errors.Is(err, ErrEncoding) || s != nil {
				t.Errorf("%s: %v, %v", m, s, err)
			}
			return false
		}
		if again := s.AppendTo(nil); !bytes.Equal(again, m.Bytes[:n]) {
			t.Errorf("%s: %x is read, and written as %x", m, m.Bytes[:n], again)
		}
		s.Release()
		return n == len(m.Bytes)
	}, wide.AppendTo(nil), dense.AppendTo(nil), Of(5, 6, 7, 70_000).AppendTo(nil))
}
