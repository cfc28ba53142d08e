// Package holds is which ranges a worker is home to, as its other goroutines may know it
// beside the loop that decides, and which slices it has claimed.
//
// It guarantees nothing about the ledger: a worker that was sealed and does not know it
// holds what it held.
package holds

import (
	"sync"
	"sync/atomic"
	"time"

	"crier/job"
)

// Ranges is written by the loop and read by everybody: 100 KB.
type Ranges struct {
	start  time.Time                // times count from it: clocks may be set
	begun  [job.Ranges]atomic.Int64 // when the worker became the home; 0 if it is not
	fresh  [job.Ranges]atomic.Bool  // nobody was home before
	wanted [job.Ranges]atomic.Int64 // when somebody last asked for the home
	mu     struct {
		sync.Mutex
		changed chan struct{} // closed, and replaced, when anything changes
	}
}

// New makes one of a worker that is home to nothing.
func New() *Ranges {
	h := &Ranges{start: time.Now()}
	h.mu.changed = make(chan struct{})
	return h
}

func (h *Ranges) now() int64 { return int64(time.Since(h.start)) + 1 }

// Has reports whether this worker is home to a range.
func (h *Ranges) Has(r job.Range) bool { return h.begun[r].Load() != 0 }

// Age is how long this worker has been the home of a range, and whether nobody was
// before it; ok is false if it is not the home.
func (h *Ranges) Age(r job.Range) (d time.Duration, first, ok bool) {
	at := h.begun[r].Load()
	return time.Duration(h.now() - at), h.fresh[r].Load(), at != 0
}

// Begin notes that this worker is the home of a range from now on.
func (h *Ranges) Begin(r job.Range, first bool) {
	h.fresh[r].Store(first)
	h.begun[r].Store(h.now())
	h.tell()
}

// End notes that it is no more.
func (h *Ranges) End(r job.Range) {
	h.begun[r].Store(0)
	h.tell()
}

// wantAgain is how often the same wish is worth hearing: many ask for one home.
const wantAgain = 100 * time.Millisecond

// Wants reports whether it is news that somebody needs the home of a range.
func (h *Ranges) Wants(r job.Range) bool {
	now, last := h.now(), h.wanted[r].Load()
	if h.Has(r) || last != 0 && now-last < int64(wantAgain) {
		return false
	}
	return h.wanted[r].CompareAndSwap(last, now)
}

func (h *Ranges) tell() {
	h.mu.Lock()
	defer h.mu.Unlock()
	close(h.mu.changed)
	h.mu.changed = make(chan struct{})
}

// Changed is closed at the next change.
func (h *Ranges) Changed() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mu.changed
}
