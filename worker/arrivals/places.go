package arrivals

import (
	"cmp"
	"maps"
	"slices"
	"sync"

	"crier/internal/idset"
	"crier/job"
	"crier/presence"
)

// Planes is what Places writes: who is at which incarnation, one for each recipient.
type Planes interface {
	// Join makes an incarnation the place of these recipients; a later join wins.
	Join(inc job.Incarnation, who *idset.Set) error
	// Leave takes away those who are still at that incarnation; nil: everybody there.
	Leave(inc job.Incarnation, who *idset.Set)
	// Over takes everybody at an incarnation, and at older ones of its gateway, away for
	// good.
	Over(inc job.Incarnation)
	// Split deals keep, which it does not change, to incarnations. All sets are the
	// caller's.
	Split(keep *idset.Set) (targets []presence.Target, offline *idset.Set)
}

// maxElsewhere is how many other incarnations are remembered of a recipient; the one
// that lost it first is forgotten first.
const maxElsewhere = 8

// Places writes the planes and remembers, of those with sockets at more than one
// incarnation, where else they are: the newest join is their place, and when they leave
// it they are at the newest of the others at once, so that nobody is offline who has a
// socket (rule 23). It needs some 100 bytes for each of them and nothing for others.
// Safe for concurrent use.
type Places struct {
	mu     sync.Mutex
	planes Planes
	people map[job.Range]map[uint32][]job.Incarnation // where else, the newest last
	seen   map[job.Incarnation]bool                   // joined, and not over
	floor  map[string]uint64                          // per gateway the first start that is not over
}

// NewPlaces makes an empty one over planes that nobody else writes.
func NewPlaces(planes Planes) *Places {
	return &Places{planes: planes, people: map[job.Range]map[uint32][]job.Incarnation{}, seen: map[job.Incarnation]bool{}, floor: map[string]uint64{}}
}

// Lost is who of a range is at one incarnation and has sockets at another one.
type Lost struct {
	At, Now job.Incarnation
	Who     *idset.Set
}

// Moved is who is somewhere else now than before.
type Moved struct {
	Lost []Lost       // have come elsewhere
	Back []*idset.Set // are where they were before
}

// Join makes an incarnation the place of these recipients. An older incarnation of the
// gateway is over then.
func (p *Places) Join(inc job.Incarnation, who *idset.Set) (m Moved, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if uint64(inc.Start) < p.floor[inc.Gateway] {
		return m, nil
	}
	m.Back = p.overLocked(inc.Gateway, uint64(inc.Start))
	targets, offline := p.planes.Split(who)
	offline.Release()
	if err := p.planes.Join(inc, who); err != nil {
		return m, err
	}
	p.seen[inc] = true
	p.dropLocked(inc, who)
	for _, t := range targets {
		if t.Inc == inc {
			continue
		}
		for id := range t.Set.All() {
			p.addLocked(who.Range, id, t.Inc)
		}
		m.Lost = append(m.Lost, Lost{t.Inc, inc, t.Set})
	}
	return m, nil
}

// Leave takes recipients away from an incarnation. Like the methods below it gives those
// who are where they were before.
func (p *Places) Leave(inc job.Incarnation, who *idset.Set) []*idset.Set {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.leaveLocked(inc, who)
}

// Keep takes all of a range away from an incarnation but these.
func (p *Places) Keep(inc job.Incarnation, who *idset.Set) []*idset.Set {
	all := idset.New(who.Range)
	defer all.Release()
	all.AddSpan(who.Range.Span())
	all.AndNot(who)
	return p.Leave(inc, all)
}

// Gone takes everybody away from an incarnation that is silent; it may come back.
func (p *Places) Gone(inc job.Incarnation) []*idset.Set {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.goneLocked(inc)
}

// Over takes everybody away from an incarnation and the older ones of its gateway, for
// good.
func (p *Places) Over(inc job.Incarnation) []*idset.Set {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.overLocked(inc.Gateway, uint64(inc.Start)+1)
}

// IsOver reports whether an incarnation is over.
func (p *Places) IsOver(inc job.Incarnation) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return uint64(inc.Start) < p.floor[inc.Gateway]
}

// Forget drops what is known of a range, whose home is another now.
func (p *Places) Forget(r job.Range) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.people, r)
}

// Lost lists who has sockets besides where they are.
func (p *Places) Lost() (all []Lost) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range slices.Sorted(maps.Keys(p.people)) {
		people := p.people[r]
		targets, offline := p.planes.Split(among(r, people, nil))
		offline.Release()
		for _, t := range targets {
			at := parts{}
			for id := range t.Set.All() {
				for _, inc := range people[id] {
					at.add(inc, r, id)
				}
			}
			for _, x := range at {
				all = append(all, Lost{x.Inc, t.Inc, x.Set})
			}
		}
	}
	return all
}

// parts deals recipients to incarnations, in the order in which these come.
type parts []presence.Target

func (p *parts) add(inc job.Incarnation, r job.Range, id uint32) {
	i := slices.IndexFunc(*p, func(t presence.Target) bool { return t.Inc == inc })
	if i < 0 {
		i = len(*p)
		*p = append(*p, presence.Target{Inc: inc, Set: idset.New(r)})
	}
	(*p)[i].Set.Add(id)
}

// among is who of a set, or all if it is nil, is at more than one incarnation.
func among(r job.Range, people map[uint32][]job.Incarnation, who *idset.Set) *idset.Set {
	in := idset.New(r)
	if who != nil && who.Card() < len(people) {
		for id := range who.All() {
			if people[id] != nil {
				in.Add(id)
			}
		}
		return in
	}
	for id := range people {
		if who == nil || who.Has(id) {
			in.Add(id)
		}
	}
	return in
}

func (p *Places) addLocked(r job.Range, id uint32, inc job.Incarnation) {
	people := p.people[r]
	if people == nil {
		people = map[uint32][]job.Incarnation{}
		p.people[r] = people
	}
	others := append(people[id], inc)
	people[id] = slices.Clone(others[max(0, len(others)-maxElsewhere):])
}

// dropLocked forgets that recipients are at an incarnation besides where they are.
func (p *Places) dropLocked(inc job.Incarnation, who *idset.Set) {
	people := p.people[who.Range]
	if len(people) == 0 {
		return
	}
	in := among(who.Range, people, who)
	defer in.Release()
	for id := range in.All() {
		drop(people, id, inc)
	}
	p.trimLocked(who.Range)
}

func drop(people map[uint32][]job.Incarnation, id uint32, inc job.Incarnation) {
	set(people, id, slices.DeleteFunc(people[id], func(o job.Incarnation) bool { return o == inc }))
}

func set(people map[uint32][]job.Incarnation, id uint32, others []job.Incarnation) {
	if len(others) == 0 {
		delete(people, id)
		return
	}
	people[id] = others
}

func (p *Places) trimLocked(r job.Range) {
	if len(p.people[r]) == 0 {
		delete(p.people, r)
	}
}

// leaveLocked takes recipients away from an incarnation: those whose place it is are at
// the newest of the others from now on.
func (p *Places) leaveLocked(inc job.Incarnation, who *idset.Set) []*idset.Set {
	p.dropLocked(inc, who)
	back := p.fallLocked(inc, who.Range, who)
	p.planes.Leave(inc, who)
	return back
}

// fallLocked moves those of a range whose place is an incarnation to the newest of
// their others. No incarnation among these is over, so that no join fails.
func (p *Places) fallLocked(inc job.Incarnation, r job.Range, who *idset.Set) (back []*idset.Set) {
	people := p.people[r]
	if len(people) == 0 {
		return nil
	}
	in := among(r, people, who)
	defer in.Release()
	targets, offline := p.planes.Split(in)
	offline.Release()
	to := parts{}
	for _, t := range targets {
		if t.Inc == inc {
			for id := range t.Set.All() {
				others := people[id]
				last := len(others) - 1
				to.add(others[last], r, id)
				set(people, id, others[:last])
			}
		}
		t.Set.Release()
	}
	for _, x := range to {
		_ = p.planes.Join(x.Inc, x.Set) // it has an ordinal already
		back = append(back, x.Set)
	}
	p.trimLocked(r)
	return back
}

func (p *Places) goneLocked(inc job.Incarnation) (back []*idset.Set) {
	for _, r := range slices.Sorted(maps.Keys(p.people)) {
		people := p.people[r]
		for id := range people {
			drop(people, id, inc)
		}
		back = append(back, p.fallLocked(inc, r, nil)...)
		p.trimLocked(r)
	}
	p.planes.Leave(inc, nil)
	return back
}

// overLocked ends all incarnations of a gateway below a start.
func (p *Places) overLocked(gateway string, start uint64) (back []*idset.Set) {
	if start <= p.floor[gateway] {
		return nil
	}
	p.floor[gateway] = start
	for _, inc := range slices.SortedFunc(maps.Keys(p.seen), func(a, b job.Incarnation) int { return cmp.Compare(a.Start, b.Start) }) {
		if inc.Gateway == gateway && uint64(inc.Start) < start {
			back = append(back, p.goneLocked(inc)...)
			delete(p.seen, inc)
		}
	}
	if start > 0 {
		p.planes.Over(job.Incarnation{Gateway: gateway, Start: uint32(start - 1)})
	}
	return back
}
