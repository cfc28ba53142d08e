// Package tenure is the pure core of what a worker holds: the ranges it is home to,
// and the sealed journals of dead workers whose open reserves it closes.
//
// It guarantees that nothing is taken from an owner whose journal is open (rule 4);
// that a journal is sealed only when the ring calls its owner lapsed, or it is of an
// earlier start of this worker (rule 5); that a worker which is frozen takes nothing new
// (rule 24); that a range is given up only after everything that this worker appends
// about it is durable; and that no claim but its own is ever given up.
//
// A wrong ring costs a try that fails, never more: claims decide.
package tenure

import (
	"cmp"
	"slices"
	"time"

	"crier/job"
	"crier/state/ledger"
)

// Ring is what a member believes about the others at one moment; it never changes.
type Ring interface {
	// Choice is this worker's place among those who should have a thing: 0 is the first.
	// It is negative if it is none of the first few.
	Choice(ledger.Thing) int
	// Lapsed reports whether a worker's incarnation is dead for all that can be known: its
	// lease has lapsed, and nobody reaches it.
	Lapsed(job.Journal) bool
	// Frozen reports whether nothing new may be taken.
	Frozen() bool
}

// Alone is the ring of a worker that has no others.
type Alone struct{}

// Choice implements Ring.
func (Alone) Choice(ledger.Thing) int { return 0 }

// Lapsed implements Ring.
func (Alone) Lapsed(job.Journal) bool { return false }

// Frozen implements Ring.
func (Alone) Frozen() bool { return false }

const (
	// After this long a worker that is the second choice tries, the third after twice that.
	yieldTo = 200 * time.Millisecond
	// retryAfter is how long a thing whose taking or sealing did not work is left alone.
	retryAfter = 500 * time.Millisecond
	// newborn is how long after it was first seen a journal is left alone: its owner's lease
	// may be seen later than its first record.
	newborn = 3 * time.Second
	// steady is how long the ring has to be the same before ranges move.
	steady = 3 * time.Second
	// One in budgetPart of the ranges held, one at least, moves in each budgetEvery.
	budgetEvery = 10 * time.Second
	budgetPart  = 20
)

// State is the core's state. The zero value is not usable; see New.
type State struct {
	mine     job.Journal
	ring     Ring
	now      time.Time // of the Step
	since    time.Time // when the ring became what it is
	ranges   [job.Ranges]tenancy
	journals map[job.Journal]*journal
	silent   bool
	held     int // ranges
	budget   int
	refill   time.Time
}

// phase is where a thing is on its way to this worker and from it.
type phase uint8

const (
	elsewhere phase = iota
	taking
	holding
	ending // its home finishes what is under way
	giving
)

// tenancy is one thing as this worker sees it.
type tenancy struct {
	phase  phase
	claim  ledger.Claim // the last one known
	own    ledger.Claim // by which this worker has it, or had it last
	wanted bool         // somebody asked for it
	free   time.Time    // since when it may be taken; zero if it may not
	retry  time.Time    // not before
	after  uint64       // of the Quiet, once there was one
}

// journal is another worker's journal.
type journal struct {
	tenancy           // of closing what it left open
	sealing bool      // a Seal is not answered yet
	sealed  bool      // and everything up to the seal is read
	open    bool      // it left something open
	first   time.Time // when it was first heard of
	lapsed  time.Time // since when its owner has lapsed; zero if it has not
}

// New makes the core of the owner of a journal.
func New(mine job.Journal, ring Ring) *State {
	return &State{mine: mine, ring: ring, journals: map[job.Journal]*journal{}}
}

// Event is one of Has, Seen, Sealed, Claimed, Wanted, RingIs, Silence, Taken, NotTaken,
// NotSealed, Quiet, Given, NotGiven, Tick.
type Event interface{ event() }

// Has says that this worker took a journal over before the core began.
type Has struct{ Claim ledger.Claim }

// Seen says that a journal exists.
type Seen struct{ Journal job.Journal }

// Sealed says that a journal is sealed and that everything up to its seal is read.
type Sealed struct {
	Journal job.Journal
	Open    bool // it has open reserves
}

// Claimed is a claim in the order of the ledger; those on slices only tell of journals.
type Claimed struct{ Claim ledger.Claim }

// Wanted says that somebody needs the home of a range.
type Wanted struct{ Range job.Range }

// RingIs replaces the ring.
type RingIs struct{ Ring Ring }

// Silence says whether this worker is to give up everything, by order of an operator.
type Silence struct{ On bool }

// Taken answers a Take that worked.
type Taken struct{ Claim ledger.Claim }

// NotTaken answers one that did not.
type NotTaken struct{ Thing ledger.Thing }

// NotSealed answers each Seal; one that worked shows as Sealed, too.
type NotSealed struct{ Journal job.Journal }

// Quiet answers an End: all that this worker appends about the range is durable, the
// last of it at or before the sequence After.
type Quiet struct {
	Range job.Range
	After uint64
}

// Given answers a Give that worked, or that came after the claim was no more.
type Given struct{ Range job.Range }

// NotGiven answers one that did not; it is tried again.
type NotGiven struct{ Range job.Range }

// Tick lets time pass.
type Tick struct{}

func (Has) event()       {}
func (Seen) event()      {}
func (Sealed) event()    {}
func (Claimed) event()   {}
func (Wanted) event()    {}
func (RingIs) event()    {}
func (Silence) event()   {}
func (Taken) event()     {}
func (NotTaken) event()  {}
func (NotSealed) event() {}
func (Quiet) event()     {}
func (Given) event()     {}
func (NotGiven) event()  {}
func (Tick) event()      {}

// Effect is one of Take, Seal, Begin, Inherit, End, Give.
type Effect interface{ effect() }

// Take asks for a claim on a thing; Taken or NotTaken comes back.
type Take struct{ Thing ledger.Thing }

// Seal asks to end another worker's journal; NotSealed comes back.
type Seal struct{ Journal job.Journal }

// Begin makes this worker the home of a range.
type Begin struct {
	Range job.Range
	First bool // nobody was before
}

// Inherit hands the open reserves of a sealed journal to this worker (rule 12).
type Inherit struct{ Journal job.Journal }

// End asks the home of a range to begin nothing new; Quiet comes back.
type End struct{ Range job.Range }

// Give asks for this worker's claim on a range to be released; Given or NotGiven comes
// back.
type Give struct {
	Range job.Range
	Claim ledger.Claim
	After uint64
}

func (Take) effect()    {}
func (Seal) effect()    {}
func (Begin) effect()   {}
func (Inherit) effect() {}
func (End) effect()     {}
func (Give) effect()    {}

// Step takes one event in and says what to do.
func (s *State) Step(now time.Time, ev Event) []Effect {
	s.now = now
	switch ev := ev.(type) {
	case Has:
		if x := s.at(ev.Claim.Thing()); x != nil {
			x.phase, x.claim, x.own = holding, ev.Claim, ev.Claim
		}
	case Seen:
		s.journal(ev.Journal)
	case Sealed:
		x := s.journal(ev.Journal)
		x.sealed, x.open, x.retry = true, ev.Open, time.Time{}
		return s.look(now)
	case Claimed:
		return s.claimed(now, ev.Claim)
	case Wanted:
		s.ranges[ev.Range].wanted = true
		return s.consider(now, ledger.RangeThing(ev.Range), &s.ranges[ev.Range], nil)
	case RingIs:
		s.ring, s.since = ev.Ring, now
		return s.look(now)
	case Silence:
		s.silent = ev.On
		return s.look(now)
	case Taken:
		return s.taken(now, ev.Claim)
	case NotTaken:
		if x := s.at(ev.Thing); x != nil && x.phase == taking {
			x.phase, x.retry = elsewhere, now.Add(retryAfter)
		}
	case NotSealed:
		x := s.journal(ev.Journal)
		x.sealing, x.retry = false, now.Add(retryAfter)
	case Quiet:
		if x := &s.ranges[ev.Range]; x.phase == ending {
			x.phase, x.after = giving, ev.After
			return []Effect{Give{ev.Range, x.own, x.after}}
		}
	case Given:
		if x := &s.ranges[ev.Range]; x.phase == giving {
			*x = tenancy{claim: x.claim, own: x.own, retry: now.Add(retryAfter)}
			s.held--
		}
	case NotGiven:
		if x := &s.ranges[ev.Range]; x.phase == giving {
			x.retry = now.Add(retryAfter)
		}
	case Tick:
		return s.look(now)
	}
	return nil
}

// Holds reports whether this worker is home to a range and begins new things there.
func (s *State) Holds(r job.Range) bool { return s.ranges[r].phase == holding }

// Held is the number of ranges that this worker has, those it is giving up too.
func (s *State) Held() int { return s.held }

func (s *State) journal(j job.Journal) *journal {
	x := s.journals[j]
	if x == nil {
		x = &journal{first: s.now}
		s.journals[j] = x
	}
	return x
}

// at is the tenancy of a thing, nil if it is none of this core's.
func (s *State) at(t ledger.Thing) *tenancy {
	switch t.Kind {
	case ledger.ClaimRange:
		if r, err := job.ParseRange(t.ID); err == nil {
			return &s.ranges[r]
		}
	case ledger.ClaimJournal:
		if j, err := job.ParseJournal(t.ID); err == nil {
			return &s.journal(j).tenancy
		}
	}
	return nil
}

func (s *State) claimed(now time.Time, c ledger.Claim) []Effect {
	x := s.at(c.Thing())
	if !c.Journal.IsZero() && c.Journal != s.mine && (x != nil || c.Kind == ledger.ClaimSlice) {
		s.journal(c.Journal) // a worker's, which may have to be sealed and have no record
	}
	if x == nil || c.Epoch <= x.claim.Epoch {
		return nil
	}
	x.claim = c
	if j, err := job.ParseJournal(c.ID); c.Kind == ledger.ClaimJournal && err == nil && !s.journals[j].isLeft() && !s.isForgotten(x) {
		return nil
	}
	return s.consider(now, c.Thing(), x, nil)
}

// isLeft reports whether the journal's owner is gone and left something to close.
func (x *journal) isLeft() bool { return x.sealed && x.open }

func (s *State) taken(now time.Time, c ledger.Claim) []Effect {
	x := s.at(c.Thing())
	if x == nil || x.phase != taking {
		return nil
	}
	if c.Epoch < x.claim.Epoch { // another has sealed this worker since, and taken it
		x.phase, x.retry = elsewhere, now.Add(retryAfter)
		return nil
	}
	*x = tenancy{phase: holding, claim: c, own: c}
	if c.Kind == ledger.ClaimJournal {
		j, _ := job.ParseJournal(c.ID) // at has parsed it
		return []Effect{Inherit{j}}
	}
	s.held++
	r, _ := job.ParseRange(c.ID)
	return []Effect{Begin{r, c.Epoch == 1}}
}

// look goes over everything once: what may be taken, sealed, or given up.
func (s *State) look(now time.Time) []Effect {
	var out []Effect
	for _, j := range s.liveJournals() {
		x := s.journals[j]
		out = s.considerSeal(now, j, x, out)
		if x.sealed {
			out = s.consider(now, ledger.JournalThing(j), &x.tenancy, out)
		}
	}
	if !now.Before(s.refill) {
		s.refill, s.budget = now.Add(budgetEvery), max(1, s.held/budgetPart)
	}
	for r := range job.Range(job.Ranges) {
		x := &s.ranges[r]
		switch {
		case x.phase == holding:
			out = s.considerEnd(now, r, x, out)
		case x.phase == giving && !x.retry.IsZero() && !now.Before(x.retry):
			x.retry = time.Time{}
			out = append(out, Give{r, x.own, x.after})
		case x.wanted || x.claim.Epoch > 0:
			out = s.consider(now, ledger.RangeThing(r), x, out)
		}
	}
	return out
}

// liveJournals are those about which something may be left to do, in a fixed order.
func (s *State) liveJournals() []job.Journal {
	var js []job.Journal
	for j, x := range s.journals {
		if !x.sealed || x.phase == elsewhere && (x.isLeft() || s.isForgotten(&x.tenancy)) {
			js = append(js, j)
		}
	}
	slices.SortFunc(js, func(a, b job.Journal) int {
		return cmp.Or(cmp.Compare(a.Worker, b.Worker), cmp.Compare(a.Incarnation, b.Incarnation))
	})
	return js
}

// consider takes a thing that is free and that the ring gives to this worker, sooner or
// later. Free is what nobody holds, or an owner released, or whose owner is sealed.
func (s *State) consider(now time.Time, t ledger.Thing, x *tenancy, out []Effect) []Effect {
	if x.phase != elsewhere {
		return out
	}
	if s.isForgotten(x) {
		if now.Before(x.retry) {
			return out
		}
		x.phase = taking
		return append(out, Take{t})
	}
	if !s.isFree(x.claim) {
		x.free, x.wanted = time.Time{}, false // whoever wants it finds its owner
		return out
	}
	if x.free.IsZero() {
		x.free = now
	}
	choice := s.ring.Choice(t)
	if s.silent || s.ring.Frozen() || choice < 0 || now.Before(x.retry) || now.Sub(x.free) < time.Duration(choice)*yieldTo {
		return out
	}
	x.phase = taking
	return append(out, Take{t})
}

// isForgotten reports whether the ledger calls this worker the holder of something that
// it does not know to have: a try that got no answer was stored after all. Nobody else
// can take that, and so this worker does, whatever the ring says.
func (s *State) isForgotten(x *tenancy) bool {
	return x.claim.Journal == s.mine && x.claim.Epoch > x.own.Epoch
}

func (s *State) isFree(c ledger.Claim) bool {
	if c.Journal.IsZero() {
		return true
	}
	x := s.journals[c.Journal]
	return x != nil && x.sealed
}

// considerSeal seals the journal of a worker that has lapsed. A wrong seal is safe.
func (s *State) considerSeal(now time.Time, j job.Journal, x *journal, out []Effect) []Effect {
	if x.sealed || x.sealing || j == s.mine {
		return out
	}
	former := j.Worker == s.mine.Worker && j.Incarnation < s.mine.Incarnation
	if !former && (now.Sub(x.first) < newborn || !s.ring.Lapsed(j)) {
		x.lapsed = time.Time{}
		return out
	}
	if x.lapsed.IsZero() {
		x.lapsed = now
	}
	choice := 0 // of a former one whoever succeeds it
	if !former {
		choice = s.ring.Choice(ledger.JournalThing(j))
	}
	if s.silent || s.ring.Frozen() || choice < 0 || now.Before(x.retry) || now.Sub(x.lapsed) < time.Duration(choice)*yieldTo {
		return out
	}
	x.sealing = true
	return append(out, Seal{j})
}

// considerEnd gives up a range that the ring gives to another, some at a time; all at
// once if this worker is to be silent.
func (s *State) considerEnd(now time.Time, r job.Range, x *tenancy, out []Effect) []Effect {
	moves := s.budget > 0 && now.Sub(s.since) >= steady && !s.ring.Frozen() && s.ring.Choice(ledger.RangeThing(r)) != 0
	if !moves && !s.silent {
		return out
	}
	s.budget--
	x.phase = ending
	return append(out, End{r})
}
