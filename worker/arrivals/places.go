package arrivals

import (
	"slices"
	"sync"

	"crier/internal/idset"
	"crier/job"
	"crier/presence"
)

// Presence is who is shown where: one place for each recipient, the newest.
type Presence interface {
	// Join makes an incarnation the place of these recipients; a later join wins.
	Join(inc job.Incarnation, who *idset.Set) error
	// Leave takes away those who are still at that incarnation; nil: everybody there.
	Leave(inc job.Incarnation, who *idset.Set)
	// Split deals keep, which it does not change, to incarnations, disjoint; the
	// rest is offline. All sets are the caller's.
	Split(keep *idset.Set) (targets []presence.Target, offline *idset.Set)
}

// Places remembers where else those are who are at several gateways: two devices, or one
// that moved while the end of its old connection was not noticed, or was told before the
// new one. Whoever leaves the place where presence shows them is shown at the next, so that
// nobody who holds a connection is taken for offline (rule 23). It needs memory for
// those only who are at several. Safe for concurrent use.
type Places struct {
	p  Presence
	mu struct {
		sync.Mutex
		also map[job.Recipient][]job.Incarnation // where presence does not show them, the newest last
	}
}

// NewPlaces makes one in front of a presence, which only it changes.
func NewPlaces(p Presence) *Places {
	x := &Places{p: p}
	x.mu.also = map[job.Recipient][]job.Incarnation{}
	return x
}

// Join shows recipients at an incarnation.
func (x *Places) Join(inc job.Incarnation, who *idset.Set) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	was, offline := x.p.Split(who)
	offline.Release()
	if err := x.p.Join(inc, who); err != nil {
		return err
	}
	for _, t := range was {
		for id := range t.Set.All() {
			if r := job.Recipient(id); t.Inc.Gateway != inc.Gateway {
				x.mu.also[r] = append(without(x.mu.also[r], t.Inc.Gateway), t.Inc)
			}
		}
		t.Set.Release()
	}
	x.drop(who, inc.Gateway, nil)
	return nil
}

// Leave takes recipients away from an incarnation, with a nil set all that are there, and
// gives those who are shown elsewhere now.
func (x *Places) Leave(inc job.Incarnation, who *idset.Set) (back []*idset.Set) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.p.Leave(inc, who)
	return x.show(x.drop(who, inc.Gateway, &inc))
}

// Begin says that an incarnation is there, and the older ones of its gateway are over. It
// gives who is shown elsewhere now.
func (x *Places) Begin(inc job.Incarnation) (back []*idset.Set, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := x.p.Join(inc, idset.New(0)); err != nil {
		return nil, err
	}
	var all []job.Recipient
	for r, also := range x.mu.also {
		all = append(all, r)
		x.keep(r, slices.DeleteFunc(also, func(o job.Incarnation) bool { return o.Gateway == inc.Gateway && o.Start < inc.Start }))
	}
	return x.show(all), nil
}

// Forget drops what is known of a range, whose home is another now.
func (x *Places) Forget(r job.Range) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for id := range x.mu.also {
		if id.Range() == r {
			delete(x.mu.also, id)
		}
	}
}

// drop forgets a gateway, or one incarnation of it, as another place of recipients, with
// a nil set of all, and gives those of them who have other places.
func (x *Places) drop(who *idset.Set, gateway string, inc *job.Incarnation) (left []job.Recipient) {
	one := func(r job.Recipient) {
		also, ok := x.mu.also[r]
		if !ok {
			return
		}
		left = append(left, r)
		if inc == nil {
			x.keep(r, without(also, gateway))
		} else {
			x.keep(r, slices.DeleteFunc(also, func(o job.Incarnation) bool { return o == *inc }))
		}
	}
	if who != nil && who.Card() < len(x.mu.also) {
		for id := range who.All() {
			one(job.Recipient(id))
		}
		return left
	}
	for r := range x.mu.also {
		if who == nil || who.Has(uint32(r)) {
			one(r)
		}
	}
	return left
}

func (x *Places) keep(r job.Recipient, also []job.Incarnation) {
	if len(also) == 0 {
		delete(x.mu.also, r)
		return
	}
	x.mu.also[r] = also
}

func without(also []job.Incarnation, gateway string) []job.Incarnation {
	return slices.DeleteFunc(also, func(o job.Incarnation) bool { return o.Gateway == gateway })
}

// show shows those of some recipients who are offline at their newest other place.
func (x *Places) show(some []job.Recipient) (back []*idset.Set) {
	slices.Sort(some)
	for len(some) > 0 {
		r := some[0].Range()
		n := 0
		asked := idset.New(r)
		for n < len(some) && some[n].Range() == r {
			asked.Add(uint32(some[n]))
			n++
		}
		some = some[n:]
		targets, offline := x.p.Split(asked)
		asked.Release()
		for _, t := range targets {
			t.Set.Release()
		}
		shown := idset.New(r)
		for id := range offline.All() {
			also := x.mu.also[job.Recipient(id)]
			if len(also) == 0 {
				continue
			}
			one := idset.Of(id)
			if x.p.Join(also[len(also)-1], one) == nil {
				shown.Add(id)
				x.keep(job.Recipient(id), also[:len(also)-1])
			}
			one.Release()
		}
		offline.Release()
		if !shown.IsEmpty() {
			back = append(back, shown)
		}
	}
	return back
}
