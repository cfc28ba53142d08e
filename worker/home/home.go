// Package home is the pure core of a range's home: it owns what happens to the
// recipients who are parked or in doubt there (protocol rules 18, 20 and 21).
//
// It guarantees that the passes over a range follow each other: a pass looks at
// the index only after everything that the pass before it decided is applied
// there, so that nothing is drained twice and nothing is stranded; that a pass is about a
// bounded part of those who wait to be looked at; and that it does nothing about a range
// between its End and its next Begin.
package home

import (
	"slices"

	"crier/internal/idset"
	"crier/job"
	"crier/presence/handoff"
	"crier/state/ledger"
)

// State is the core's state for all ranges. The zero value is not usable; see New.
type State struct {
	ranges  map[job.Range]*rangeState
	applied uint64
	waiting []job.Range // ranges whose entries are durable but not applied yet
	charged []Charged   // charges that are durable but not applied yet
	most    int         // recipients that a pass looks at
	limit   int         // messages that it drains to each
	ahead   int         // recipients for whom it plans more than that
}

type phase uint8

const (
	idle phase = iota
	looking
	appending
)

type rangeState struct {
	ending bool   // no other pass begins
	last   uint64 // sequence of the last entry that is durable
	phase  phase
	next   Pass
	now    Pass             // the one under way
	after  []handoff.Settle // of it
	until  uint64           // sequence that must be applied before the next look
	owing  []handoff.Settle // by then
	held   *idset.Set       // who has more waiting than the pass under way takes
	more   *idset.Set       // the same of passes that are durable
	load   map[uint32]load  // of those: what they have got and is not closed; without those who have nothing
	ready  *idset.Set       // those of more who have room for another turn
	rest   []Turn           // what they get then, as long as nothing else is to be looked at; for some ticks
	basis  uint64           // of the look
	wait   int              // ticks until the next pass may begin
	owed   int              // charges under way
	from   int              // container at which the next pass begins
}

// refusedTicks is how many ticks a pass waits after its entries were refused: the
// ledger is short of space, which does not change soon.
const refusedTicks = 3

// Pass is what the next look at a range is about.
type Pass struct {
	Range  job.Range
	Who    *idset.Set // recipients who may have something waiting
	Logins []Login
	Ending []job.ID // jobs that are over, or whose doubt is to end
}

func (p *Pass) isEmpty() bool {
	return p.Who.IsEmpty() && len(p.Logins) == 0 && len(p.Ending) == 0
}

// New makes the core.
func New() *State {
	return &State{ranges: map[job.Range]*rangeState{}, most: admitMost, limit: PassLimit, ahead: aheadMost}
}

// Event is one of Begin, End, Wanted, Ending, Found, Durable, Refused, Stale, Applied, Closed,
// Charge, Charged, Tick. All but the first and Applied change nothing for a range that is not begun.
type Event interface{ event() }

// Begin says that this worker is the range's home from now on.
type Begin struct{ Range job.Range }

// End says that it is to stop; Quiet comes when the pass under way is applied.
type End struct{ Range job.Range }

// Wanted says that recipients of a range may have something waiting: they came
// online, were parked while online, or a sweep found them.
type Wanted struct {
	Who    *idset.Set // kept
	Logins []Login
}

// Ending says that a job is over, or that its doubt is to end; it is repeated
// while anything of it is left in the range.
type Ending struct {
	Range job.Range
	Job   job.ID
}

// Found is the answer to a Look.
type Found struct{ Findings Findings }

// NotFound says that a Look could not be answered; it is tried again at the next Tick.
type NotFound struct{ Pass Pass }

// Durable says that all entries of the range's Append that were not refused are in the ledger, the
// last of them in record Seq.
type Durable struct {
	Range  job.Range
	Seq    uint64
	Partly bool // some were refused
}

// Refused says that the entries of the range's Append were not and will not be
// appended; the pass is made again some Ticks later.
type Refused struct{ Range job.Range }

// Stale says that the entries of the range's Append, which needed no look, were not appended
// because what the look before found is not so any more; there is another look at once.
type Stale struct{ Range job.Range }

// Applied says that the index has everything up to and including Seq.
type Applied struct{ Seq uint64 }

// Closed says of whom one message is not at an incarnation any more, which the ledger has: who had
// more waiting than one pass takes may have room for it, but for those to whom it did not get.
type Closed struct {
	Range job.Range
	Who   *idset.Set // for reading
	Away  *idset.Set // who of them was not there, or had no room; for reading; nil: nobody
}

// Charge asks for a charge to be made durable and applied, by a number of the asker's.
type Charge struct {
	ID    uint64
	Entry *ledger.Charge
}

// Charged says that a charge is in the ledger, in record Seq, or will not be (0).
type Charged struct {
	ID    uint64
	Range job.Range
	Seq   uint64
}

// Tick lets time pass: what was refused is tried again.
type Tick struct{}

func (Begin) event()    {}
func (End) event()      {}
func (Wanted) event()   {}
func (Ending) event()   {}
func (Found) event()    {}
func (NotFound) event() {}
func (Durable) event()  {}
func (Refused) event()  {}
func (Stale) event()    {}
func (Applied) event()  {}
func (Closed) event()   {}
func (Charge) event()   {}
func (Charged) event()  {}
func (Tick) event()     {}

// Effect is one of Look, Append, Settle, AppendCharge, ChargeEnded, Quiet.
type Effect interface{ effect() }

// Look asks for the findings of a pass; Found or NotFound comes back.
type Look struct{ Pass Pass }

// Append asks for entries to be made durable, in this order; Durable, Refused, or, without a
// look, Stale comes back.
type Append struct {
	Range   job.Range
	Entries []ledger.Entry
	Urgent  []uint8    // of each entry
	Looked  bool       // they are what the last look found; else what it found for later
	Basis   uint64     // then, that look's
	Who     *idset.Set // then, to whom they are drained
}

// Settle tells a gateway what clients may forget.
type Settle struct{ Settle handoff.Settle }

// AppendCharge asks for a charge to be made durable; Charged comes back.
type AppendCharge Charge

// ChargeEnded says that a charge is applied, or that it is none.
type ChargeEnded struct {
	ID      uint64
	Applied bool
}

// Quiet says that nothing about the range is under way any more, after an End.
type Quiet struct {
	Range job.Range
	After uint64 // sequence of the last entry about it since its Begin; 0 if there was none
}

func (Quiet) effect()        {}
func (Look) effect()         {}
func (Append) effect()       {}
func (Settle) effect()       {}
func (AppendCharge) effect() {}
func (ChargeEnded) effect()  {}

// Step takes one event in and says what to do.
func (s *State) Step(ev Event) []Effect {
	switch ev := ev.(type) {
	case Begin:
		s.ranges[ev.Range] = &rangeState{next: Pass{Range: ev.Range}, more: idset.New(ev.Range), load: map[uint32]load{}}
	case End:
		if x := s.ranges[ev.Range]; x != nil {
			x.ending = true
			return s.start(x)
		}
	case Wanted:
		x := s.ranges[ev.Who.Range]
		if x == nil {
			return nil
		}
		x.leaveOut(ev.Who, ev.Logins, s.limit)
		x.want(ev.Who.Range, ev.Who)
		x.next.Logins = append(x.next.Logins, ev.Logins...)
		return s.start(x)
	case Ending:
		x := s.ranges[ev.Range]
		if x == nil {
			return nil
		}
		if !slices.Contains(x.next.Ending, ev.Job) {
			x.next.Ending = append(x.next.Ending, ev.Job)
		}
		return s.start(x)
	case Found:
		return s.found(ev.Findings)
	case NotFound:
		x := s.ranges[ev.Pass.Range]
		x.again(ev.Pass, 1)
		return s.start(x)
	case Refused:
		x := s.ranges[ev.Range]
		x.again(x.now, refusedTicks)
		return s.start(x)
	case Stale:
		x := s.ranges[ev.Range]
		x.again(x.now, 0)
		return s.start(x)
	case Durable:
		return s.durable(ev)
	case Applied:
		s.applied = max(s.applied, ev.Seq)
		return s.arrive()
	case Closed:
		x := s.ranges[ev.Range]
		if x == nil {
			return nil
		}
		x.closed(ev.Who, ev.Away, s.limit)
		return s.start(x)
	case Charge:
		return s.charge(ev)
	case Charged:
		return s.isCharged(ev)
	case Tick:
		return s.tick()
	}
	return nil
}

// durable ends a pass; the next look waits until the index has it.
func (s *State) durable(ev Durable) []Effect {
	x := s.ranges[ev.Range]
	x.phase, x.now = idle, Pass{}
	x.until, x.last = max(x.until, ev.Seq), max(x.last, ev.Seq)
	x.owing, x.after = append(x.owing, x.after...), nil
	x.keep(s.limit, ev.Partly)
	if !slices.Contains(s.waiting, ev.Range) {
		s.waiting = append(s.waiting, ev.Range)
	}
	if x.until > s.applied {
		return s.start(x)
	}
	return s.arrive()
}

// charge has a charge appended while its range is this worker's.
func (s *State) charge(c Charge) []Effect {
	x := s.ranges[c.Entry.Range()]
	if x == nil || x.ending {
		return []Effect{ChargeEnded{ID: c.ID}}
	}
	x.owed++
	return []Effect{AppendCharge(c)}
}

// isCharged waits for the index to have a charge that is durable.
func (s *State) isCharged(c Charged) []Effect {
	if c.Seq == 0 {
		return s.chargeEnded(c, false)
	}
	x := s.ranges[c.Range]
	x.last = max(x.last, c.Seq)
	s.charged = append(s.charged, c)
	return s.arrive()
}

// chargeEnded lets a range go that only waited for its charges.
func (s *State) chargeEnded(c Charged, applied bool) []Effect {
	x := s.ranges[c.Range]
	x.owed--
	return append([]Effect{ChargeEnded{c.ID, applied}}, s.start(x)...)
}

func (x *rangeState) want(r job.Range, who *idset.Set) {
	if who.IsEmpty() {
		return
	}
	if x.next.Who == nil {
		x.next.Who = idset.New(r)
	}
	x.next.Who.Or(who)
}

// again puts back what a pass was about, to be tried some ticks later.
func (x *rangeState) again(p Pass, ticks int) {
	x.want(p.Range, p.Who)
	x.next.Logins = append(slices.Clip(p.Logins), x.next.Logins...)
	for _, id := range p.Ending {
		if !slices.Contains(x.next.Ending, id) {
			x.next.Ending = append(x.next.Ending, id)
		}
	}
	x.phase, x.wait, x.after, x.held, x.now, x.rest = idle, ticks, nil, nil, Pass{}, nil
}

// start begins a pass if none is under way, or lets the range go.
func (s *State) start(x *rangeState) []Effect {
	if x.phase == idle && x.ending && x.owed == 0 && x.until <= s.applied {
		delete(s.ranges, x.next.Range)
		return []Effect{Quiet{x.next.Range, x.last}}
	}
	if x.phase != idle || x.ending || x.wait > 0 {
		return nil
	}
	if x.next.isEmpty() && len(x.rest) > 0 && !x.ready.IsEmpty() && within(x.more, x.ready) && within(x.more, x.rest[0].Who) {
		return x.goOn()
	}
	if x.until > s.applied {
		return nil
	}
	if !x.ready.IsEmpty() {
		x.want(x.next.Range, x.ready)
		x.more.AndNot(x.ready)
		x.ready = nil
	}
	if x.next.isEmpty() {
		return nil
	}
	x.rest = nil // the look tells
	p, later := x.next, x.next.Who
	if p.Who = idset.New(p.Range); later != nil {
		p.Who, x.from = admit(later, x.from, s.most)
	}
	x.next, x.now = Pass{Range: p.Range, Who: later}, p
	x.phase = looking
	return []Effect{Look{p}}
}

func (s *State) found(f Findings) []Effect {
	x := s.ranges[f.Range]
	if x == nil || x.phase != looking {
		return nil
	}
	if x.ending {
		x.phase = idle
		return s.start(x)
	}
	f.limit, f.ahead = s.limit, s.ahead
	v := Plan(f)
	x.after, x.held, x.rest, x.basis = v.After, v.More, v.Rest, f.Basis
	var out []Effect
	for _, m := range v.Settle {
		out = append(out, Settle{m})
	}
	if len(v.Entries) == 0 {
		x.phase, x.now = idle, Pass{}
		return append(out, s.start(x)...)
	}
	x.phase = appending
	return append(out, Append{Range: f.Range, Entries: v.Entries, Urgent: v.Urgent, Looked: true})
}

// arrive ends the passes and charges whose entries are applied and starts the next ones.
func (s *State) arrive() []Effect {
	var out []Effect
	var left []job.Range
	for _, r := range s.waiting {
		x := s.ranges[r]
		if x.until > s.applied {
			left = append(left, r)
			continue
		}
		for _, m := range x.owing {
			out = append(out, Settle{m})
		}
		x.owing = nil
		out = append(out, s.start(x)...)
	}
	s.waiting = left
	charged := s.charged
	s.charged = nil
	for _, c := range charged {
		if c.Seq > s.applied {
			s.charged = append(s.charged, c)
			continue
		}
		out = append(out, s.chargeEnded(c, true)...)
	}
	return out
}

// tick tries again what failed.
func (s *State) tick() []Effect {
	var rs []job.Range
	for r := range s.ranges {
		rs = append(rs, r)
	}
	slices.Sort(rs)
	var out []Effect
	for _, r := range rs {
		x := s.ranges[r]
		x.wait, x.rest = max(0, x.wait-1), nil
		x.wane(s.limit)
		out = append(out, s.start(x)...)
	}
	return out
}
