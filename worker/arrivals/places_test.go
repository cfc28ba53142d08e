package arrivals

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"crier/internal/idset"
	"crier/job"
	"crier/presence"
)

// told is the oracle: who was said to be at each incarnation, one by one.
type told map[job.Incarnation]map[uint32]bool

func (o told) join(inc job.Incarnation, ids []uint32) {
	if o.dead(inc) {
		return
	}
	for other := range o {
		if other.Gateway == inc.Gateway && other.Start < inc.Start {
			delete(o, other)
		}
	}
	if o[inc] == nil {
		o[inc] = map[uint32]bool{}
	}
	for _, id := range ids {
		o[inc][id] = true
	}
}

// dead reports whether a newer incarnation of the gateway was there.
func (o told) dead(inc job.Incarnation) bool {
	for other := range o {
		if other.Gateway == inc.Gateway && other.Start > inc.Start {
			return true
		}
	}
	return false
}

func places(t interface{ Fatal(...any) }) (*Places, *presence.Planes) {
	planes, err := presence.Open(presence.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return NewPlaces(planes), planes
}

// TestNobodyIsOfflineWhoHasASocket lets recipients' devices come to and leave gateways,
// gateways start again, fall silent and end, in any order.
func TestNobodyIsOfflineWhoHasASocket(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, planes := places(t)
		defer planes.Close()
		o := told{}
		people := rapid.SliceOfNDistinct(rapid.Uint32Range(0, 200_000), 1, 12, rapid.ID[uint32]).Draw(t, "people")
		some := rapid.SliceOfN(rapid.SampledFrom(people), 0, 6)
		inc := rapid.Custom(func(t *rapid.T) job.Incarnation {
			return job.Incarnation{Gateway: fmt.Sprint("g", rapid.IntRange(0, 4).Draw(t, "gateway")), Start: rapid.Uint32Range(1, 3).Draw(t, "start")}
		})
		ended := map[string]uint32{} // the last start that was called over
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			at, ids := inc.Draw(t, "at"), some.Draw(t, "ids")
			if at.Start <= ended[at.Gateway] {
				_, err := p.Join(at, idset.Of(ids...)) // it changes nothing
				if err != nil || !p.IsOver(at) {
					t.Fatalf("a late join: %v, over %v", err, p.IsOver(at))
				}
				continue
			}
			switch rapid.SampledFrom([]string{"join", "join", "join", "leave", "leave", "keep", "gone", "over"}).Draw(t, "what") {
			case "join":
				if _, err := p.Join(at, idset.Of(ids...)); err != nil {
					t.Fatal(err)
				}
				o.join(at, ids)
			case "leave":
				p.Leave(at, idset.Of(ids...))
				for _, id := range ids {
					delete(o[at], id)
				}
			case "keep": // it told everything anew
				if _, err := p.Join(at, idset.Of(ids...)); err != nil {
					t.Fatal(err)
				}
				p.Keep(at, idset.Of(ids...))
				if !o.dead(at) {
					delete(o, at)
					o.join(at, ids)
				}
			case "gone":
				p.Gone(at)
				clear(o[at])
			case "over":
				if rapid.IntRange(0, 3).Draw(t, "really") > 0 {
					continue
				}
				p.Over(at)
				ended[at.Gateway] = at.Start
				for other := range o {
					if other.Gateway == at.Gateway && other.Start <= at.Start {
						delete(o, other)
					}
				}
			}
			check(t, p, planes, o, people)
		}
	})
}

// check asks for everybody: shown at some place where a socket is, and the other places
// are those that are to be redirected.
func check(t *rapid.T, p *Places, planes *presence.Planes, o told, people []uint32) {
	t.Helper()
	lost := map[uint32]map[job.Incarnation]bool{}
	for _, l := range p.Lost() {
		for id := range l.Who.All() {
			if at, _ := planes.Lookup(job.Recipient(id)); at != l.Now || lost[id][l.At] {
				t.Fatalf("%d is lost from %s to %s and shown at %s", id, l.At, l.Now, at)
			}
			if lost[id] == nil {
				lost[id] = map[job.Incarnation]bool{}
			}
			lost[id][l.At] = true
		}
	}
	for _, id := range people {
		sockets := map[job.Incarnation]bool{}
		for inc, who := range o {
			if who[id] {
				sockets[inc] = true
			}
		}
		at, online := planes.Lookup(job.Recipient(id))
		if online != (len(sockets) > 0) || online && !sockets[at] {
			t.Fatalf("%d is shown at %s (%v) and has sockets at %v", id, at, online, sockets)
		}
		delete(sockets, at)
		if fmt.Sprint(lost[id]) != fmt.Sprint(sockets) && len(lost[id])+len(sockets) > 0 {
			t.Fatalf("%d has sockets besides at %v, known are %v", id, sockets, lost[id])
		}
	}
}

func TestTheNewestOtherPlaceIsTakenFirst(t *testing.T) {
	p, planes := places(t)
	defer planes.Close()
	g := func(n int) job.Incarnation { return job.Incarnation{Gateway: fmt.Sprint("g", n), Start: 1} }
	for n := range 12 {
		m, err := p.Join(g(n), idset.Of(7))
		if err != nil {
			t.Fatal(err)
		}
		lost := m.Lost
		if n > 0 && (len(lost) != 1 || lost[0].At != g(n-1) || lost[0].Now != g(n) || !lost[0].Who.Has(7)) {
			t.Fatalf("the join at %d displaces %v", n, lost)
		}
	}
	for n := 11; n >= 12-1-maxElsewhere; n-- {
		if at, _ := planes.Lookup(7); at != g(n) {
			t.Fatalf("shown at %s, want %s", at, g(n))
		}
		back := p.Leave(g(n), idset.Of(7))
		if last := n == 12-1-maxElsewhere; last != (len(back) == 0) || !last && !back[0].Equal(idset.Of(7)) {
			t.Fatalf("leaving %s gives %v", g(n), back)
		}
	}
	if at, online := planes.Lookup(7); online {
		t.Fatalf("shown at %s, beyond what is remembered", at)
	}
	if len(p.people) != 0 {
		t.Fatalf("kept: %v", p.people)
	}
}
