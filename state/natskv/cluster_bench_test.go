package natskv_test

import (
	"fmt"
	"sync"
	"testing"

	"crier/state/coord"
)

// BenchmarkConditional has 16 keys written over their last version, each one at a time.
func BenchmarkConditional(b *testing.B) {
	for _, n := range []int{1, 3} {
		b.Run(fmt.Sprintf("R%d", n), func(b *testing.B) {
			c := startServers(b, n)
			const keys = 16
			st := openReplicated(b, dial(b, c.URL), "bench", n)
			var versions [keys]coord.Version
			for b.Loop() {
				var wg sync.WaitGroup
				for i := range keys {
					wg.Go(func() {
						for range 64 {
							v, err := st.Put(b.Context(), fmt.Sprintf("member/%d", i), []byte("w1"), versions[i])
							if err != nil {
								b.Error(err)
								return
							}
							versions[i] = v
						}
					})
				}
				wg.Wait()
			}
			b.ReportMetric(float64(b.N*keys*64)/b.Elapsed().Seconds(), "writes/s")
		})
	}
}
