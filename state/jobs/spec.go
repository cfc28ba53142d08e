package jobs

import (
	"context"
	"sync"

	"crier/job"
)

// specsKept bounds what is kept in memory of jobs that are over, at a KiB or so each.
const specsKept = 1 << 10

// kept is something that never changes of some jobs that are over, such as what they were
// submitted as.
type kept[V any] struct {
	mu sync.Mutex
	of map[job.ID]V
}

func (k *kept[V]) get(id job.ID) (V, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	v, ok := k.of[id]
	return v, ok
}

// put keeps it of a job. When there are many, all go: what is asked for next is read again.
func (k *kept[V]) put(id job.ID, v V) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.of == nil || len(k.of) >= specsKept {
		k.of = map[job.ID]V{}
	}
	k.of[id] = v
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
	t.over.put(id, j.Spec)
	return j.Spec, nil
}
