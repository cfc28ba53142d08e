package waiting

import (
	"sync"

	"crier/job"
)

// Ranges is ranges that may have rows of a kind. It may name one that has none any more, never miss
// one that has: it is told of rows after they are written, and forgets a range only if none were
// since it was looked. The zero value names none. It is safe for concurrent use.
type Ranges struct {
	mu    sync.Mutex
	told  map[job.Range]uint64 // when it was told of each, counted
	tells uint64
}

// Add notes that rows of a range were written.
func (s *Ranges) Add(r job.Range) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.told == nil {
		s.told = map[job.Range]uint64{}
	}
	s.tells++
	s.told[r] = s.tells
}

// Has reports whether a range may have rows, and where it is; see None.
func (s *Ranges) Has(r job.Range) (mark uint64, may bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	mark, may = s.told[r]
	return mark, may
}

// None forgets a range of which no rows were found since the mark was taken, unless some were
// written since.
func (s *Ranges) None(r job.Range, mark uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.told[r] == mark {
		delete(s.told, r)
	}
}
