package sim

import (
	"errors"
	"slices"
	"time"

	"crier/internal/idset"
	"crier/job"
	"crier/presence/handoff"
	"crier/state/ledger"
	"crier/worker/home"
	"crier/worker/lane"
	"crier/worker/outbound"
	"crier/worker/tenure"
)

// What others send to a worker.

func (x *worker) onReport(b []byte) {
	s := x.run
	if !s.ready {
		return
	}
	p := only(handoff.ParseReports(b))
	s.nobodys(p.Ref.Journal)
	if !s.w.rules.RedirectNotHere || !s.redirected(p) {
		s.doOutbound(s.outbound.Step(s.now(), outbound.Reported{Report: p}))
	}
}

// nobodys lets reports about another worker's journal be answered once that is sealed
// and nothing of it is open any more.
func (s *start) nobodys(j job.Journal) {
	if !s.outbound.Owns(j) && s.index.Sealed(j) && len(s.openOf(j)) == 0 {
		s.doOutbound(s.outbound.Step(s.now(), outbound.Closed{Journal: j}))
	}
}

func (x *worker) onWant(want *handoff.Want) {
	s := x.run
	if !s.ready {
		return
	}
	for _, r := range want.Ranges {
		if !s.has(r) {
			s.doTenure(s.tenure.Step(s.now(), tenure.Wanted{Range: r}))
		}
	}
}

func (w *World) publishWant(from *proc, want *handoff.Want) {
	for _, x := range w.workers {
		w.send(from, x.p, toWant, func() { x.onWant(want) })
	}
}

// onAnnounce takes an announcement in: presence first, then the home looks for what
// waits (rule 20), then the gateway is answered.
func (x *worker) onAnnounce(b []byte, answer func([]byte)) {
	s := x.run
	if !s.ready {
		return
	}
	ann := parsed(handoff.ParseAnnounce(b))
	got, moved, err := s.arrivals.TakeIn(ann, s.now(), s.has)
	if err != nil {
		panic(err)
	}
	s.w.trace("%s hears %s: round %d, %d, range %s, +%v -%v: %d", s.mine, ann.Inc, ann.Round, ann.Seq, ann.Range, slices.Collect(ann.Join.All()), slices.Collect(ann.Leave.All()), got)
	if got == handoff.TakenIn {
		s.wake(ann)
		s.wakeBack(moved.Back)
	}
	answer(got.Bytes())
}

// wake lets the home look for what waits for those who came.
func (s *start) wake(ann *handoff.Announce) {
	if ann.Join.IsEmpty() && len(ann.Hellos) == 0 {
		return
	}
	logins := make([]home.Login, len(ann.Hellos))
	for i, h := range ann.Hellos {
		logins[i] = home.Login{Hello: h, Inc: ann.Inc}
	}
	who := ann.Join
	if who.IsEmpty() {
		who = idset.New(ann.Range)
	}
	s.post(func() { s.doHome(s.home.Step(home.Wanted{Who: who, Logins: logins})) })
}

// wakeBack lets the home look for what waits for those who are shown elsewhere now.
func (s *start) wakeBack(back []*idset.Set) {
	for _, who := range back {
		s.post(func() { s.doHome(s.home.Step(home.Wanted{Who: who})) })
	}
}

// onBeat asks an incarnation for everything where something that it told got lost.
func (x *worker) onBeat(b []byte) {
	s := x.run
	if !s.ready {
		return
	}
	beat := parsed(handoff.ParseBeat(b))
	anew, first := s.arrivals.Compare(beat, s.now(), s.has)
	if first { // older incarnations of the gateway are over
		moved, _ := s.arrivals.Places.Join(beat.Inc, idset.New(0))
		s.wakeBack(moved.Back)
	}
	if g := s.w.gateway(beat.Inc.Gateway); len(anew) > 0 {
		s.w.send(s.p, g.p, toAnew, func() { g.onAnew(beat.Inc, anew) })
	}
}

// watchGateways takes those offline whose gateway is silent.
func (s *start) watchGateways() {
	now := s.w.now
	paused := s.watched != 0 && now-s.watched > 3*time.Second
	s.watched = now
	_, back := s.arrivals.Silent(s.now(), paused)
	s.wakeBack(back)
}

// offer is what a scheduler sends.
type offer struct {
	id     jobID
	number uint32
	span   job.Span
}

// onOffer claims a slice and gives its open spans to the lanes.
func (x *worker) onOffer(o offer, answer func(job.SliceState)) {
	s := x.run
	if !s.ready {
		return
	}
	j := s.table.jobs[o.id]
	if j == nil {
		answer(job.SlicePlanned)
		return
	}
	then := j.Controls
	s.claimSlice(o, func(err error) {
		k := sliceKey{o.id, o.number}
		if err != nil {
			answer(job.SlicePlanned)
			return
		}
		s.post(func() { s.assign(o, k, then, answer) })
	})
}

var errFrozen = errors.New("this worker cannot tell who else is there")

func (s *start) claimSlice(o offer, then func(error)) {
	thing := ledger.SliceThing(o.id, o.number)
	if s.slices[thing] {
		then(nil)
		return
	}
	if s.ring.Frozen() {
		then(errFrozen)
		return
	}
	s.take(thing, takeWait, func(_ ledger.Claim, err error) {
		if err == nil {
			s.slices[thing] = true
		}
		then(err)
	})
}

func (s *start) whereIs(k sliceKey) job.SliceState {
	switch {
	case s.sent[k]:
		return job.SliceSent
	case s.lanes.Holds(k.id, k.number):
		return job.SliceSending
	}
	return job.SliceClaimed
}

// assign gives the lanes what is open of a slice; then is the controls of when it was offered.
func (s *start) assign(o offer, k sliceKey, then job.Controls, answer func(job.SliceState)) {
	if at := s.whereIs(k); at != job.SliceClaimed {
		answer(at)
		return
	}
	todo := s.todo(o)
	if len(todo) == 0 {
		answer(job.SliceSent)
		return
	}
	for _, t := range todo {
		if r := job.Range(t.Lo >> job.RangeBits); s.homeOf(r) == nil {
			s.wantHome(r)
		}
	}
	answer(job.SliceSending)
	s.after(s.w.upTo(tickEvery/10), func() {
		// What is to do was read some time ago: of a slice that was sent since, it would
		// be reserved twice.
		if s.whereIs(k) != job.SliceClaimed || !s.table.isLive(k.id) {
			return
		}
		j := s.table.jobs[k.id]
		controls := j.Controls
		if s.w.rules.ControlsOfOffer {
			controls = then
		}
		if s.w.rules.CancelLost && !s.ownsCancel(k.id) {
			controls.Cancelled, controls.Recalled = false, false
		}
		spec := j.Spec
		s.doLanes(s.lanes.Step(s.now(), lane.Assign{Controls: controls, Slice: lane.Slice{Job: spec.ID, Number: k.number, Class: spec.Class,
			Priority: spec.Priority, Rate: spec.Rate, Submitted: spec.SubmittedAt, Expires: spec.ExpiresAt.Add(-s.p.skew), Todo: todo}}))
	})
}

// todo lists what of a slice's span no reserve covers, range by range.
func (s *start) todo(o offer) []job.Span {
	var todo []job.Span
	for _, r := range s.w.ranges {
		span := job.Span{Lo: max(o.span.Lo, r.Span().Lo), Hi: min(o.span.Hi, r.Span().Hi)}
		if span.IsEmpty() || s.w.packageRange(o.id, r).IsEmpty() {
			continue
		}
		reserved := parsed(s.index.Reserved(r, o.id))
		todo = append(todo, reserved.Gaps(span)...)
	}
	return todo
}
