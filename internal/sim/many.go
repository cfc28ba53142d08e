package sim

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// Many runs seeds, as many at a time as there are processors; each is a world of its
// own. each is told every result, in no order, one at a time; false ends it.
func Many(from, n uint64, opts Options, each func(Result) bool) Counts {
	var (
		mu    sync.Mutex
		sum   Counts
		next  atomic.Uint64
		ended atomic.Bool
		group sync.WaitGroup
	)
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() {
			for !ended.Load() {
				k := next.Add(1) - 1
				if k >= n {
					return
				}
				o := opts
				o.Seed = from + k
				res := Run(o)
				mu.Lock()
				sum.Add(res.Counts)
				if !ended.Load() && !each(res) {
					ended.Store(true)
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
	return sum
}
