package member

import (
	"crier/job"
	"crier/scheduler"
	"crier/scheduler/apta/hint"
	"crier/scheduler/apta/link"
	"crier/state/ledger"
	"crier/worker/tenure"
)

// Ring is what a process believes about who works. But for what Lapsed and Frozen know at
// the moment it does not change.
type Ring struct {
	self       string
	hash       uint64 // of the view
	workers    *hint.Table
	schedulers *hint.Table
	mayTake    func() bool
	lapsed     func(id string, incarnation uint32) bool
}

// NewRing makes the ring of a member with a view, which takes nothing.
func NewRing(self string, v *link.View) *Ring {
	return &Ring{self: self, hash: v.Hash, workers: hint.New(v.Takers(link.Worker)), schedulers: hint.New(v.Takers(link.Scheduler)),
		mayTake: func() bool { return false }, lapsed: func(string, uint32) bool { return false }}
}

// Of is the member of which a worker, a scheduler, a gateway or a duty's holder is a
// part: its name without the letter in front.
func Of(part string) string {
	if len(part) > 2 && part[1] == '-' {
		return part[2:]
	}
	return part
}

// Shard is a thing's shard: a range is its own.
func Shard(t ledger.Thing) uint16 {
	if t.Kind == ledger.ClaimRange {
		if r, err := job.ParseRange(t.ID); err == nil {
			return uint16(r)
		}
	}
	return hint.Shard([]byte(t.ID))
}

// Worker implements internal/app's ring.
func (r *Ring) Worker() tenure.Ring { return workerRing{r} }

// Scheduler implements internal/app's ring.
func (r *Ring) Scheduler() scheduler.Ring { return schedulerRing{r} }

// Lapsed reports whether a part of a member is dead for all that can be known.
func (r *Ring) Lapsed(part job.Journal) bool {
	id := Of(part.Worker)
	return id != r.self && r.lapsed(id, part.Incarnation)
}

// Frozen reports whether nothing new may be taken now.
func (r *Ring) Frozen() bool { return !r.mayTake() }

// workerRing is the ring as a worker sees it.
type workerRing struct{ *Ring }

// Choice implements tenure.Ring.
func (r workerRing) Choice(t ledger.Thing) int {
	return r.workers.Choice(r.self, Shard(t))
}

// schedulerRing is the ring as a scheduler sees it.
type schedulerRing struct{ *Ring }

// Choice implements scheduler.Ring.
func (r schedulerRing) Choice(id job.ID) int {
	return r.schedulers.Choice(r.self, hint.Shard([]byte(id.String())))
}

// Workers implements scheduler.Ring.
func (r schedulerRing) Workers(thing string) []string {
	var names []string
	shard := hint.Shard([]byte(thing))
	for n := range hint.Choices {
		if id := r.workers.At(shard, n); id != "" {
			names = append(names, "w-"+id)
		}
	}
	return names
}
