package sim

import (
	"crier/internal/idset"
	"crier/job"
	"crier/presence"
)

// whereabouts is a home's presence: the newest join of a recipient wins, and an
// incarnation that is over stays over.
type whereabouts struct {
	at     map[uint32]job.Incarnation
	newest map[string]uint32
	loose  bool // a planted bug: a leave takes whoever is elsewhere, too
}

func newWhereabouts(loose bool) *whereabouts {
	return &whereabouts{at: map[uint32]job.Incarnation{}, newest: map[string]uint32{}, loose: loose}
}

// Join implements arrivals.Planes.
func (x *whereabouts) Join(inc job.Incarnation, who *idset.Set) error {
	was := x.newest[inc.Gateway]
	if inc.Start < was {
		return nil
	}
	if x.newest[inc.Gateway] = inc.Start; inc.Start > was {
		for id, at := range x.at {
			if at.Gateway == inc.Gateway {
				delete(x.at, id)
			}
		}
	}
	for id := range who.All() {
		x.at[id] = inc
	}
	return nil
}

// Leave implements arrivals.Planes.
func (x *whereabouts) Leave(inc job.Incarnation, who *idset.Set) {
	if who == nil {
		for id, at := range x.at {
			if at == inc {
				delete(x.at, id)
			}
		}
		return
	}
	for id, at := range x.at {
		if (at == inc || x.loose) && who.Has(id) {
			delete(x.at, id)
		}
	}
}

func (x *whereabouts) forget(r job.Range) {
	for id := range x.at {
		if job.Recipient(id).Range() == r {
			delete(x.at, id)
		}
	}
}

// Over implements arrivals.Planes.
func (x *whereabouts) Over(inc job.Incarnation) {
	for id, at := range x.at {
		if at.Gateway == inc.Gateway && at.Start <= inc.Start {
			delete(x.at, id)
		}
	}
	x.newest[inc.Gateway] = max(x.newest[inc.Gateway], inc.Start+1)
}

// Split implements arrivals.Planes.
func (x *whereabouts) Split(keep *idset.Set) (targets []presence.Target, offline *idset.Set) {
	offline = keep.Clone()
	for id := range keep.All() {
		inc, ok := x.at[id]
		if !ok {
			continue
		}
		offline.Remove(id)
		n := 0
		for n < len(targets) && targets[n].Inc != inc {
			n++
		}
		if n == len(targets) {
			targets = append(targets, presence.Target{Inc: inc, Set: idset.New(keep.Range)})
		}
		targets[n].Set.Add(id)
	}
	return targets, offline
}

func (x *whereabouts) online(who *idset.Set) *idset.Set {
	on := idset.New(who.Range)
	for id := range who.All() {
		if _, ok := x.at[id]; ok {
			on.Add(id)
		}
	}
	return on
}
