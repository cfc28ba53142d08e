package report_test

import (
	"math/rand/v2"
	"testing"

	"crier/internal/badinput"
)

// TestMutants reads all of damaged reports: a blob is known by its digest, so that one is
// never met, but none hurts, and no length in it is believed.
func TestMutants(t *testing.T) {
	var all [][]byte
	for seed := range uint64(4) {
		all = append(all, written(t, random(rand.New(rand.NewPCG(seed, 2)), 1+int(seed)*12)))
	}
	limit := func(n int) uint64 { return 2<<20 + 4<<10*uint64(n) }
	badinput.Feed(t, limit, func(m badinput.Mutant) bool { return readAll(m.Bytes) == nil }, all...)
}
