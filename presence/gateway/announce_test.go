package gateway

import (
	"slices"
	"testing"
	"time"

	"crier/job"
	"crier/presence/handoff"
)

func (g *rig) announcements() []Announce { return all[Announce](g.effects) }

func ids(e Announce) (join, leave []uint32) {
	return slices.Collect(e.Message.Join.All()), slices.Collect(e.Message.Leave.All())
}

func TestAnnouncements(t *testing.T) {
	g := newRig(t, Config{})
	g.tick(scanEvery)
	if first := all[Beat](g.effects); len(first) != 1 || first[0].Message.Inc != me || len(first[0].Message.Ranges) != 0 {
		t.Fatalf("a new incarnation makes itself known: %s", describe(g.effects))
	}

	// Joins within 5 ms go together, range by range; one who came and left is gone.
	g.connect(1, 5, 1, jobID(3))
	g.connect(2, 1<<20, 1)
	g.connect(3, 6, 1)
	g.do(Disconnected{Conn: 3})
	if g.tick(batchWithin - time.Millisecond); len(g.announcements()) != 0 {
		t.Fatal("announced before others could join")
	}
	g.tick(time.Millisecond)
	a := g.announcements()
	if len(a) != 2 || a[0].Message.Seq != 1 || a[1].Message.Range != 1 || a[1].Message.Seq != 1 {
		t.Fatalf("announced: %s", describe(g.effects))
	}
	if join, leave := ids(a[0]); !slices.Equal(join, []uint32{5}) || !slices.Equal(leave, []uint32{6}) {
		t.Fatalf("join %v leave %v", join, leave)
	}
	if h := a[0].Message.Hellos; len(h) != 1 || h[0].Recipient != 5 || !slices.Equal(h[0].Have, []job.ID{jobID(3)}) || !h[0].Speaks {
		t.Fatalf("hellos %v", h)
	}

	// Unanswered it is repeated as it was; what changes meanwhile waits for the next.
	g.do(Disconnected{Conn: 1})
	g.connect(4, 7, 1)
	g.tick(time.Second)
	again := g.announcements()
	if len(again) != 2 || string(again[0].Message.Bytes()) != string(a[0].Message.Bytes()) {
		t.Fatalf("repeated: %s", describe(g.effects))
	}
	g.do(Announced{Range: 0, Flight: a[0].Flight})
	g.do(Announced{Range: 0, Flight: a[0].Flight}) // a second answer says nothing new
	g.tick(batchWithin)
	next := g.announcements()
	if len(next) != 1 || next[0].Message.Seq != 2 {
		t.Fatalf("next: %s", describe(g.effects))
	}
	if join, leave := ids(next[0]); !slices.Equal(join, []uint32{7}) || !slices.Equal(leave, []uint32{5}) {
		t.Fatalf("join %v leave %v", join, leave)
	}
	if len(next[0].Message.Hellos) != 1 {
		t.Fatal("a hello is announced again")
	}

	// A home that lost its memory gets everything, from 1 on.
	g.connect(5, 8, 1, jobID(9))
	g.do(Announced{Range: 0, Flight: next[0].Flight, Again: true})
	g.tick(batchWithin)
	whole := g.announcements()
	if len(whole) != 1 || whole[0].Message.Round != 2 || whole[0].Message.Seq != 1 || len(whole[0].Message.Hellos) != 2 {
		t.Fatalf("everything: %s", describe(g.effects))
	}
	if join, leave := ids(whole[0]); !slices.Equal(join, []uint32{7, 8}) || len(leave) != 0 {
		t.Fatalf("everything: join %v leave %v", join, leave)
	}

	// Beats tell how far the announcements are; a home that has missed one asks for
	// everything. While that has just begun it is asked for in vain; a later one that is under
	// way is given up, and its answer then says nothing.
	g.tick(beatEvery)
	b := all[Beat](g.effects)
	if want := []handoff.Announced{{Range: 0, Round: 2, Seq: 1}, {Range: 1, Round: 1, Seq: 1}}; len(b) != 1 || !slices.Equal(b[0].Message.Ranges, want) {
		t.Fatalf("beats: %s", describe(g.effects))
	}
	g.do(Anew{Ranges: []job.Range{0, 9}})
	if g.tick(batchWithin); len(g.announcements()) != 0 {
		t.Fatalf("begun again: %s", describe(g.effects))
	}
	g.connect(6, 9, 1)
	g.do(Announced{Range: 0, Flight: whole[0].Flight})
	g.tick(batchWithin)
	second := g.announcements()
	if len(second) != 1 || second[0].Message.Round != 2 || second[0].Message.Seq != 2 {
		t.Fatalf("the second: %s", describe(g.effects))
	}
	g.do(Anew{Ranges: []job.Range{0}})
	g.do(Announced{Range: 0, Flight: second[0].Flight})
	g.tick(batchWithin)
	anew := g.announcements()
	if len(anew) != 1 || anew[0].Message.Round != 3 || anew[0].Message.Seq != 1 || len(anew[0].Message.Hellos) != 3 || anew[0].Message.Join.Card() != 3 {
		t.Fatalf("anew: %s", describe(g.effects))
	}
}

// What a client has and nobody settled is told again. It moves nobody: the recipient may
// have come elsewhere meanwhile.
func TestWhatIsNotSettledIsToldAgain(t *testing.T) {
	g := newRig(t, Config{})
	g.connect(1, 5, 1, jobID(3), jobID(4))
	g.connect(2, 6, 1)
	g.connect(3, 7, 0, jobID(4)) // gave no id
	answer := func() []Announce {
		got := g.announcements()
		for _, a := range got {
			g.do(Announced{Range: 0, Flight: a.Flight})
		}
		return got
	}
	g.tick(batchWithin)
	answer()
	g.do(Settled{handoff.Settle{Inc: me, Recipient: 5, Jobs: []job.ID{jobID(3)}}})
	for _, seconds := range []int{31, 61, 121} {
		var got []Announce
		for range seconds {
			g.tick(watchEvery)
			g.tick(batchWithin)
			got = append(got, answer()...)
		}
		if len(got) != 1 || !got[0].Message.Join.IsEmpty() || !got[0].Message.Leave.IsEmpty() {
			t.Fatalf("told again: %s", describe(g.effects))
		}
		if h := got[0].Message.Hellos; len(h) != 1 || h[0].Recipient != 5 || !slices.Equal(h[0].Have, []job.ID{jobID(4)}) {
			t.Fatalf("hellos %v", h)
		}
	}
	g.do(Settled{handoff.Settle{Inc: me, Recipient: 5, Jobs: []job.ID{jobID(4)}}})
	for range 40 {
		g.tick(watchEvery)
		g.tick(batchWithin)
		if got := answer(); len(got) > 0 {
			t.Fatalf("told although all is settled: %s", describe(g.effects))
		}
	}
}

func TestAnnouncementsAreBounded(t *testing.T) {
	g := newRig(t, Config{})
	const people = maxJoins + 10
	for i := range people {
		g.s.Step(g.now, Connected{Conn: Conn(i), Recipient: job.Recipient(i)})
	}
	seen := 0
	for range 3 {
		g.tick(batchWithin)
		for _, a := range g.announcements() {
			if n := len(a.Message.Bytes()); n > 1<<20 {
				t.Fatalf("an announcement of %d bytes", n)
			}
			seen += a.Message.Join.Card()
			g.do(Announced{Range: 0, Flight: a.Flight})
		}
	}
	if seen != people {
		t.Fatalf("%d of %d are announced", seen, people)
	}
}

func TestALateHelloIsAnnouncedAndCounts(t *testing.T) {
	g := newRig(t, Config{})
	g.do(Connected{Conn: 1, Recipient: 5}) // said nothing in time
	g.do(HandedOff{request(1, jobID(1), 5), 1})
	g.tick(batchWithin)
	for _, a := range g.announcements() {
		g.do(Announced{Range: 0, Flight: a.Flight})
	}
	g.do(Connected{Conn: 1, Recipient: 5, Client: 2, Speaks: true, Have: []job.ID{jobID(2)}})
	g.do(Connected{Conn: 1, Recipient: 5, Client: 3, Speaks: true, Have: []job.ID{jobID(7)}}) // only the first counts
	g.tick(batchWithin)
	if a := g.announcements(); len(a) != 1 || len(a[0].Message.Hellos) != 1 || !slices.Equal(a[0].Message.Hellos[0].Have, []job.ID{jobID(2)}) {
		t.Fatalf("announced: %s", describe(g.effects))
	}
	g.do(HandedOff{request(2, jobID(2), 5), 1})
	g.wantAnswer(handoff.Accepted, "v1")
	// The message sent before the hello ends as that of a client that said nothing.
	g.do(HandedOff{request(3, jobID(3), 5), 1})
	g.do(Disconnected{Conn: 1})
	var got []string
	for _, p := range all[Publish](g.effects) {
		got = append(got, says(p.Report))
	}
	if !slices.Equal(got, []string{"v2 mute[5]", "v2 unacked[5]"}) {
		t.Fatalf("reports %q", got)
	}
}
