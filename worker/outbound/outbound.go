// Package outbound is the pure core that carries every reserve of a journal from
// durable to closed: it hands the targets to the gateway incarnations, asks again
// until they answer, turns their reports into done entries, tells them what was
// recorded, and fences what an earlier journal left open (protocol rules 9 to 13).
//
// It guarantees that the targets of a reserve are offered to no incarnation but
// their own, that nothing is closed before the gateway's final word, or the end of
// its incarnation, is in the ledger, and that a gateway is never told that
// something is recorded which is not.
//
// Each Send is answered by one Answered or Lost, each SendFence by one Fenced or
// Lost, each Append by one Recorded, unless the journal stops. Late copies and
// reports in any order do no harm.
//
// Memory: about 200 bytes and its targets for each open reserve and incarnation,
// and about 200 bytes for each incarnation that a journal ever named.
package outbound

import (
	"slices"
	"time"

	"crier/internal/idset"
	"crier/job"
	"crier/presence/handoff"
	"crier/state/ledger"
)

// Limits of patience. A lane goes on after LaneWait although a gateway has not
// answered; what is open there counts against MaxSilent.
const (
	firstRetry = 100 * time.Millisecond
	lastRetry  = 2 * time.Second
	askAgain   = 5 * time.Second // after silence of a gateway that accepted
	LaneWait   = time.Second
	// DoubtAfter is how long an incarnation may be silent about a reserve before
	// its open targets are in doubt.
	DoubtAfter = 30 * time.Second
	// MaxSilent is the number of reserves without an answer from which on later
	// blocks treat an incarnation's recipients as offline (rule 11).
	MaxSilent = 8
)

// Key names one reserve at one incarnation.
type Key struct {
	Ref job.Ref
	Inc job.Incarnation
}

// flight is one reserve at one incarnation, until it is closed.
type flight struct {
	Key
	job       job.ID
	rng       job.Range
	urgent    uint8
	open      *idset.Set // not yet closed by a durable done
	left      *idset.Set // what the done on its way leaves open
	away      *idset.Set // who was not there, or had no room, by the done on its way; nil: nobody
	inherited bool       // of a sealed journal: fence, never hand off
	answered  bool
	released  bool // the lane no longer waits for it
	closed    bool
	withBody  bool
	heard     time.Time // when the gateway last said something of it; at first, when it was reserved
	next      time.Time // when to ask (again); zero while a question is out
	tries     int
	recording recording
	doubted   bool            // a doubt that is not final is in the ledger, and no done after it
	version   uint32          // of the report recorded last, or being recorded
	latest    *handoff.Report // newer, to be recorded after it
}

// recording is what entry of a flight is being appended.
type recording uint8

const (
	nothing recording = iota
	aDone
	aDoubt
	aFinalDoubt
)

// channel is the flights of one journal at one incarnation.
type channel struct {
	journal job.Journal
	inc     job.Incarnation
	flights []*flight // ascending by reference
	fencing bool      // a fence is out: one answers for all of a journal's reserves
	fences  int       // since one was answered
	settled job.Ref   // everything up to here is closed
	high    job.Ref   // the last one closed
}

// State is the core's state. The zero value is not usable; see New.
type State struct {
	mine     job.Journal
	owned    map[job.Journal]bool // mine, former ones, and those whose open reserves were inherited
	channels []*channel
	waits    map[job.Ref]int // reserves whose lane waits, and for how many answers
	over     map[string]over // by gateway
}

// New makes the core for the owner of a journal. Of former journals, which are sealed,
// nothing is open but what is handed over by Inherited before any other event.
func New(mine job.Journal, former ...job.Journal) *State {
	s := &State{mine: mine, owned: map[job.Journal]bool{mine: true}, waits: map[job.Ref]int{}, over: map[string]over{}}
	for _, j := range former {
		s.owned[j] = true
	}
	return s
}

// Event is one of Reserved, Inherited, Closed, Answered, Fenced, Lost, Reported, Recorded,
// Over, Tick.
type Event interface{ event() }

// Reserved says that a reserve or drain of this journal is durable.
type Reserved struct {
	Ref     job.Ref
	Job     job.ID
	Range   job.Range
	Urgent  uint8
	Targets ledger.Targets
	Late    bool // too late to be sent: nobody is asked, and its targets are parked again
}

// Inherited hands over the open rest of a reserve of a sealed journal that this
// worker has claimed. All that is open of a journal, in doubt or not, is handed over
// before any other event that names it: what is not is taken as closed.
type Inherited struct {
	Key
	Job     job.ID
	Range   job.Range
	Open    *idset.Set
	Doubted bool // the ledger has a doubt about it that is not final
}

// Closed says that a sealed journal has nothing open: reports about it are answered.
type Closed struct{ Journal job.Journal }

// Answered is a gateway's reply to a hand-off.
type Answered struct {
	Key
	Answer *handoff.Answer
}

// Fenced is a gateway's reply to a fence.
type Fenced struct {
	Journal job.Journal
	Inc     job.Incarnation
	Answer  *handoff.Answer
}

// Lost says that a hand-off (Ref set) or a fence (only Journal set) got no reply.
type Lost struct {
	Journal job.Journal
	Key
}

// Reported is a report that a gateway sent by itself.
type Reported struct{ Report *handoff.Report }

// Recorded says that the entry of an Append stands in the ledger.
type Recorded struct{ Key }

// Over says that an incarnation is over, as the ledger has it (rule 24). It is told again
// after a restart, before any report comes.
type Over struct{ Inc job.Incarnation }

// Tick lets time pass.
type Tick struct{}

func (Reserved) event()  {}
func (Inherited) event() {}
func (Closed) event()    {}
func (Answered) event()  {}
func (Fenced) event()    {}
func (Lost) event()      {}
func (Reported) event()  {}
func (Recorded) event()  {}
func (Over) event()      {}
func (Tick) event()      {}

// Effect is one of Send, SendFence, Append, Tell, Freed, Handled.
type Effect interface{ effect() }

// Send asks a gateway; the answer comes back as Answered or Lost.
type Send struct {
	Handoff  *handoff.Handoff
	WithBody bool // attach the job's message
}

// Key names what is asked about.
func (e Send) Key() Key { return Key{e.Handoff.Ref, e.Handoff.To} }

// SendFence asks a gateway; the answer comes back as Fenced or Lost.
type SendFence struct{ Fence *handoff.Fence }

// Append asks for a done or doubt entry; Recorded comes back when it is durable.
type Append struct {
	Key
	Entry ledger.Entry
}

// Tell publishes what was recorded to the gateway.
type Tell struct{ Recorded *handoff.Recorded }

// Freed says of which recipients of a range one message is not at an incarnation any more, as the
// ledger has it, and who of them was not there or had no room.
type Freed struct {
	Range job.Range
	Who   *idset.Set
	Away  *idset.Set // nil: nobody
}

// Handled says that every gateway of a reserve answered, or that the lane has
// waited long enough.
type Handled struct{ Ref job.Ref }

func (Send) effect()      {}
func (SendFence) effect() {}
func (Append) effect()    {}
func (Tell) effect()      {}
func (Freed) effect()     {}
func (Handled) effect()   {}

// Step takes one event in and says what to do.
func (s *State) Step(now time.Time, ev Event) []Effect {
	switch ev := ev.(type) {
	case Reserved:
		return s.reserved(now, ev)
	case Inherited:
		return s.inherited(now, ev)
	case Closed:
		s.owned[ev.Journal] = true
	case Answered:
		if c, f := s.find(ev.Key); f != nil {
			return s.answered(now, c, f, ev.Answer)
		}
	case Fenced:
		return s.fenced(now, ev)
	case Lost:
		s.lost(now, ev)
	case Reported:
		return s.report(now, ev.Report)
	case Recorded:
		if c, f := s.find(ev.Key); f != nil {
			return s.recorded(now, c, f)
		}
	case Over:
		s.endOf(now, ev.Inc)
	case Tick:
		return s.tick(now)
	}
	return nil
}

// Incarnations lists those with anything open, in the order first met.
func (s *State) Incarnations() []job.Incarnation {
	var out []job.Incarnation
	for _, c := range s.channels {
		if len(c.flights) > 0 && !slices.Contains(out, c.inc) {
			out = append(out, c.inc)
		}
	}
	return out
}

// Owns reports whether reports about a journal are this core's to answer.
func (s *State) Owns(j job.Journal) bool { return s.owned[j] }

// SilentAt counts the reserves for which an incarnation has not answered within
// LaneWait, or no longer answers. Those that are merely on their way do not count:
// a gateway that is busy for a moment must not have its recipients parked.
func (s *State) SilentAt(now time.Time, inc job.Incarnation) int {
	n := 0
	for _, c := range s.channels {
		if c.inc != inc {
			continue
		}
		for _, f := range c.flights {
			if f.doubted || !f.answered && now.Sub(f.heard) >= LaneWait {
				n++
			}
		}
	}
	return n
}

// Open counts everything that is not closed.
func (s *State) Open() int {
	n := 0
	for _, c := range s.channels {
		n += len(c.flights)
	}
	return n
}

// channel gives the channel of a journal at an incarnation, or nil.
func (s *State) channel(j job.Journal, inc job.Incarnation) *channel {
	for _, c := range s.channels {
		if c.journal == j && c.inc == inc {
			return c
		}
	}
	return nil
}

// find gives the flight and its channel; each is nil if there is none.
func (s *State) find(k Key) (*channel, *flight) {
	c := s.channel(k.Ref.Journal, k.Inc)
	if c == nil {
		return nil, nil
	}
	if i, ok := c.place(k.Ref); ok {
		return c, c.flights[i]
	}
	return c, nil
}

// place is where a reserve is, or belongs, among the flights.
func (c *channel) place(ref job.Ref) (int, bool) {
	return slices.BinarySearchFunc(c.flights, ref, func(f *flight, ref job.Ref) int {
		switch {
		case f.Ref.Before(ref):
			return -1
		case ref.Before(f.Ref):
			return 1
		}
		return 0
	})
}

// add enters a flight and gives its channel, or nil if it was there.
func (s *State) add(f *flight) *channel {
	c := s.channel(f.Ref.Journal, f.Inc)
	if c == nil {
		c = &channel{journal: f.Ref.Journal, inc: f.Inc}
		s.channels = append(s.channels, c)
	}
	i, ok := c.place(f.Ref)
	if ok {
		return nil
	}
	c.flights = slices.Insert(c.flights, i, f)
	return c
}

func (s *State) reserved(now time.Time, ev Reserved) []Effect {
	var out []Effect
	for i, inc := range ev.Targets.Incs {
		if ev.Targets.Sets[i].IsEmpty() {
			continue
		}
		f := &flight{Key: Key{ev.Ref, inc}, job: ev.Job, rng: ev.Range, urgent: ev.Urgent, open: ev.Targets.Sets[i], heard: now}
		if c := s.add(f); c != nil {
			if ev.Late || s.isOver(inc) {
				out = append(out, s.neverAsked(f)...)
				continue
			}
			s.waits[ev.Ref]++
			out = append(out, s.ask(c, f))
		}
	}
	if s.waits[ev.Ref] == 0 {
		delete(s.waits, ev.Ref)
		out = append(out, Handled{ev.Ref})
	}
	return out
}

func (s *State) inherited(now time.Time, ev Inherited) []Effect {
	s.owned[ev.Ref.Journal] = true
	f := &flight{Key: ev.Key, job: ev.Job, rng: ev.Range, open: ev.Open, inherited: true, released: true, doubted: ev.Doubted, heard: now}
	if c := s.add(f); c != nil && !c.fencing {
		return []Effect{s.ask(c, f)}
	}
	return nil
}

// ask sends the hand-off, or the fence if the reserve is inherited.
func (s *State) ask(c *channel, f *flight) Effect {
	f.next = time.Time{}
	if f.inherited {
		c.fencing = true
		c.fences++
		return SendFence{&handoff.Fence{Journal: c.journal, To: c.inc, By: s.mine}}
	}
	f.tries++
	return Send{WithBody: f.withBody, Handoff: &handoff.Handoff{Ref: f.Ref, To: f.Inc, Job: f.job, Urgent: f.urgent,
		Targets: f.open, Settled: c.settled}}
}

// backOff is how long to wait after so many questions without an answer.
func backOff(tries int) time.Duration { return min(firstRetry<<min(tries, 6), lastRetry) }

func (s *State) answered(now time.Time, c *channel, f *flight, a *handoff.Answer) []Effect {
	switch a.Kind {
	case handoff.NeedBody:
		if !f.withBody {
			f.withBody = true
			return []Effect{s.ask(c, f)}
		}
	case handoff.Accepted:
		if len(a.Reports) == 1 && a.Reports[0].Ref == f.Ref && a.Reports[0].Inc == f.Inc {
			return s.report(now, &a.Reports[0])
		}
	case handoff.Over, handoff.Unreadable:
		return s.lastWord(now, f, a)
	}
	// In progress, or a gateway that cannot tell. Fenced means that this journal is
	// sealed, which its owner learns from the ledger.
	f.next = now.Add(backOff(f.tries))
	return nil
}

// heard notes that the gateway has answered for a flight: its lane need not wait,
// and it is asked again only after a silence.
func (s *State) heard(now time.Time, f *flight) []Effect {
	f.answered, f.withBody, f.tries = true, false, 0
	f.heard, f.next = now, now.Add(askAgain)
	return s.release(f)
}

func (s *State) release(f *flight) []Effect {
	if f.released {
		return nil
	}
	f.released = true
	s.waits[f.Ref]--
	if s.waits[f.Ref] > 0 {
		return nil
	}
	delete(s.waits, f.Ref)
	return []Effect{Handled{f.Ref}}
}

func (s *State) fenced(now time.Time, ev Fenced) []Effect {
	c := s.channel(ev.Journal, ev.Inc)
	if c == nil {
		return nil
	}
	switch ev.Answer.Kind {
	case handoff.Accepted, handoff.Fenced, handoff.Over, handoff.Unreadable:
	default:
		c.fenceLost(now)
		return nil
	}
	c.fencing, c.fences = false, 0
	var out []Effect
	for _, f := range c.flights {
		if f.inherited {
			out = append(out, s.lastWord(now, f, ev.Answer)...)
		}
	}
	return out
}

func (s *State) lost(now time.Time, ev Lost) {
	if !ev.Ref.IsZero() {
		if _, f := s.find(ev.Key); f != nil {
			f.next = now.Add(backOff(f.tries))
		}
		return
	}
	if c := s.channel(ev.Journal, ev.Inc); c != nil {
		c.fenceLost(now)
	}
}

// fenceLost makes the fence to be sent again.
func (c *channel) fenceLost(now time.Time) {
	c.fencing = false
	for _, f := range c.flights {
		if f.inherited {
			f.next = now.Add(backOff(c.fences))
		}
	}
}
