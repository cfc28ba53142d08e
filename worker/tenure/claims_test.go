package tenure

import (
	"testing"
	"time"

	"crier/job"
	"crier/state/ledger"
)

var (
	me    = job.Journal{Worker: "a", Incarnation: 1}
	other = job.Journal{Worker: "b", Incarnation: 1}
	began = time.Unix(0, 0)
)

// home makes a core that is home to range 7 by epoch 1.
func home(t *testing.T) *State {
	t.Helper()
	s := New(me, Alone{})
	if out := s.Step(began, Wanted{7}); len(out) != 1 {
		t.Fatalf("a wanted range: %v, want a Take", out)
	}
	s.Step(began, Taken{ledger.Claim{Kind: ledger.ClaimRange, ID: job.Range(7).String(), Epoch: 1, Journal: me}})
	if !s.Holds(7) {
		t.Fatal("the range is not held")
	}
	return s
}

// A worker that is sealed and does not know it sees its successor's claim: it must not
// give that up in its own's place.
func TestOnlyTheOwnClaimIsGivenUp(t *testing.T) {
	s := home(t)
	s.Step(began, Claimed{ledger.Claim{Kind: ledger.ClaimRange, ID: job.Range(7).String(), Epoch: 2, Journal: other}})
	if out := s.Step(began, Silence{On: true}); len(out) != 1 || out[0] != (End{7}) {
		t.Fatalf("silence: %v, want an End", out)
	}
	out := s.Step(began, Quiet{Range: 7, After: 3})
	if len(out) != 1 || out[0].(Give).Claim.Journal != me || out[0].(Give).Claim.Epoch != 1 {
		t.Fatalf("gives up %+v, which is not its own", out)
	}
}

// The claim was stored, and no answer came: the range has an owner who does not know it,
// and nobody else may take it.
func TestAClaimWhoseAnswerWasLostIsTaken(t *testing.T) {
	s := New(me, Alone{})
	thing := ledger.RangeThing(7)
	s.Step(began, Wanted{7})
	s.Step(began, NotTaken{thing})
	s.Step(began, Claimed{ledger.Claim{Kind: thing.Kind, ID: thing.ID, Epoch: 1, Journal: me}})
	if out := s.Step(began.Add(time.Second), Tick{}); len(out) != 1 || out[0] != (Take{thing}) {
		t.Fatalf("does %v about a claim that is its own, want a Take", out)
	}
}

// What was given up is not taken back because the release is seen late.
func TestAGivenRangeIsNotItsOwn(t *testing.T) {
	s := home(t)
	s.Step(began, Silence{On: true})
	s.Step(began, Quiet{Range: 7, After: 3})
	s.Step(began, Given{7})
	if out := s.Step(began.Add(time.Second), Tick{}); len(out) != 0 {
		t.Fatalf("takes back what it gave up: %v", out)
	}
}
