package tenure

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"crier/job"
	"crier/state/ledger"
)

// placed is a ring in which this worker has one place for everything.
type placed struct {
	choice int
	lapsed []job.Journal
	frozen bool
}

func (p *placed) Choice(ledger.Thing) int       { return p.choice }
func (p *placed) Lapsed(j job.Journal) bool     { return slices.Contains(p.lapsed, j) }
func (p *placed) Frozen() bool                  { return p.frozen }
func named(worker string, n uint32) job.Journal { return job.Journal{Worker: worker, Incarnation: n} }

var (
	me    = named("me", 2)
	other = named("other", 1)
	begun = time.Unix(1e9, 0)
)

func claimOn(t ledger.Thing, epoch uint64, by job.Journal) ledger.Claim {
	return ledger.Claim{Kind: t.Kind, ID: t.ID, Epoch: epoch, Journal: by}
}

// script is a core and the time.
type script struct {
	t   *testing.T
	s   *State
	now time.Time
}

func newScript(t *testing.T, ring Ring) *script { return &script{t, New(me, ring), begun} }

// after lets time pass, gives the core an event, and holds what it says to do against
// what is wanted.
func (x *script) after(d time.Duration, ev Event, want ...Effect) {
	x.t.Helper()
	x.now = x.now.Add(d)
	got := x.s.Step(x.now, ev)
	if len(got) != len(want) || len(got) > 0 && !reflect.DeepEqual(got, want) {
		x.t.Fatalf("%s after the start, %T%+v: %#v, want %#v", x.now.Sub(begun), ev, ev, got, want)
	}
}

const ms = time.Millisecond

func TestFirstChoiceTriesAtOnceTheOthersLater(t *testing.T) {
	seven := ledger.RangeThing(7)
	for choice, wait := range map[int]time.Duration{0: 0, 1: 200 * ms, 2: 400 * ms} {
		x := newScript(t, &placed{choice: choice})
		var now []Effect
		if wait == 0 {
			now = []Effect{Take{seven}}
		}
		x.after(0, Wanted{7}, now...)
		if wait > 0 {
			x.after(wait-ms, Tick{})
			x.after(ms, Tick{}, Take{seven})
		}
		x.after(0, Wanted{7}) // it is being taken
		x.after(0, NotTaken{seven})
		x.after(retryAfter-ms, Wanted{7})
		x.after(ms, Wanted{7}, Take{seven})
		x.after(0, Taken{claimOn(seven, 1, me)}, Begin{7, true})
		x.after(0, Wanted{7})
	}
	x := newScript(t, &placed{choice: -1})
	x.after(0, Wanted{7})
	x.after(time.Hour, Tick{})
}

func TestNothingIsTakenFromWhoseJournalIsOpen(t *testing.T) {
	seven := ledger.RangeThing(7)
	x := newScript(t, &placed{})
	x.after(0, Seen{other})
	x.after(0, Claimed{claimOn(seven, 3, other)})
	x.after(0, Wanted{7})
	x.after(time.Hour, Tick{})
	x.after(0, RingIs{&placed{lapsed: []job.Journal{other}}}, Seal{other})
	x.after(time.Hour, Tick{}) // it is being sealed
	x.after(0, NotSealed{other})
	x.after(retryAfter-ms, Tick{})
	x.after(ms, Tick{}, Seal{other})
	x.after(0, NotSealed{other})
	x.after(0, Sealed{Journal: other, Open: true}, Take{ledger.JournalThing(other)}, Take{seven})
	x.after(0, Taken{claimOn(ledger.JournalThing(other), 1, me)}, Inherit{other})
	x.after(0, Taken{claimOn(seven, 4, me)}, Begin{7, false})
	x.after(time.Hour, Tick{})
}

// An answer got lost, or came after this worker gave up waiting for it: the ledger says
// that it has the range, and nobody else can take it.
func TestWhatIsHadWithoutKnowingIsTaken(t *testing.T) {
	for _, frozen := range []bool{false, true} {
		for _, thing := range []ledger.Thing{ledger.RangeThing(7), ledger.JournalThing(other)} {
			x := newScript(t, &placed{})
			x.after(0, Seen{other})
			switch thing.Kind {
			case ledger.ClaimRange:
				x.after(0, Wanted{7}, Take{thing})
			default:
				x.after(0, Sealed{Journal: other, Open: true}, Take{thing})
			}
			x.after(0, RingIs{&placed{choice: -1, frozen: frozen}})
			x.after(0, NotTaken{thing})
			x.after(ms, Claimed{claimOn(thing, 1, me)})
			x.after(retryAfter, Tick{}, Take{thing})
			if thing.Kind == ledger.ClaimRange {
				x.after(0, Taken{claimOn(thing, 1, me)}, Begin{7, true})
			} else {
				x.after(0, Taken{claimOn(thing, 1, me)}, Inherit{other})
			}
			x.after(ms, Claimed{claimOn(thing, 1, me)})
		}
	}
}

// This worker gives up a range, does not learn that it is given, and another takes it
// meanwhile: that other's claim is none of its business.
func TestOnlyItsOwnClaimIsGivenUp(t *testing.T) {
	seven := ledger.RangeThing(7)
	own := claimOn(seven, 1, me)
	x := newScript(t, &placed{})
	x.after(0, Wanted{7}, Take{seven})
	x.after(0, Taken{own}, Begin{7, true})
	x.after(0, RingIs{&placed{choice: 1}})
	x.after(steady-ms, Tick{})
	x.after(ms, Tick{}, End{7})
	x.after(0, Quiet{7, 9}, Give{7, own, 9})
	x.after(0, NotGiven{7})
	x.after(0, Claimed{claimOn(seven, 2, job.Journal{})})
	x.after(0, Claimed{claimOn(seven, 3, other)})
	x.after(retryAfter, Tick{}, Give{7, own, 9})
	x.after(0, Given{7})
	x.after(time.Hour, Tick{})
	if x.s.Held() != 0 {
		t.Fatalf("it holds %d ranges", x.s.Held())
	}
}

// What it took over before the core began is inherited once.
func TestWhatItHadBeforeIsNotInheritedAgain(t *testing.T) {
	x := newScript(t, &placed{})
	thing := ledger.JournalThing(named("me", 1))
	x.after(0, Has{claimOn(thing, 1, me)})
	x.after(0, Sealed{Journal: named("me", 1), Open: true})
	x.after(0, Claimed{claimOn(thing, 1, me)})
	x.after(time.Hour, Tick{})
}

// Who closed what a journal left open is sealed: nothing is taken over that is closed.
func TestAJournalWithNothingOpenIsLeftAlone(t *testing.T) {
	third := named("third", 1)
	x := newScript(t, &placed{})
	x.after(0, Sealed{Journal: third})
	x.after(0, Claimed{claimOn(ledger.JournalThing(third), 1, other)})
	x.after(0, Sealed{Journal: other})
	x.after(0, Claimed{claimOn(ledger.JournalThing(third), 2, named("other", 2))})
	x.after(time.Hour, Tick{})
}

func TestFrozenNothingMoves(t *testing.T) {
	seven, eight := ledger.RangeThing(7), ledger.RangeThing(8)
	x := newScript(t, &placed{})
	x.after(0, Wanted{7}, Take{seven})
	x.after(0, Taken{claimOn(seven, 1, me)}, Begin{7, true})
	x.after(0, RingIs{&placed{choice: 1, frozen: true, lapsed: []job.Journal{other}}})
	x.after(0, Seen{other})
	x.after(0, Wanted{8})
	x.after(time.Hour, Tick{})
	x.after(0, RingIs{&placed{lapsed: []job.Journal{other}}}, Seal{other}, Take{eight})
}

func TestSilenceGivesUpEverythingAtOnce(t *testing.T) {
	x := newScript(t, &placed{})
	for r := range job.Range(30) {
		thing := ledger.RangeThing(r)
		x.after(0, Wanted{r}, Take{thing})
		x.after(0, Taken{claimOn(thing, 1, me)}, Begin{r, true})
	}
	var all []Effect
	for r := range job.Range(30) {
		all = append(all, End{r})
	}
	x.after(0, Silence{true}, all...)
	x.after(0, Wanted{99})
	for r := range job.Range(30) {
		x.after(0, Quiet{r, 5}, Give{r, claimOn(ledger.RangeThing(r), 1, me), 5})
		x.after(0, Given{r})
		x.after(0, Claimed{claimOn(ledger.RangeThing(r), 2, job.Journal{})})
	}
	x.after(time.Hour, Tick{})
	if x.s.Held() != 0 {
		t.Fatalf("it holds %d ranges", x.s.Held())
	}
	x.now = x.now.Add(time.Second)
	if got := len(x.s.Step(x.now, Silence{})); got != 31 {
		t.Fatalf("it takes %d things again, want 30, and the one that was wanted", got)
	}
}

// flap lets the ring give all of 60 ranges to another and back, again and again, and
// counts how many are given up.
func flap(t *testing.T, every, lasts time.Duration) int {
	x := newScript(t, &placed{})
	for r := range job.Range(60) {
		thing := ledger.RangeThing(r)
		x.after(0, Wanted{r}, Take{thing})
		x.after(0, Taken{claimOn(thing, 1, me)}, Begin{r, true})
	}
	ended, at := 0, begun
	for x.now.Before(begun.Add(lasts)) {
		x.now = x.now.Add(200 * ms)
		if x.now.Sub(at) >= every {
			at = x.now
			x.s.Step(x.now, RingIs{&placed{choice: int(at.Sub(begun) / every % 2)}})
		}
		for _, e := range x.s.Step(x.now, Tick{}) {
			if _, ok := e.(End); ok {
				ended++
			}
		}
	}
	return ended
}

func TestAFlappingRingMovesLittle(t *testing.T) {
	if n := flap(t, 2*time.Second, 10*time.Minute); n != 0 {
		t.Errorf("a ring that is never steady moved %d ranges", n)
	}
	for _, every := range []time.Duration{5 * time.Second, 30 * time.Second} {
		// 60 ranges: 3 in 10 s at first, then fewer.
		if n := flap(t, every, time.Minute); n < 1 || n > 3*7 {
			t.Errorf("with a change every %s %d ranges moved in a minute, want 1 to 21", every, n)
		}
	}
}

func TestAlone(t *testing.T) {
	x := newScript(t, Alone{})
	x.after(0, Wanted{7}, Take{ledger.RangeThing(7)})
	x.after(0, Taken{claimOn(ledger.RangeThing(7), 1, me)}, Begin{7, true})
	x.after(0, Seen{other})
	x.after(time.Hour, Tick{})
	if !x.s.Holds(7) || x.s.Holds(8) || fmt.Sprint(x.s.Held()) != "1" {
		t.Fatal("it does not hold the one range it took")
	}
}
