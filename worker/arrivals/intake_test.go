package arrivals

import (
	"slices"
	"testing"
	"time"

	"crier/internal/idset"
	"crier/job"
	"crier/presence"
	"crier/presence/handoff"
)

// A gateway that is silent is heard again at once: its recipients are offline when it is
// found silent, not some time later, and who it tells anew is online and stays so.
func TestASilentGatewayIsHeardAgain(t *testing.T) {
	planes, err := presence.Open(presence.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer planes.Close()
	x, now := NewIntake(planes), time.Unix(1e9, 0)
	inc, mine := job.Incarnation{Gateway: "g", Start: 1}, func(job.Range) bool { return true }
	tell := func(round uint64, ids ...uint32) {
		t.Helper()
		ann := handoff.Announce{Inc: inc, Round: round, Seq: 1, Join: idset.New(0), Leave: idset.New(0)}
		for _, id := range ids {
			ann.Join.Add(id)
			ann.Hellos = append(ann.Hellos, handoff.Hello{Recipient: job.Recipient(id), Client: uint64(id), Speaks: true})
		}
		if got, _, err := x.TakeIn(&ann, now, mine); err != nil || got != handoff.TakenIn {
			t.Fatalf("told %v in round %d: %v, %v", ids, round, got, err)
		}
	}
	online := func() (ids []uint32) {
		for id := range uint32(10) {
			if _, ok := planes.Lookup(job.Recipient(id)); ok {
				ids = append(ids, id)
			}
		}
		return ids
	}
	tell(1, 3, 4)
	now = now.Add(goneAfter)
	gone, _ := x.Silent(now, false)
	if !slices.Equal(gone, []job.Incarnation{inc}) || len(online()) != 0 {
		t.Fatalf("%v are silent and %v online, want %s and nobody", gone, online(), inc)
	}
	b := handoff.Beat{Inc: inc, Ranges: []handoff.Announced{{Round: 1, Seq: 1}}}
	if anew, first := x.Compare(&b, now, mine); !first || !slices.Equal(anew, []job.Range{0}) {
		t.Fatalf("its first beat is answered with %v, %v", anew, first)
	}
	tell(2, 4, 5)
	b.Ranges[0].Round = 2
	if anew, _ := x.Compare(&b, now, mine); len(anew) != 0 {
		t.Fatalf("it is asked again for %v", anew)
	}
	if gone, _ = x.Silent(now, false); len(gone) != 0 || !slices.Equal(online(), []uint32{4, 5}) || len(x.Hellos.kept[0]) != 2 {
		t.Fatalf("%v are silent, %v online and %v kept; want 4 and 5", gone, online(), x.Hellos.kept)
	}
}
