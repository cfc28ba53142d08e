package arrivals

import (
	"testing"

	"crier/internal/idset"
	"crier/job"
	"crier/presence"
)

// shown is a presence that shows each recipient at one place.
type shown map[uint32]job.Incarnation

func (s shown) Join(inc job.Incarnation, who *idset.Set) error {
	for id := range who.All() {
		s[id] = inc
	}
	for id, at := range s {
		if at.Gateway == inc.Gateway && at.Start < inc.Start {
			delete(s, id)
		}
	}
	return nil
}

func (s shown) Leave(inc job.Incarnation, who *idset.Set) {
	for id, at := range s {
		if at == inc && (who == nil || who.Has(id)) {
			delete(s, id)
		}
	}
}

func (s shown) Split(keep *idset.Set) (targets []presence.Target, offline *idset.Set) {
	offline = idset.New(keep.Range)
	for id := range keep.All() {
		if at, ok := s[id]; ok {
			targets = append(targets, presence.Target{Inc: at, Set: idset.Of(id)})
		} else {
			offline.Add(id)
		}
	}
	return targets, offline
}

func TestWhoLeavesOnePlaceIsShownAtTheOther(t *testing.T) {
	a, b, b2, c := job.Incarnation{Gateway: "a", Start: 1}, job.Incarnation{Gateway: "b", Start: 1}, job.Incarnation{Gateway: "b", Start: 2}, job.Incarnation{Gateway: "c", Start: 1}
	none := job.Incarnation{}
	one := func() *idset.Set { return idset.Of(7) }
	for name, x := range map[string]struct {
		do   func(*Places) []*idset.Set
		want job.Incarnation
		back bool
	}{
		"two devices, the newer one leaves": {func(p *Places) []*idset.Set {
			p.Join(a, one())
			p.Join(b, one())
			return p.Leave(b, one())
		}, a, true},
		"two devices, the older one leaves": {func(p *Places) []*idset.Set {
			p.Join(a, one())
			p.Join(b, one())
			return p.Leave(a, one())
		}, b, false},
		"both leave": {func(p *Places) []*idset.Set {
			p.Join(a, one())
			p.Join(b, one())
			p.Leave(a, one())
			return p.Leave(b, one())
		}, none, false},
		"a new home hears of the old connection last": {func(p *Places) []*idset.Set {
			p.Join(b, one())
			p.Join(a, one())
			return p.Leave(a, one())
		}, b, true},
		"the newest of the others is next": {func(p *Places) []*idset.Set {
			p.Join(a, one())
			p.Join(b, one())
			p.Join(c, one())
			return p.Leave(c, one())
		}, b, true},
		"everybody leaves a silent gateway": {func(p *Places) []*idset.Set {
			p.Join(a, one())
			p.Join(b, one())
			return p.Leave(b, nil)
		}, a, true},
		"a gateway starts again": {func(p *Places) []*idset.Set {
			p.Join(a, one())
			p.Join(b, one())
			back, _ := p.Begin(b2)
			return back
		}, a, true},
		"the other place is over": {func(p *Places) []*idset.Set {
			p.Join(b, one())
			p.Join(a, one())
			p.Begin(b2)
			return p.Leave(a, one())
		}, none, false},
		"the range is another's": {func(p *Places) []*idset.Set {
			p.Join(b, one())
			p.Join(a, one())
			p.Forget(0)
			return p.Leave(a, one())
		}, none, false},
		"it comes back to the same": {func(p *Places) []*idset.Set {
			p.Join(a, one())
			p.Join(b, one())
			p.Join(a, one())
			p.Leave(b, one())
			return p.Leave(a, one())
		}, none, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := shown{}
			p := NewPlaces(s)
			back := x.do(p)
			if s[7] != x.want {
				t.Errorf("shown at %v, want %v", s[7], x.want)
			}
			if got := len(back) == 1 && back[0].Has(7); got != x.back {
				t.Errorf("told to be back: %v, want %v", got, x.back)
			}
			if len(p.mu.also) > 1 {
				t.Errorf("remembers %v", p.mu.also)
			}
		})
	}
}
