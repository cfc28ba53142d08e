// Package tries counts how often something of a slice broke the worker's work on it.
//
// It guarantees that a place counts in a row: what goes well once begins at zero again,
// and so does everything of a job whose quarantine was ended.
package tries

import (
	"cmp"
	"sync"

	"crier/job"
)

// Place is what broke: the block of a slice that begins at an id, or its offer.
type Place struct {
	Job   job.ID
	Slice uint32
	Lo    uint64 // first id, or Offer
}

// Offer is the place of an offer: no block begins there.
const Offer = ^uint64(0)

// Book is the count. Its zero value is empty; it is safe for concurrent use.
type Book struct {
	mu struct {
		sync.Mutex
		all map[Place]count
	}
}

type count struct {
	again uint64 // the job's Controls.Again when it was counted
	n     int
	why   string
}

// Broke counts a try that broke, under the job's Controls.Again, and tells how many there
// were in a row.
func (b *Book) Broke(at Place, again uint64, why string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.all == nil {
		b.mu.all = map[Place]count{}
	}
	c := b.mu.all[at]
	if c.again != again {
		c = count{again: again}
	}
	c.n, c.why = c.n+1, why
	b.mu.all[at] = c
	return c.n
}

// Fine says that a try went well.
func (b *Book) Fine(at Place) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.mu.all, at)
}

// Of gives the most tries in a row of any place of a slice, and why the last of them broke.
func (b *Book) Of(id job.ID, slice uint32, again uint64) (n int, why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var most count
	var lo uint64
	for at, c := range b.mu.all {
		if at.Job == id && at.Slice == slice && c.again == again && cmp.Or(cmp.Compare(c.n, most.n), cmp.Compare(lo, at.Lo)) > 0 {
			most, lo = c, at.Lo
		}
	}
	return most.n, most.why
}

// Forget drops what is counted of jobs that are not live.
func (b *Book) Forget(live func(job.ID) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for at := range b.mu.all {
		if !live(at.Job) {
			delete(b.mu.all, at)
		}
	}
}
