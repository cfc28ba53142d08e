package jobs

import (
	"context"
	"sync"

	"crier/job"
)

// specsKept bounds the specs of jobs that are over in memory, at a KiB or so each.
const specsKept = 1 << 10

// specs are what some jobs that are over were submitted as, which never changes.
type specs struct {
	mu sync.Mutex
	of map[job.ID]job.Spec
}

func (s *specs) get(id job.ID) (job.Spec, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	spec, ok := s.of[id]
	return spec, ok
}

// put keeps a spec. When there are many, all go: what is asked for next is read again.
func (s *specs) put(spec job.Spec) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of == nil || len(s.of) >= specsKept {
		s.of = map[job.ID]job.Spec{}
	}
	s.of[spec.ID] = spec
}

// Spec gives what a job was submitted as. That of one that is over is read from the ledger
// once: an index that reads on, or is built again, asks for every block, and each reading
// of a stream with replicas stores a mark.
func (t *Table) Spec(ctx context.Context, id job.ID) (job.Spec, error) {
	if j, ok := t.known(id); ok {
		return j.Spec, nil
	}
	if spec, ok := t.over.get(id); ok {
		return spec, nil
	}
	j, err := t.last(ctx, id)
	if err != nil {
		return job.Spec{}, err
	}
	t.over.put(j.Spec)
	return j.Spec, nil
}
