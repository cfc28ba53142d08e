package oracle

import "crier/job"

// crowded checks that what is dropped while parked was too much: because of a newer message that
// is parked in its place, or of as many as the cap that were parked after it.
func (f *Fold) crowded(seq uint64, c Cell, reason job.Reason) {
	newer, later := false, 0
	for id := range f.order {
		p := f.places[Cell{id, c.Who}]
		if id == c.Job || p == nil || p.Outcome != job.Parked {
			continue
		}
		newer = newer || f.Replaces != nil && f.Replaces(id, c.Job)
		if p.Since >= f.places[c].Since {
			later++
		}
	}
	switch {
	case reason == job.ReasonCollapsed && !newer:
		f.Wrong("crowd", "record %d: %d of %s is dropped for a newer message, and none is parked", seq, c.Who, c.Job)
	case reason == job.ReasonParkCap && (f.Most == 0 || later < f.Most):
		f.Wrong("crowd", "record %d: %d of %s is dropped for the cap of %d, and %d were parked later", seq, c.Who, c.Job, f.Most, later)
	}
}
