package badinput

import "runtime/metrics"

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
