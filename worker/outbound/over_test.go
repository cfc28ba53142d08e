package outbound

import (
	"fmt"
	"testing"
	"time"

	"crier/internal/idset"
	"crier/job"
	"crier/presence/handoff"
	"crier/presence/lease"
	"crier/state/ledger"
)

var (
	overJournal = job.Journal{Worker: "w", Incarnation: 3}
	overInc     = job.Incarnation{Gateway: "g1", Start: 2}
	overNow     = time.Unix(1000, 0)
)

// rig is a core whose appends are durable when the test says so.
type rig struct {
	t *testing.T
	s *State
}

// does steps the core and compares what it says to do with what is wanted.
func (r *rig) does(at time.Duration, ev Event, want ...string) []Effect {
	r.t.Helper()
	effects := r.s.Step(overNow.Add(at), ev)
	got := []string{}
	for _, e := range effects {
		switch e := e.(type) {
		case Send:
			got = append(got, "send")
		case SendFence:
			got = append(got, "fence")
		case Tell:
			got = append(got, "tell")
		case Handled:
			got = append(got, "handled")
		case Append:
			switch x := e.Entry.(type) {
			case *ledger.Doubt:
				got = append(got, map[bool]string{true: "final doubt", false: "doubt"}[x.Final])
			case *ledger.Done:
				got = append(got, fmt.Sprintf("done %d not here", x.NotHere.Card()))
			}
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		r.t.Fatalf("at %v %T: %v, want %v", at, ev, got, want)
	}
	return effects
}

func (r *rig) reserve(at time.Duration, n uint64, inc job.Incarnation, want ...string) Key {
	r.t.Helper()
	ref := job.Ref{Journal: overJournal, N: n}
	r.does(at, Reserved{Ref: ref, Job: job.ID{1}, Targets: ledger.Targets{Incs: []job.Incarnation{inc}, Sets: []*idset.Set{idset.Of(1, 2)}}}, want...)
	return Key{ref, inc}
}

func reportOf(k Key, version uint32, rest handoff.Rest) *handoff.Report {
	return &handoff.Report{Ref: k.Ref, Inc: k.Inc, Job: job.ID{1}, Version: version, Rest: rest}
}

func TestWhatIsOpenAtAGatewayThatIsOver(t *testing.T) {
	r := &rig{t, New(overJournal)}
	a := r.reserve(0, 1, overInc, "send")
	older := r.reserve(0, 2, job.Incarnation{Gateway: "g1", Start: 1}, "send")
	newer := r.reserve(0, 3, job.Incarnation{Gateway: "g1", Start: 3}, "send")
	r.does(0, Answered{a, &handoff.Answer{Kind: handoff.Accepted, Reports: []handoff.Report{*reportOf(a, 1, handoff.RestWaiting)}}}, "handled")
	const said = 7 * time.Second
	r.does(said, Over{overInc})
	r.does(said, Lost{Key: older})
	r.does(said, Lost{Key: newer})
	r.does(said+lease.Grace-1, Over{overInc}) // told again: it counts from the first time on
	r.does(said+lease.Grace-1, Tick{}, "send", "handled", "send", "handled", "send")
	r.does(said+lease.Grace, Tick{}, "final doubt", "final doubt")
	r.does(said+lease.Grace, Tick{})
	r.does(said+lease.Grace, Recorded{a})
	r.does(said+lease.Grace, Recorded{older})
	if got := r.s.Incarnations(); len(got) != 1 || got[0] != newer.Inc {
		t.Fatalf("open at %v", got)
	}
	// The client must go on remembering what it acknowledged there.
	r.does(time.Hour, Reported{reportOf(a, 2, handoff.RestAcked)})
}

func TestWhatIsSaidBeforeItCounts(t *testing.T) {
	r := &rig{t, New(overJournal)}
	a := r.reserve(0, 1, overInc, "send")
	r.does(time.Second, Over{overInc})
	r.does(2*time.Second, Reported{reportOf(a, 1, handoff.RestAcked)}, "handled", "done 0 not here")
	r.does(time.Minute, Tick{}) // the done is on its way
	r.does(time.Minute, Recorded{a}, "tell")
	r.does(time.Hour, Tick{})
}

func TestWhatIsReservedForAGatewayThatIsOver(t *testing.T) {
	r := &rig{t, New(overJournal)}
	r.does(0, Over{overInc})
	a := r.reserve(time.Second, 1, overInc, "done 2 not here", "handled")
	r.does(time.Second, Recorded{a}, "tell")
	if r.s.Open() != 0 {
		t.Fatal("it is open")
	}
}

func TestWhatIsInheritedOfAGatewayThatIsOver(t *testing.T) {
	former := job.Journal{Worker: "w", Incarnation: 2}
	inherit := func() (*rig, Key) {
		r := &rig{t, New(overJournal, former)}
		k := Key{job.Ref{Journal: former, N: 9}, overInc}
		r.does(0, Inherited{Key: k, Job: job.ID{1}, Open: idset.Of(1, 2)}, "fence")
		r.does(0, Over{overInc})
		return r, k
	}
	r, k := inherit()
	r.does(time.Second, Lost{Journal: former, Key: Key{Inc: overInc}})
	r.does(lease.Grace-1, Tick{}, "fence")
	r.does(lease.Grace, Tick{}, "final doubt")
	r.does(lease.Grace, Recorded{k})

	// Its next incarnation knows better, and in time.
	r, k = inherit()
	r.does(time.Second, Fenced{former, overInc, &handoff.Answer{Kind: handoff.Over}}, "done 2 not here")
	r.does(lease.Grace, Tick{})
	r.does(lease.Grace, Recorded{k}, "tell")

	// Or too late.
	r, k = inherit()
	r.does(lease.Grace, Tick{}, "final doubt")
	r.does(lease.Grace, Fenced{former, overInc, &handoff.Answer{Kind: handoff.Over}})
	r.does(lease.Grace, Recorded{k})
	r.does(lease.Grace, Fenced{former, overInc, &handoff.Answer{Kind: handoff.Over}})
}

// What is durable too late to be sent is asked of nobody, however long its done takes, and
// nobody waits for an answer.
func TestWhatIsLateIsParkedAgain(t *testing.T) {
	r := &rig{t, New(overJournal)}
	late := Key{job.Ref{Journal: overJournal, N: 1}, overInc}
	r.does(0, Reserved{Ref: late.Ref, Job: job.ID{1}, Targets: ledger.Targets{Incs: []job.Incarnation{overInc}, Sets: []*idset.Set{idset.Of(1, 2)}}, Late: true},
		"done 2 not here", "handled")
	r.does(2*DoubtAfter, Tick{})
	r.reserve(2*DoubtAfter, 2, overInc, "send")
	r.does(2*DoubtAfter, Recorded{late}, "tell")
	if n := r.s.Open(); n != 1 {
		t.Errorf("%d are open, want the one that was sent", n)
	}
}
