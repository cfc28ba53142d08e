package jobs

import (
	"cmp"
	"maps"
	"slices"

	"crier/job"
)

// putLocked puts a job in, in the place of what is known of it.
func (t *Table) putLocked(j *Job) {
	if old := t.mu.jobs[j.Spec.ID]; old != nil {
		*old = *j
		return
	}
	t.mu.jobs[j.Spec.ID], t.mu.order = j, nil
}

func (t *Table) dropLocked(id job.ID) {
	if t.mu.jobs[id] != nil {
		delete(t.mu.jobs, id)
		t.mu.order = nil
	}
}

// Live lists the jobs that are live, oldest first.
func (t *Table) Live() []Job {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for t.mu.order == nil {
		t.mu.RUnlock()
		t.sort()
		t.mu.RLock()
	}
	out := make([]Job, 0, len(t.mu.order))
	for _, j := range t.mu.order {
		if j.IsLive() {
			out = append(out, *j)
		}
	}
	return out
}

// sort sorts the jobs for those who list them again and again while none comes or goes.
func (t *Table) sort() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.order = slices.AppendSeq(make([]*Job, 0, len(t.mu.jobs)), maps.Values(t.mu.jobs))
	slices.SortFunc(t.mu.order, func(a, b *Job) int {
		return cmp.Or(a.Spec.SubmittedAt.Compare(b.Spec.SubmittedAt), slices.Compare(a.Spec.ID[:], b.Spec.ID[:]))
	})
}

// UnderWay counts, for each tenant, the jobs that are neither sent nor over.
func (t *Table) UnderWay() map[string]uint64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	n := map[string]uint64{}
	for _, j := range t.mu.jobs {
		if !j.State.Reached(job.Sent) {
			n[j.Spec.TenantOf()]++
		}
	}
	return n
}
