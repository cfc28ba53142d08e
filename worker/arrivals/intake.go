package arrivals

import (
	"time"

	"crier/internal/idset"
	"crier/job"
	"crier/presence/handoff"
)

// Intake is where a home takes in what gateways tell it: in the order of their
// announcements, into presence and among the hellos.
type Intake struct {
	*Log
	Hellos *Hellos
	Places *Places
}

// NewIntake makes one that knows nobody.
func NewIntake(p Planes) *Intake { return &Intake{NewLog(), NewHellos(), NewPlaces(p)} }

// TakeIn makes an announcement known, unless the ones before are lacking, or the range is
// not mine, or the incarnation is over. It gives those who are somewhere else now.
func (x *Intake) TakeIn(ann *handoff.Announce, now time.Time, mine func(job.Range) bool) (got handoff.Reception, m Moved, err error) {
	if x.Places.IsOver(ann.Inc) {
		return handoff.NotHome, m, nil
	}
	got, err = x.Take(ann, now, mine, func(everything bool) (err error) {
		if m, err = x.Places.Join(ann.Inc, ann.Join); err != nil {
			return err
		}
		if everything {
			m.Back = append(m.Back, x.Places.Keep(ann.Inc, ann.Join)...)
		}
		m.Back = append(m.Back, x.Places.Leave(ann.Inc, ann.Leave)...)
		x.Hellos.Take(ann)
		return nil
	})
	return got, m, err
}

// Over takes those offline for good who are at an incarnation that is over, and gives
// those who are shown at another gateway now.
func (x *Intake) Over(inc job.Incarnation) (back []*idset.Set) {
	x.Hellos.Over(inc)
	return x.Places.Over(inc)
}

// Leave drops what is known of a range, whose home is another now, and calls also, which
// drops the rest: no announcement is taken in between.
func (x *Intake) Leave(r job.Range, also func()) {
	x.Forget(r, func() {
		x.Hellos.Forget(r)
		x.Places.Forget(r)
		also()
	})
}

// Silent takes everybody for offline who is at an incarnation that was not heard for too
// long. It gives these, and those who are shown at another gateway now. What a gateway
// tells that is heard again counts: none of it is taken in before all of the old is gone.
func (x *Intake) Silent(now time.Time, paused bool) (gone []job.Incarnation, back []*idset.Set) {
	gone = x.Log.Silent(now, paused, func(inc job.Incarnation) {
		x.Hellos.Gone(inc)
		back = append(back, x.Places.Gone(inc)...)
	})
	return gone, back
}
