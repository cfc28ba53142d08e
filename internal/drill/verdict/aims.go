package verdict

import (
	"time"

	"crier/api"
	"crier/job"
)

// One in so many recipients of a drill is in the segment that all jobs exclude, is
// suppressed, or is in the segment that some jobs aim at, where half of them are excluded;
// and so many percent are held out.
const (
	outOf        = 16
	suppressedOf = 16
	someOf       = 8
	HeldOut      = 10
)

// Aims is who may be shown what in a drill, by sets that it makes.
type Aims struct {
	Cap                   int // of an account's messages in a day; 0: none
	Out, Suppressed, Some []job.Recipient
	Barred                map[job.Recipient]bool // who is out, or suppressed, and whoever is added
	Groups                []*Group
	some                  map[job.Recipient]bool
	began                 time.Time // the drill
}

// NewAims makes the sets of people for a drill that begins now.
func NewAims(most int, people []job.Recipient, now time.Time) *Aims {
	a := &Aims{Cap: most, Barred: map[job.Recipient]bool{}, some: map[job.Recipient]bool{}, began: now}
	for i, id := range people {
		switch {
		case i%outOf == 1:
			a.Out, a.Barred[id] = append(a.Out, id), true
		case i%suppressedOf == 2:
			a.Suppressed, a.Barred[id] = append(a.Suppressed, id), true
		}
		if i%someOf == 1 {
			a.Some, a.some[id] = append(a.Some, id), true
		}
	}
	return a
}

// capped is the jobs that count for the cap.
const capped = "capped"

// Add notes of a job that was taken in whom it is for.
func (a *Aims) Add(id job.ID, req api.SubmitJob) {
	aim := Aim{Job: id, Barred: a.Barred}
	if len(req.IncludeSegments) > 0 {
		aim.Only = a.some
	}
	name, most := id.String(), 1
	switch {
	case req.SendOnce != nil:
		name = req.SendOnce.Key
	case req.Class == job.Normal && a.Cap > 0:
		name, most = capped, a.Cap
	}
	g := a.Group(name)
	if g == nil {
		g = &Group{Name: name, Least: most, Most: most}
		a.Groups = append(a.Groups, g)
	}
	g.Jobs = append(g.Jobs, aim)
}

// Group is the group with a name, which is its only job's id, or what is sent once; or nil.
func (a *Aims) Group(name string) *Group {
	for _, g := range a.Groups {
		if g.Name == name {
			return g
		}
	}
	return nil
}

// Over ends the drill now: on two days a recipient may get twice as many.
func (a *Aims) Over(now time.Time) {
	if g := a.Group(capped); g != nil && now.UTC().YearDay() != a.began.UTC().YearDay() {
		g.Most *= 2
	}
}
