package sim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"crier/job"
	"crier/state/ledger"
	"crier/state/parked"
	"crier/worker/arrivals"
	"crier/worker/home"
	"crier/worker/journal"
	"crier/worker/lane"
	"crier/worker/outbound"
	"crier/worker/tenure"
)

var background = context.Background()

func isNoRecord(err error) bool { return errors.Is(err, ledger.ErrNoRecord) }

// boot starts a worker: it takes over from its former starts, and then works.
func (x *worker) boot() {
	w := x.w
	w.start(x.p)
	s := &start{x: x, w: w, p: x.p, claims: map[ledger.Thing]ledger.Claim{}, members: newMembership(),
		presence: newWhereabouts(w.rules.LateLeaveClears), known: map[job.Journal]bool{},
		tickets: map[journal.Ticket]func(journal.Durable, bool){}, sent: map[sliceKey]bool{}, slices: map[ledger.Thing]bool{},
		charging: map[job.Range][]func(func()){}, charged: map[uint64]func(bool){}, verdicts: map[blockSpan]*ledger.Charge{},
		full: map[job.Incarnation]bool{}, begun: map[job.Range]time.Duration{}, fresh: map[job.Range]bool{}, early: map[job.Ref]bool{},
		ended: map[job.Range]map[jobID]bool{}, redirects: map[job.Ref]*redirect{}, handled: map[job.Ref]bool{}, table: newTable(), since: w.now}
	s.arrivals = arrivals.NewIntake(s.presence)
	x.run = s
	x.starts++ // kept on its disk: two starts never have one number
	s.mine = job.Journal{Worker: x.name, Incarnation: x.starts}
	if !w.restore(s) {
		return
	}
	s.whenReachable(s.takeOver)
}

// whenReachable runs once the ledger answers.
func (s *start) whenReachable(fn func()) {
	s.w.lastOf(s.p, s.w.ledger, "led.fold", func(_ ledger.Stored, err error) {
		if err == nil || isNoRecord(err) {
			fn()
			return
		}
		s.after(ledgerRetry, func() { s.whenReachable(fn) })
	})
}

// takeOver seals the journals of this worker's former starts.
func (s *start) takeOver() {
	for _, subj := range s.w.ledger.Under("led.j." + s.x.name + ".") {
		j, err := ledger.JournalOf(subj)
		if err != nil {
			panic(err)
		}
		s.former = append(s.former, j)
		s.mine.Incarnation = max(s.mine.Incarnation, j.Incarnation+1)
	}
	s.w.trace("%s begins as %s", s.x.name, s.mine)
	s.sealFormer(0)
}

func (s *start) sealFormer(n int) {
	if n < len(s.former) {
		s.seal(s.former[n], s.w.now+time.Hour, func(bool) { s.sealFormer(n + 1) })
		return
	}
	s.whenReachable(func() {
		s.readAll()
		s.inherit(0, nil)
	})
}

// readAll brings the index up to the end of the ledger.
func (s *start) readAll() {
	for seq := max(1, s.index.Watermark()); seq <= s.w.ledger.Len(); seq++ {
		st, ok := s.w.ledger.At(seq)
		if !ok || kindOf(st.Subject) != ofJournal {
			continue
		}
		if _, err := s.index.Apply(background, st); err != nil {
			s.w.fail("I22", "the index of %s, built again: %v", s.mine, err)
			s.w.kill(s.p)
			return
		}
	}
}

// inherit claims what this worker's former journals left open.
func (s *start) inherit(n int, out []outbound.Inherited) {
	if n == len(s.former) {
		s.work(out)
		return
	}
	j := s.former[n]
	open := s.openOf(j)
	if len(open) == 0 {
		s.closed = append(s.closed, j)
		s.inherit(n+1, out)
		return
	}
	s.take(ledger.JournalThing(j), time.Hour, func(c ledger.Claim, err error) {
		switch {
		case errors.Is(err, ledger.ErrHeld):
			s.inherit(n+1, out)
		case err != nil: // the process would end, and be started again
			s.after(ledgerRetry, func() { s.inherit(n, out) })
		default:
			s.had, s.closed = append(s.had, c), append(s.closed, j)
			s.inherit(n+1, append(out, s.openOf(j)...))
		}
	})
}

// work begins the worker's life.
func (s *start) work(inherited []outbound.Inherited) {
	w := s.w
	for seq := uint64(1); seq <= w.ledger.Len(); seq++ {
		switch st, _ := w.ledger.At(seq); kindOf(st.Subject) {
		case ofClaim:
			s.takeClaim(st)
		case ofJob:
			s.table.takeJob(st)
		}
	}
	for seq := uint64(1); seq <= w.controls.Len(); seq++ {
		st, _ := w.controls.At(seq)
		s.table.takeControl(st)
	}
	s.lanes, s.outbound, s.home = lane.New(3), outbound.New(s.mine, s.closed...), home.New()
	s.tenure = tenure.New(s.mine, tenure.Alone{})
	if w.apta {
		s.member = newMember(s)
	}
	s.ring = s.x.look()
	s.tenure = tenure.New(s.mine, s.ring)
	// Shared by one: so few log in here at a time that it would hardly ever rest.
	state, effects := journal.New(journal.Config{Journal: s.mine, Boot: fmt.Sprint("boot", s.x.boot_), Nonce: w.nonce, Shared: 1})
	s.journal = state
	s.ready = true
	s.doJournal(effects)
	for _, in := range inherited {
		s.doOutbound(s.outbound.Step(s.now(), in))
	}
	for _, ev := range s.whatIsKnown() {
		s.doTenure(s.tenure.Step(s.now(), ev))
	}
	if s.x.silent {
		s.doTenure(s.tenure.Step(s.now(), tenure.Silence{On: true}))
	}
	w.follow(s.p, w.ledger, ofJournal, s.index.Watermark(), s.feed, nil)
	w.follow(s.p, w.ledger, ofClaim, w.ledger.Len()+1, s.takeClaim, nil)
	w.follow(s.p, w.ledger, ofJob, w.ledger.Len()+1, s.table.takeJob, nil)
	w.follow(s.p, w.controls, ofControl, w.controls.Len()+1, s.takeControl, s.controlsCaughtUp)
	w.every(s.p, tickEvery, s.tick)
	if !w.apta {
		w.every(s.p, renewEvery, s.x.renew)
		w.every(s.p, helloEvery, s.x.hello)
	}
	w.every(s.p, sweepEvery, s.sweep)
	w.every(s.p, time.Second, s.watchGateways)
	if s.x.sched {
		s.sch = newScheduler(s)
		w.every(s.p, time.Second, s.sch.round)
	}
}

func (s *start) whatIsKnown() []tenure.Event {
	var out []tenure.Event
	for _, c := range s.had {
		out = append(out, tenure.Has{Claim: c})
	}
	journals := s.index.Journals()
	var names []job.Journal
	for j := range journals {
		names = append(names, j)
	}
	slices.SortFunc(names, func(a, b job.Journal) int {
		return cmp.Or(cmp.Compare(a.Worker, b.Worker), cmp.Compare(a.Incarnation, b.Incarnation))
	})
	for _, j := range names {
		s.known[j] = journals[j]
		if s.sealed(j) {
			out = append(out, tenure.Sealed{Journal: j, Open: len(s.openOf(j)) > 0})
		} else if j != s.mine {
			out = append(out, tenure.Seen{Journal: j})
		}
	}
	var things []ledger.Thing
	for t := range s.claims {
		things = append(things, t)
	}
	slices.SortFunc(things, func(a, b ledger.Thing) int { return cmp.Compare(a.String(), b.String()) })
	for _, t := range things {
		if t.Kind == ledger.ClaimRange || t.Kind == ledger.ClaimJournal {
			out = append(out, tenure.Claimed{Claim: s.claims[t]})
		}
	}
	return out
}

func (s *start) takeClaim(st ledger.Stored) {
	c, err := ledger.ParseClaim(st)
	if err != nil {
		panic(err)
	}
	s.claims[c.Thing()] = c
	if s.ready {
		s.post(func() { s.doTenure(s.tenure.Step(s.now(), tenure.Claimed{Claim: c})) })
	}
}

func (s *start) takeControl(st ledger.Stored) {
	id, sum := s.table.takeControl(st)
	s.post(func() { s.doLanes(s.lanes.Step(s.now(), lane.Control{Job: id, Controls: sum})) })
}

func (s *start) controlsCaughtUp() {
	s.table.sure = s.w.now
	s.post(func() { s.doLanes(s.lanes.Step(s.now(), lane.CaughtUp{})) })
}

// home is the worker that is home to a range, for all this start knows; nil if nobody.
func (s *start) homeOf(r job.Range) *worker {
	return s.w.worker(s.claims[ledger.RangeThing(r)].Journal.Worker)
}

func (w *World) worker(name string) *worker {
	for _, x := range w.workers {
		if x.name == name {
			return x
		}
	}
	return nil
}

// restore opens the index, from a checkpoint if the ledger does not reach back to where
// the disk is.
func (w *World) restore(s *start) bool {
	x := s.x
	if mark, err := parked.Watermark(x.disk); err != nil {
		panic(err)
	} else if w.checkpoint != nil && mark < w.checkpointAt {
		x.disk = newDisk()
		if err := parked.Restore(x.disk, w.checkpointReader()); err != nil {
			panic(err)
		}
		w.counts.Restores++
	}
	index, err := parked.New(background, x.disk, packages{w}, w.ledger)
	if err != nil {
		w.fail("I22", "opening the index of %s: %v", x.name, err)
		return false
	}
	s.index = index
	return true
}
