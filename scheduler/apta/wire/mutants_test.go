package wire

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"crier/internal/badinput"
)

// TestMutants: what is taken of a mutant of a frame is written and read again as the same.
func TestMutants(t *testing.T) {
	var all [][]byte
	for _, m := range samples() {
		b, err := Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	limit := func(n int) uint64 { return 1<<20 + 256*uint64(n) }
	badinput.Feed(t, limit, func(m badinput.Mutant) bool {
		got, err := Decode(m.Bytes)
		if err != nil {
			return false
		}
		b, err := Encode(got)
		if err != nil {
			t.Fatalf("%s is read and cannot be written: %v", m, err)
		}
		if again, err := Decode(b); err != nil || !cmp.Equal(got, again, cmpopts.EquateEmpty()) {
			t.Fatalf("%s is read, written and read as another: %v", m, err)
		}
		return true
	}, all...)
}
