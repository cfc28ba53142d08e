package badinput

import (
	"runtime/metrics"
	"testing"
)

// Allocated is how many bytes do allocates, and what goes on beside it. It is exact but
// for small objects, which are counted by whole spans of them: at most some ten KiB.
func Allocated(do func()) uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	before := sample[0].Value.Uint64()
	do()
	metrics.Read(sample)
	return sample[0].Value.Uint64() - before
}

// Feed gives a decoder mutants of each of the samples, and fails the test if one takes
// more memory than limit has for so many bytes. decode holds what it decodes to what must
// be so, and reports whether the bytes were taken.
func Feed(t *testing.T, limit func(n int) uint64, decode func(m Mutant) bool, samples ...[]byte) {
	t.Helper()
	tried, taken := 0, 0
	for _, sample := range samples {
		for m := range Mutants(Number(t, sample), sample, samples...) {
			tried++
			ok := false
			if n := Allocated(func() { ok = decode(m) }); n > limit(len(m.Bytes)) {
				t.Fatalf("%s takes %d bytes of memory, more than %d: %.200x", m, n, limit(len(m.Bytes)), m.Bytes)
			}
			if ok {
				taken++
			}
		}
	}
	t.Logf("%d mutants of %d samples, %d taken", tried, len(samples), taken)
	if tried == 0 || taken > tried/2 {
		t.Errorf("%d of %d mutants were taken", taken, tried)
	}
}
