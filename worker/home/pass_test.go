package home

import (
	"reflect"
	"slices"
	"testing"

	"crier/internal/idset"
	"crier/job"
	"crier/presence/handoff"
	"crier/state/ledger"
	"crier/state/parked"
)

// looks gives the passes among effects.
func looks(effects []Effect) []Pass {
	var out []Pass
	for _, e := range effects {
		if l, ok := e.(Look); ok {
			out = append(out, l.Pass)
		}
	}
	return out
}

func oneLook(t *testing.T, effects []Effect) Pass {
	t.Helper()
	got := looks(effects)
	if len(got) != 1 {
		t.Fatalf("%d looks among %v, want one", len(got), effects)
	}
	return got[0]
}

func allKnown(job.ID) JobInfo { return JobInfo{Known: true, Over: job.Parked} }

// drainable are findings with so many jobs parked for one recipient who is online.
func drainable(who uint32, jobs int) Findings {
	f := Findings{Online: []Online{{g2, idset.Of(who)}}, Job: allKnown}
	for i := range jobs {
		f.Items = append(f.Items, item(job.ID{byte(i + 1)}, uint64(i), who))
	}
	return f
}

func TestAPassThatCameToNothingIsMadeAgainWhole(t *testing.T) {
	for name, c := range map[string]struct {
		fail  func(s *State, p Pass)
		ticks int
	}{
		"not found": {func(s *State, p Pass) { s.Step(NotFound{p}) }, 1},
		"refused": {func(s *State, p Pass) {
			f := drainable(1, 1)
			f.Logins = p.Logins
			s.Step(Found{f})
			s.Step(Refused{0})
		}, refusedTicks},
	} {
		t.Run(name, func(t *testing.T) {
			s := begun()
			oneLook(t, s.Step(Wanted{Who: idset.Of(5)}))
			s.Step(Wanted{Who: idset.Of(1, 2), Logins: []Login{login(1, g2, jobA)}})
			s.Step(Ending{0, jobA})
			p := oneLook(t, s.Step(Found{Findings{Job: allKnown}}))
			c.fail(s, p)
			for range c.ticks {
				if got := looks(s.Step(Wanted{Who: idset.Of(3), Logins: []Login{login(3, g2)}})); len(got) > 0 {
					t.Fatal("a failed pass is made again at once")
				}
				s.Step(Ending{0, jobA})
				s.Step(Ending{0, jobB})
				if c.ticks--; c.ticks > 0 {
					if got := looks(s.Step(Tick{})); len(got) > 0 {
						t.Fatal("a refused pass is made again too soon")
					}
				}
			}
			again := oneLook(t, s.Step(Tick{}))
			if setText(again.Who) != "1 2 3" || !slices.Equal(again.Ending, []job.ID{jobA, jobB}) || again.Logins[0].Recipient != 1 || again.Logins[1].Recipient != 3 {
				t.Fatalf("%+v", again)
			}
		})
	}
}

// Two turns are under way for whoever has more: another follows when one of them is closed,
// whether or not the index has those before.
func TestWhoHasMoreGetsItWhenThereIsRoom(t *testing.T) {
	s := begun()
	turn := func(effects []Effect) (to string) {
		for _, e := range effects {
			if a, ok := e.(Append); ok && !a.Looked {
				to += setText(a.Who)
			}
		}
		return to
	}
	s.Step(Wanted{Who: idset.Of(1)})
	s.Step(Found{drainable(1, 3*PassLimit+1)})
	if got := turn(s.Step(Durable{Range: 0, Seq: 7})); got != "1" {
		t.Fatalf("behind the first turn one is for [%s], want 1", got)
	}
	if got := s.Step(Durable{Range: 0, Seq: 8}); len(got) > 0 {
		t.Fatalf("behind two that are not closed: %v", got)
	}
	for range PassLimit - 1 {
		if got := append(s.Step(Closed{Range: 0, Who: idset.Of(1, 2)}), s.Step(Closed{Range: 0, Who: idset.Of(3)})...); len(got) > 0 {
			t.Fatalf("there is no room yet: %v", got)
		}
	}
	if got := turn(s.Step(Closed{Range: 0, Who: idset.Of(1)})); got != "1" {
		t.Fatalf("when a turn is closed one is for [%s], want 1", got)
	}
	s.Step(Durable{Range: 0, Seq: 9})
	s.Step(Wanted{Who: idset.Of(2)})
	s.Step(Closed{Range: 0, Who: idset.Of(1)})
	for range PassLimit {
		if got := s.Step(Closed{Range: 0, Who: idset.Of(1)}); len(got) > 0 {
			t.Fatalf("somebody else is to be looked at, and the index does not have what was decided: %v", got)
		}
	}
	if p := oneLook(t, s.Step(Applied{9})); setText(p.Who) != "1 2" {
		t.Fatalf("looks at [%s], want who has more and who was wanted: 1 2", setText(p.Who))
	}
	s.Step(Found{Findings{Job: allKnown}})
	if got := looks(s.Step(Closed{Range: 0, Who: idset.Of(1)})); len(got) > 0 {
		t.Fatal("nobody has more any longer")
	}
}

// Who has no room is not looked at because a sweep finds them, or not often; who logs in is.
func TestWhoHasNoRoomIsLeftOut(t *testing.T) {
	full := func() *State {
		s := begun()
		s.Step(Wanted{Who: idset.Of(1)})
		s.Step(Found{drainable(1, 3*PassLimit+1)})
		s.Step(Durable{Range: 0, Seq: 7})
		s.Step(Durable{Range: 0, Seq: 8})
		s.Step(Applied{8})
		return s
	}
	s := full()
	for range foundMost {
		if got := looks(s.Step(Wanted{Who: idset.Of(1)})); len(got) > 0 {
			t.Fatalf("looks at [%s], who has no room", setText(got[0].Who))
		}
	}
	if p := oneLook(t, s.Step(Wanted{Who: idset.Of(1)})); setText(p.Who) != "1" {
		t.Errorf("looks at [%s] after so long, want 1", setText(p.Who))
	}
	if p := oneLook(t, full().Step(Wanted{Who: idset.Of(1, 2)})); setText(p.Who) != "2" {
		t.Errorf("looks at [%s], want who has room: 2", setText(p.Who))
	}
	if p := oneLook(t, full().Step(Wanted{Who: idset.Of(1), Logins: []Login{login(1, g2)}})); setText(p.Who) != "1" {
		t.Errorf("looks at [%s], want who logs in: 1", setText(p.Who))
	}
	s = full()
	s.Step(Wanted{Who: idset.Of(1)})
	turns := 0
	for range PassLimit {
		turns += len(s.Step(Closed{Range: 0, Who: idset.Of(1)}))
	}
	if turns != 1 {
		t.Errorf("%d turns when there is room, want 1", turns)
	}
}

// Whom a whole turn does not reach is full: they get no other turn, and are not looked at, but for ever
// more seldom, until something gets there or they log in.
func TestWhoIsFullIsTriedSeldom(t *testing.T) {
	// full is with jobs that wait for 1, of whom a turn came back.
	full := func(jobs int) (*State, Closed) {
		s, back := begun(), Closed{Range: 0, Who: idset.Of(1), Away: idset.Of(1)}
		s.Step(Wanted{Who: idset.Of(1)})
		s.Step(Found{drainable(1, jobs)})
		s.Step(Durable{Range: 0, Seq: 7})
		if jobs > PassLimit {
			s.Step(Durable{Range: 0, Seq: 8})
		}
		s.Step(Applied{8})
		for i := range PassLimit {
			if got := s.Step(back); len(got) > 0 {
				t.Fatalf("%d came back: %v", i+1, got)
			}
		}
		return s, back
	}
	for _, jobs := range []int{1, 5 * PassLimit} { // one comes back as often
		s, back := full(jobs)
		var at []int // ticks
		for tick := range 200 {
			for _, p := range looks(s.Step(Wanted{Who: idset.Of(1)})) {
				at = append(at, tick)
				s.Step(Found{drainable(1, 1)})
				s.Step(Durable{Range: p.Range, Seq: 9})
				s.Step(Applied{9})
				s.Step(back)
			}
			s.Step(Tick{})
		}
		if want := []int{2, 6, 14, 30, 62, 126, 190}; !slices.Equal(at, want) {
			t.Errorf("with %d jobs it is looked at after ticks %v, want %v", jobs, at, want)
		}
		s, _ = full(jobs)
		if p := oneLook(t, s.Step(Closed{Range: 0, Who: idset.Of(1)})); setText(p.Who) != "1" {
			t.Errorf("looks at [%s] when one got there, want 1", setText(p.Who))
		}
		s, _ = full(jobs)
		if p := oneLook(t, s.Step(Wanted{Who: idset.Of(1), Logins: []Login{login(1, g2)}})); setText(p.Who) != "1" {
			t.Errorf("looks at [%s], want who logs in: 1", setText(p.Who))
		}
	}
	s, back := full(1)
	for range fullMost + 3 {
		s.Step(Tick{})
	}
	if n := len(s.ranges[0].load); n != 0 {
		t.Errorf("%d are remembered who are gone", n)
	}
	for range 10 * PassLimit { // as of whoever moves: a few each second
		s.Step(back)
		s.Step(Tick{})
	}
	if n := len(s.ranges[0].load); n != 0 {
		t.Errorf("%d are taken for full", n)
	}
}

func TestClientsForgetWhatADecisionEndedOnlyWhenItIsApplied(t *testing.T) {
	s := begun()
	l := login(1, g2, jobA)
	s.Step(Wanted{Who: idset.Of(1), Logins: []Login{l}})
	effects := s.Step(Found{Findings{Logins: []Login{l}, Standing: []Standing{{0, jobA, job.InDoubt}}, Job: allKnown,
		Doubts: []parked.Doubt{{Job: jobA, Inc: g1, Set: idset.Of(1)}}}})
	if len(effects) != 1 {
		t.Fatalf("%v, want one append", effects)
	}
	s.Step(Wanted{Who: idset.Of(9)})
	for _, ev := range []Event{Applied{6}, Durable{Range: 0, Seq: 7}} {
		if effects := s.Step(ev); len(effects) > 0 {
			t.Fatalf("%v after %T", effects, ev)
		}
	}
	effects = s.Step(Applied{7})
	want := Settle{handoff.Settle{Inc: g2, Recipient: 1, Jobs: []job.ID{jobA}}}
	if got, ok := effects[0].(Settle); !ok || settleText(got.Settle) != settleText(want.Settle) {
		t.Fatalf("%v, want %v first", effects, want)
	}
	if p := oneLook(t, effects); setText(p.Who) != "9" { // and the next pass begins at once
		t.Fatalf("looks at [%s]", setText(p.Who))
	}
}

// A range is let go when its pass under way is applied, and nothing is begun there
// before it is this worker's again.
func TestARangeIsLetGoWhenItsPassIsApplied(t *testing.T) {
	quiet := func(effects []Effect) (q []Quiet) {
		for _, e := range effects {
			if x, ok := e.(Quiet); ok {
				q = append(q, x)
			}
		}
		return q
	}
	s := begun()
	if got := quiet(s.Step(End{1})); !slices.Equal(got, []Quiet{{1, 0}}) {
		t.Fatalf("%v, want range 1 to be let go at once", got)
	}
	oneLook(t, s.Step(Wanted{Who: idset.Of(1)}))
	if got := s.Step(End{0}); len(got) > 0 {
		t.Fatalf("%v while a pass is under way", got)
	}
	if got := s.Step(Found{drainable(1, 1)}); !slices.Equal(quiet(got), []Quiet{{0, 0}}) || len(got) != 1 {
		t.Fatalf("%v, want nothing to be decided, and the range let go", got)
	}
	s.Step(Begin{0})
	oneLook(t, s.Step(Wanted{Who: idset.Of(1)}))
	if got := s.Step(Found{drainable(1, 1)}); len(got) != 1 {
		t.Fatalf("%v, want an append", got)
	}
	for _, ev := range []Event{End{0}, Wanted{Who: idset.Of(2)}, Durable{Range: 0, Seq: 9}, Applied{8}, Tick{}} {
		if got := s.Step(ev); len(got) > 0 {
			t.Fatalf("%v after %T", got, ev)
		}
	}
	if got := quiet(s.Step(Applied{9})); !slices.Equal(got, []Quiet{{0, 9}}) {
		t.Fatalf("%v, want range 0 to be let go after record 9", got)
	}
	for _, ev := range []Event{Wanted{Who: idset.Of(2)}, Ending{0, jobA}, Closed{Range: 0, Who: idset.Of(1)}, Tick{}, End{0}} {
		if got := s.Step(ev); len(got) > 0 {
			t.Fatalf("%v after %T for a range that is another's", got, ev)
		}
	}
}

// A range is let go when the charges of it that were taken in are applied, and none is
// taken in after.
func TestARangeIsLetGoWhenItsChargesAreApplied(t *testing.T) {
	charge := func(id uint64) Charge {
		return Charge{ID: id, Entry: &ledger.Charge{Span: job.Span{Lo: 0, Hi: 64}}}
	}
	s := begun()
	want := func(got []Effect, want ...Effect) {
		t.Helper()
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%v, want %v", got, want)
		}
	}
	for id := range uint64(3) {
		want(s.Step(charge(id)), AppendCharge(charge(id)))
	}
	want(s.Step(End{0}))
	want(s.Step(charge(3)), ChargeEnded{ID: 3})
	want(s.Step(Charged{ID: 1, Range: 0, Seq: 7}))
	want(s.Step(Charged{ID: 0, Range: 0}), ChargeEnded{ID: 0})
	want(s.Step(Applied{6}))
	want(s.Step(Applied{7}), ChargeEnded{1, true})
	want(s.Step(Applied{9}))
	want(s.Step(Charged{ID: 2, Range: 0, Seq: 8}), ChargeEnded{2, true}, Quiet{0, 8})
	want(s.Step(charge(4)), ChargeEnded{ID: 4})
}
