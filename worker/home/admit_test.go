package home

import (
	"slices"
	"testing"

	"crier/internal/idset"
	"crier/job"
)

// A storm is served a container after the other, in order and around the end.
func TestAStormIsServedByContainer(t *testing.T) {
	s := begun()
	s.most = 2
	s.Step(Wanted{Who: idset.Of(7<<16, 7<<16+1)}) // the first pass ends at container 7
	s.Step(Wanted{Who: idset.Of(1, 2<<16, 2<<16+9, 7<<16+5, 9<<16, 9<<16+1, 9<<16+2, 15<<16)})
	for _, want := range []string{"1", "131072 131081", "458757", "589824 589825 589826", "0 983040"} {
		p := oneLook(t, s.Step(Found{Findings{Job: allKnown}}))
		if got := setText(p.Who); got != want {
			t.Fatalf("a pass is about [%s], want [%s]", got, want)
		}
		if want == "1" {
			s.Step(Wanted{Who: idset.Of(0)}) // its container was served: its turn comes at the end
		}
	}
	if got := looks(s.Step(Found{Findings{Job: allKnown}})); len(got) > 0 {
		t.Fatalf("%v, want nothing more", got)
	}
}

// Those who are left after a storm are a list again, and so is a pass of a few out of one.
func TestBehindAStormSetsAreListsAgain(t *testing.T) {
	who := idset.New(0)
	for i := range uint32(300) {
		who.Add(i << 8)
	}
	who.KeepSpan(job.Span{Lo: 0, Hi: 3 << 8}) // containers that have three
	if _, list := who.Few(); list {
		t.Fatal("the set is no storm's")
	}
	now, _ := admit(who, 0, admitMost)
	if ids, list := now.Few(); !list || !slices.Equal(ids, []uint32{0, 1 << 8, 2 << 8}) {
		t.Errorf("the pass is about %v, as a list: %v", ids, list)
	}
	who.Or(idset.Of(5))
	if ids, list := who.Few(); !list || !slices.Equal(ids, []uint32{5}) {
		t.Errorf("the next is about %v, as a list: %v", ids, list)
	}
}

// A few who are far from each other are looked at together.
func TestAFewLoginsAreOnePass(t *testing.T) {
	s := begun()
	s.Step(Wanted{Who: idset.Of(3)})
	s.Step(Wanted{Who: idset.Of(1, 5<<16, 15<<16)})
	if p := oneLook(t, s.Step(Found{Findings{Job: allKnown}})); setText(p.Who) != "1 327680 983040" {
		t.Fatalf("a pass is about [%s]", setText(p.Who))
	}
}
