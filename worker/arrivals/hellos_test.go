package arrivals

import (
	"fmt"
	"testing"

	"crier/internal/idset"
	"crier/job"
	"crier/presence/handoff"
	"crier/state/parked"
)

func TestHellosAreThoseOfLiveConnections(t *testing.T) {
	a, b := job.Incarnation{Gateway: "a", Start: 1}, job.Incarnation{Gateway: "b", Start: 4}
	h := NewHellos()
	seq := map[job.Incarnation]uint64{}
	take := func(inc job.Incarnation, leave []uint32, said ...handoff.Hello) {
		seq[inc]++
		ann := handoff.Announce{Inc: inc, Seq: seq[inc], Join: idset.New(0), Leave: idset.Of(leave...), Hellos: said}
		for _, x := range said {
			ann.Join.Add(uint32(x.Recipient))
		}
		h.Take(&ann)
	}
	says := func(who job.Recipient, client uint64) handoff.Hello {
		return handoff.Hello{Recipient: who, Client: client, Speaks: true}
	}
	expect := func(what string, want ...string) {
		t.Helper()
		got := []string{}
		for _, l := range h.Of(idset.Of(1, 2, 3), []parked.Doubt{{Set: idset.Of(1, 2, 9)}}) {
			got = append(got, fmt.Sprintf("%d/%d at %s", l.Recipient, l.Client, l.Inc))
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("%s: %v, want %v", what, got, want)
		}
	}
	take(a, nil, says(1, 10), says(1, 11), says(2, 20), says(3, 30), handoff.Hello{Recipient: 2, Client: 21})
	expect("those in doubt who speak", "1/10 at a.1", "1/11 at a.1", "2/20 at a.1")
	take(a, []uint32{2})
	expect("one has left", "1/10 at a.1", "1/11 at a.1")
	take(a, nil, says(1, 11))
	expect("a client is there anew", "1/10 at a.1", "1/11 at a.1")
	take(b, nil, says(1, 11))
	take(a, []uint32{1})
	expect("moved", "1/11 at b.4")
	seq[b] = 0
	take(b, nil, says(2, 22))
	expect("told anew", "2/22 at b.4")
	take(job.Incarnation{Gateway: "b", Start: 5}, nil)
	take(b, nil, says(1, 12))
	expect("the incarnation is over")
}
