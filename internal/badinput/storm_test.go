package badinput_test

import (
	"encoding/json"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// TestOneKeyManyTimes submits one request with one idempotency key 10,000 times at once,
// over at most 500 connections: there is one job, and every answer is that job or asks to
// come again. A tenth of them ask for something else with that key: theirs is the job, or
// a conflict.
func TestOneKeyManyTimes(t *testing.T) {
	const submits, mostMemory = 10_000, 512 << 20
	x := start(t)
	before := x.state()
	var mem runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&mem)
	base := mem.HeapInuse
	type made struct {
		Job, Package string
		BodyBytes    int `json:"body_bytes"`
	}
	var all struct {
		sync.Mutex
		jobs     map[made]int
		statuses map[int]int
		lengths  map[int]int // of the bodies that were accepted, as they were sent
		most     uint64
	}
	all.jobs, all.statuses, all.lengths = map[made]int{}, map[int]int{}, map[int]int{}
	var answered atomic.Int64
	begin := make(chan struct{})
	var wg sync.WaitGroup
	for i := range submits {
		wg.Go(func() {
			body := "the same"
			if i%10 == 9 {
				body = "another one"
			}
			<-begin
			a, err := x.try("POST", "/v1/jobs", fmt.Sprintf(`{"account":"sender","package":"%s","body":"%s"}`, x.pkg, body), "Idempotency-Key", "storm")
			if err != nil {
				t.Errorf("submit %d: %v", i, err)
				return
			}
			var j made
			if a.status == 202 {
				if err := json.Unmarshal([]byte(a.body), &j); err != nil {
					t.Errorf("submit %d: %v", i, err)
				}
			} else if a.status != 409 && a.status != 429 && a.status != 503 {
				t.Errorf("submit %d: %d %s", i, a.status, a.body)
			}
			all.Lock()
			defer all.Unlock()
			if all.statuses[a.status]++; a.status == 202 {
				all.jobs[j]++
				all.lengths[len(body)]++
			}
			if answered.Add(1)%100 == 0 {
				runtime.ReadMemStats(&mem)
				all.most = max(all.most, mem.HeapInuse)
			}
		})
	}
	close(begin)
	wg.Wait()
	t.Logf("statuses %v; at most %d MiB of heap, %d before", all.statuses, all.most>>20, base>>20)
	if len(all.jobs) != 1 || len(all.lengths) != 1 {
		t.Fatalf("the answers tell of %v, for bodies of %v bytes", all.jobs, all.lengths)
	}
	for j, n := range all.jobs {
		if all.lengths[j.BodyBytes] != n {
			t.Errorf("job %+v, but what was accepted has %v bytes", j, all.lengths)
		}
		after := x.state()
		if _, there := after[j.Job]; !there {
			t.Errorf("job %s is not listed", j.Job)
		}
		jobs := 0
		for name := range after {
			if _, old := before[name]; !old && len(name) == len(j.Job) {
				jobs++
			}
		}
		if jobs != 1 {
			t.Errorf("%d jobs were made", jobs)
		}
	}
	if all.most > base+mostMemory {
		t.Errorf("the heap grew from %d MiB to %d", base>>20, all.most>>20)
	}
}
