package member

import (
	"crier/job"
	"crier/scheduler"
	"crier/scheduler/apta/hint"
	"crier/scheduler/apta/link"
	"crier/state/ledger"
	"crier/worker/tenure"
)

// Ring is what a process believes about the other members at one moment. But for what
// Lapsed knows it does not change.
type Ring struct {
	self       string
	frozen     bool
	workers    *hint.Table
	schedulers *hint.Table
	lapsed     func(id string, incarnation uint32) bool
}

// Snapshot is what a Ring is made of.
type Snapshot struct {
	Self   string
	Frozen bool
	View   *link.View
	// Lapsed reports whether an incarnation of a member is over, as far as is known when it
	// is asked.
	Lapsed func(id string, incarnation uint32) bool
}

// NewRing computes the tables of who should have what.
func NewRing(s Snapshot) *Ring {
	return &Ring{self: s.Self, frozen: s.Frozen, lapsed: s.Lapsed,
		workers: hint.New(s.View.Takers(link.Worker)), schedulers: hint.New(s.View.Takers(link.Scheduler))}
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

// Frozen reports whether nothing new may be taken.
func (r *Ring) Frozen() bool { return r.frozen }

// workerRing is the ring as a worker sees it.
type workerRing struct{ *Ring }

// Choice implements tenure.Ring.
func (r workerRing) Choice(t ledger.Thing) int { return r.workers.Choice(r.self, Shard(t)) }

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
