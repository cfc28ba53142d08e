// Package lane is the pure core of a worker's lanes: which block comes next, of
// which job, at which rate.
//
// It guarantees that an urgent job waits for at most one block per lane, that no
// second sees more recipients of a job handed over than its rate, whatever number
// of its slices this worker has, that nothing new starts for a job that is paused,
// cancelled, recalled or whose controls may be out of date, and that every span of a slice is
// taken once.
//
// Each Prepare is answered by one Prepared or Failed, each Append by one Reserved
// or Refused, each Reserved by one Handled.
package lane

import (
	"cmp"
	"slices"
	"time"

	"crier/job"
	"crier/state/ledger"
)

// ControlsMaxAge is how old the knowledge of a job's controls may be (protocol:
// a sender that has not caught up with them for 3 s stops).
const ControlsMaxAge = 3 * time.Second

// Slice is the part of a job that this worker has claimed.
type Slice struct {
	Job       job.ID
	Number    uint32
	Class     job.Class
	Priority  uint8
	Rate      uint32 // recipients a second; 0 is unlimited
	Submitted time.Time
	Expires   time.Time
	Todo      []job.Span // not reserved yet, ascending, each inside one range
}

// Task asks for a block to be worked out: the ids of the package in a leading part
// of Span, filtered and split, with at most Budget targets.
type Task struct {
	Lane   int
	Job    job.ID
	Slice  uint32
	Span   job.Span
	Budget int         // most targets; 0 is unlimited
	Void   job.Outcome // Cancelled, Recalled or Expired: nothing is filtered or sent; else Parked
}

// State is the core's state. The zero value is not usable; see New.
type State struct {
	lanes    []laneState
	slices   []*slice
	jobs     map[job.ID]*sending
	caughtUp time.Time // when the controls were last known to be complete
}

type phase uint8

const (
	idle phase = iota
	preparing
	reserving
	handing
)

type laneState struct {
	phase   phase
	since   time.Time // in this phase
	slice   *slice
	span    job.Span
	sends   bool // its block may have targets
	ref     job.Ref
	targets int
}

type slice struct {
	Slice
	controls job.Controls
	active   int // lanes at work for it
	job      *sending
	failed   bool
	dropped  bool // it is given up: no block of it is begun or reserved
}

// sending is what all slices of a job share: its rate.
type sending struct {
	slices  int
	blocks  int // being worked out or reserved, that may have targets
	pending int // targets of those being reserved
	pace    pace
}

// New makes a core with a number of lanes.
func New(lanes int) *State {
	return &State{lanes: make([]laneState, lanes), jobs: map[job.ID]*sending{}}
}

// Event is one of Assign, Prepared, Failed, Reserved, Refused, Handled, Control,
// CaughtUp, Drop, Due, Tick.
type Event interface{ event() }

// Assign gives the lanes a slice.
type Assign struct {
	Slice    Slice
	Controls job.Controls
}

// Prepared is the answer to a Task: Took is the leading part of its span that was
// worked out, Reserve its verdict (nil if the package has no id there).
type Prepared struct {
	Lane    int
	Took    job.Span
	Reserve *ledger.Reserve
}

// Failed says that a Task could not be worked out; it is tried again at the next Tick.
type Failed struct{ Lane int }

// Reserved says that the lane's reserve is durable.
type Reserved struct {
	Lane int
	Ref  job.Ref
}

// Refused says that the lane's reserve was not and will not be appended.
type Refused struct{ Lane int }

// Handled says that a reserve's gateways have answered.
type Handled struct{ Ref job.Ref }

// Control replaces the sum of a job's controls.
type Control struct {
	Job      job.ID
	Controls job.Controls
}

// CaughtUp says that all controls stored so far have been passed on.
type CaughtUp struct{}

// Drop gives up all slices: each is Dropped when its blocks under way are through.
type Drop struct{}

// Due lets the lanes take what a rate allows by now; NextDue says when.
type Due struct{}

// Tick lets time pass.
type Tick struct{}

func (Assign) event()   {}
func (Prepared) event() {}
func (Failed) event()   {}
func (Reserved) event() {}
func (Refused) event()  {}
func (Handled) event()  {}
func (Control) event()  {}
func (CaughtUp) event() {}
func (Drop) event()     {}
func (Due) event()      {}
func (Tick) event()     {}

// Effect is one of Prepare, Append, SliceSent, Dropped.
type Effect interface{ effect() }

// Prepare asks for a block to be worked out; Prepared or Failed comes back.
type Prepare struct{ Task Task }

// Append asks for a reserve to be made durable; Reserved or Refused comes back.
type Append struct {
	Lane    int
	Urgent  uint8
	Reserve *ledger.Reserve
}

// SliceSent says that every id of a slice is reserved and its gateways have answered.
type SliceSent struct {
	Job    job.ID
	Number uint32
}

// Dropped says that nothing of a slice that was given up is under way any more, and that
// the last second of its job's rate is over: another may go on with it.
type Dropped struct {
	Job    job.ID
	Number uint32
}

func (Dropped) effect()   {}
func (Prepare) effect()   {}
func (Append) effect()    {}
func (SliceSent) effect() {}

// Step takes one event in and says what to do.
func (s *State) Step(now time.Time, ev Event) []Effect {
	var out []Effect
	switch ev := ev.(type) {
	case Assign:
		s.assign(ev)
	case Control:
		for _, x := range s.slices {
			if x.Job == ev.Job {
				x.controls = ev.Controls
			}
		}
	case CaughtUp:
		s.caughtUp = now
	case Drop:
		for _, x := range s.slices {
			x.dropped = true
		}
	case Prepared:
		out = s.prepared(now, ev)
	case Failed:
		s.failed(ev.Lane, preparing)
	case Reserved:
		s.reserved(now, ev)
	case Refused:
		s.failed(ev.Lane, reserving)
	case Handled:
		for i := range s.lanes {
			if l := &s.lanes[i]; l.phase == handing && l.ref == ev.Ref {
				l.slice.job.pace.answered(now, l.targets)
				s.free(l)
			}
		}
	case Tick:
		s.tick(now)
	}
	return s.fill(now, out)
}

// tick lets what failed be tried again, and forgets jobs without slices once their
// last second is over.
func (s *State) tick(now time.Time) {
	for _, x := range s.slices {
		x.failed = false
	}
	for id, j := range s.jobs {
		if j.pace.forget(now); j.slices == 0 && j.pace.idle() {
			delete(s.jobs, id)
		}
	}
}

// Holds reports whether the lanes have this slice.
func (s *State) Holds(id job.ID, number uint32) bool {
	return slices.ContainsFunc(s.slices, func(x *slice) bool { return x.Job == id && x.Number == number })
}

// Busy is the number of lanes that are at work.
func (s *State) Busy() int {
	n := 0
	for _, l := range s.lanes {
		if l.phase != idle {
			n++
		}
	}
	return n
}

func (s *State) assign(ev Assign) {
	if s.Holds(ev.Slice.Job, ev.Slice.Number) {
		return
	}
	x := &slice{Slice: ev.Slice, controls: ev.Controls, job: s.jobs[ev.Slice.Job]}
	x.Todo = slices.Clone(x.Todo)
	if x.job == nil {
		x.job = &sending{}
		s.jobs[x.Job] = x.job
	}
	x.job.slices++
	s.slices = append(s.slices, x)
	slices.SortStableFunc(s.slices, func(a, b *slice) int {
		return cmp.Or(cmp.Compare(b.urgency(), a.urgency()), a.Submitted.Compare(b.Submitted), slices.Compare(a.Job[:], b.Job[:]),
			cmp.Compare(a.Number, b.Number))
	})
}

// urgency is the priority of a real-time job, and 0 for every normal one.
func (x *slice) urgency() uint8 {
	if x.Class == job.Realtime {
		return x.Priority
	}
	return 0
}

func (x *slice) rate() uint32 {
	if x.controls.Rate != nil {
		return *x.controls.Rate
	}
	return x.Rate
}

// void is the outcome for what is left of the slice if it may not be sent any more.
func (x *slice) void(now time.Time) job.Outcome {
	over := x.controls.Over()
	if over == job.Parked && !now.Before(x.Expires) {
		return job.Expired
	}
	return over
}

// mayStart reports whether a block of the slice may be begun and sent, the rate apart.
func (x *slice) mayStart(now, caughtUp time.Time) bool {
	return len(x.Todo) > 0 && !x.failed && !x.dropped && !x.stopped(now, caughtUp)
}

// stopped reports whether nothing of the slice may be sent now.
func (x *slice) stopped(now, caughtUp time.Time) bool {
	return x.controls.Paused || x.void(now) != job.Parked || now.Sub(caughtUp) > ControlsMaxAge
}

// ready reports whether a lane may take a block of the slice now, and how many
// targets it may have (0: any number).
func (x *slice) ready(now, caughtUp time.Time) (budget int, ok bool) {
	if len(x.Todo) > 0 && !x.failed && !x.dropped && x.void(now) != job.Parked {
		return 0, true
	}
	if !x.mayStart(now, caughtUp) {
		return 0, false
	}
	rate := x.rate()
	if rate == 0 {
		return 0, true
	}
	if x.job.blocks > 0 { // one block of the job at a time, so that the budget is exact
		return 0, false
	}
	budget = x.job.pace.budget(now, rate)
	return budget, budget > 0
}

// fill gives idle lanes their next blocks and reports slices that are through.
func (s *State) fill(now time.Time, out []Effect) []Effect {
	for i := range s.lanes {
		l := &s.lanes[i]
		if l.phase != idle {
			continue
		}
		x, budget := s.pick(now)
		if x == nil {
			break
		}
		void := x.void(now)
		*l = laneState{phase: preparing, since: now, slice: x, span: x.Todo[0], sends: void == job.Parked}
		x.Todo = x.Todo[1:]
		x.active++
		if l.sends {
			x.job.blocks++
		}
		out = append(out, Prepare{Task{Lane: i, Job: x.Job, Slice: x.Number, Span: l.span, Budget: budget, Void: void}})
	}
	s.slices = slices.DeleteFunc(s.slices, func(x *slice) bool {
		switch {
		case x.active > 0:
			return false
		case len(x.Todo) == 0:
			out = append(out, SliceSent{x.Job, x.Number})
		case x.dropped && x.job.pace.idle():
			out = append(out, Dropped{x.Job, x.Number})
		default:
			return false
		}
		x.job.slices--
		return true
	})
	return out
}

func (s *State) pick(now time.Time) (*slice, int) {
	for _, x := range s.slices {
		if budget, ok := x.ready(now, s.caughtUp); ok {
			return x, budget
		}
	}
	return nil, 0
}

func (s *State) free(l *laneState) {
	if l.sends && l.phase != handing {
		l.slice.job.blocks--
	}
	l.slice.active--
	*l = laneState{}
}

// giveBack returns a span to the front of what is to do.
func (x *slice) giveBack(span job.Span) {
	if !span.IsEmpty() {
		x.Todo = slices.Insert(x.Todo, 0, span)
	}
}

// failed takes back the span of a lane in a phase; it is tried again at the next Tick.
func (s *State) failed(n int, in phase) {
	l := &s.lanes[n]
	if l.phase != in {
		return
	}
	l.slice.job.pending -= l.targets
	l.slice.failed = true
	l.slice.giveBack(l.span)
	s.free(l)
}

// prepared appends the block's reserve, unless the job may not go on: then the
// whole span waits, and nothing of the block was done.
func (s *State) prepared(now time.Time, ev Prepared) []Effect {
	l := &s.lanes[ev.Lane]
	if l.phase != preparing {
		return nil
	}
	x := l.slice
	if ev.Took.Lo != l.span.Lo || ev.Took.IsEmpty() || ev.Took.Hi > l.span.Hi {
		s.failed(ev.Lane, preparing)
		return nil
	}
	targets := 0
	if ev.Reserve != nil {
		targets = ev.Reserve.Targets.Card()
	}
	if ev.Reserve != nil && x.dropped || ev.Reserve != nil && l.sends && (x.stopped(now, s.caughtUp) || !x.fits(now, targets)) {
		x.giveBack(l.span)
		s.free(l)
		return nil
	}
	x.giveBack(job.Span{Lo: ev.Took.Hi, Hi: l.span.Hi})
	l.span = ev.Took
	if ev.Reserve == nil {
		s.free(l)
		return nil
	}
	l.phase, l.since, l.targets = reserving, now, targets
	x.job.pending += targets
	return []Effect{Append{Lane: ev.Lane, Urgent: x.urgency(), Reserve: ev.Reserve}}
}

// fits reports whether a block keeps to the rate, which may have been lowered since
// the block was begun.
func (x *slice) fits(now time.Time, targets int) bool {
	rate := x.rate()
	return rate == 0 || targets == 0 || targets+x.job.pending <= x.job.pace.room(now, rate)
}

func (s *State) reserved(now time.Time, ev Reserved) {
	l := &s.lanes[ev.Lane]
	if l.phase != reserving {
		return
	}
	j := l.slice.job
	j.pending -= l.targets
	if l.targets > 0 {
		j.pace.take(l.targets, l.slice.rate())
	}
	if l.sends {
		j.blocks--
	}
	l.phase, l.since, l.ref = handing, now, ev.Ref
}

// NextDue is when a rate allows the next block although nothing else happens; zero
// if nothing waits for time alone. It is later than the last Step.
func (s *State) NextDue(now time.Time) time.Time {
	var due time.Time
	if s.Busy() == len(s.lanes) {
		return due
	}
	for _, x := range s.slices {
		rate := x.rate()
		if rate == 0 || x.job.blocks > 0 || !x.mayStart(now, s.caughtUp) {
			continue
		}
		if at := x.job.pace.next(now, rate); due.IsZero() || at.Before(due) {
			due = at
		}
	}
	return due
}
