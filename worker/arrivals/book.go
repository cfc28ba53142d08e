package arrivals

import (
	"crier/job"
	"crier/presence/handoff"
)

// Book is all that gateways told a home.
type Book struct {
	Log    *Log
	Places *Places
	Hellos *Hellos
}

// NewBook makes an empty one over planes that nobody else writes.
func NewBook(planes Planes) *Book {
	return &Book{NewLog(), NewPlaces(planes), NewHellos()}
}

// TakeIn takes in an announcement to a range of this home, unless what came before is
// missing. It gives those who were elsewhere until now.
func (b *Book) TakeIn(ann *handoff.Announce) (lost []Lost, got handoff.Reception, err error) {
	if b.Places.IsOver(ann.Inc) {
		return nil, handoff.NotHome, nil
	}
	got, err = b.Log.Take(ann, func(everything bool) (err error) {
		if lost, err = b.Places.Join(ann.Inc, ann.Join); err != nil {
			return err
		}
		if everything {
			b.Places.Keep(ann.Inc, ann.Join)
		}
		b.Places.Leave(ann.Inc, ann.Leave)
		b.Hellos.Take(ann)
		return nil
	})
	return lost, got, err
}

// Forget drops what is known of a range, whose home is another now.
func (b *Book) Forget(r job.Range) {
	b.Log.Forget(r)
	b.Hellos.Forget(r)
	b.Places.Forget(r)
}

// Over takes those offline for good who are at an incarnation that is over.
func (b *Book) Over(inc job.Incarnation) {
	b.Places.Over(inc)
	b.Hellos.Over(inc)
}
