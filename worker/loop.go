package worker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"crier/internal/bus"
	"crier/internal/idset"
	"crier/internal/pause"
	"crier/internal/work"
	"crier/job"
	"crier/presence/handoff"
	"crier/state/ledger"
	"crier/worker/home"
	"crier/worker/journal"
	"crier/worker/lane"
	"crier/worker/outbound"
	"crier/worker/tenure"
)

// What the loop is told. Events of the cores are posted as they are.
type (
	tick            struct{}
	controlsChanged struct {
		id  job.ID
		sum job.Controls
	}
	controlsCaughtUp struct{ at time.Time }
	applied          struct {
		seq    uint64
		online []*idset.Set // parked just now, and online
	}
	assign struct {
		offer work.Offer
		epoch uint64 // of the claim under which todo was read
		todo  []job.Span
	}
	whereIs struct {
		key    sliceKey
		answer chan<- job.SliceState // claimed if the lanes do not know it
	}
	lanesAsked  bus.Msg
	chargeAsked struct {
		entry *ledger.Charge
		ended chan<- bool // applied; has room for the answer
	}
)

type sliceKey struct {
	id     job.ID
	number uint32
}

// retryTicks is how many ticks pass, a second in all, before what failed is tried again.
const retryTicks = int(time.Second / tickEvery)

// loop is the one owner of the worker's state. It never waits for anything but its events.
type loop struct {
	w        *Worker
	ctx      context.Context
	journal  *journal.State
	lanes    *lane.State
	outbound *outbound.State
	home     *home.State
	tenure   *tenure.State
	ring     tenure.Ring
	silent   bool
	last     uint64 // sequence of this journal's last record

	looks   map[job.Range]context.CancelFunc // ends the look that is under way
	tickets map[journal.Ticket]func(journal.Durable, bool)
	ticket  journal.Ticket
	charges map[uint64]chan<- bool // who waits for a charge, by its number
	asked   uint64                 // number of the last one
	sent    map[sliceKey]bool
	tells   []*handoff.Recorded // to be told at the end of the step
	ticks   int
	err     error
}

func newLoop(w *Worker, ctx context.Context) *loop {
	ring := w.cfg.Ring() // once: the core is told of every one that is another
	return &loop{w: w, ctx: ctx, lanes: lane.New(w.cfg.Lanes), outbound: outbound.New(w.journal, w.closed...), home: home.New(),
		tenure: tenure.New(w.journal, ring), ring: ring,
		looks: map[job.Range]context.CancelFunc{}, tickets: map[journal.Ticket]func(journal.Durable, bool){},
		charges: map[uint64]chan<- bool{}, sent: map[sliceKey]bool{}}
}

func (l *loop) run(inherited []outbound.Inherited) error {
	defer close(l.w.over)
	state, effects := journal.New(journal.Config{Journal: l.w.journal, Boot: l.w.cfg.Boot, Nonce: nonce})
	l.journal = state
	l.doJournal(effects)
	for _, in := range inherited {
		l.doOutbound(l.outbound.Step(time.Now(), in))
	}
	l.tellEnded()
	close(l.w.ready)
	l.tellEnded() // what came in between was told to nobody
	for _, ev := range l.w.known() {
		l.doTenure(l.tenure.Step(time.Now(), ev))
	}
	for l.err == nil {
		select {
		case <-l.ctx.Done():
			return l.ctx.Err()
		case ev := <-l.w.events:
			l.step(ev)
			l.tell()
		}
	}
	return l.err
}

// tell tells the gateways what was recorded in this step, each together.
func (l *loop) tell() {
	for len(l.tells) > 0 {
		to, data, rest := outbound.TellTogether(l.tells)
		l.w.publish(handoff.RecordedTo(to), data)
		l.tells = rest
	}
}

func (l *loop) tellEnded() {
	for _, inc := range l.w.ended() {
		l.doOutbound(l.outbound.Step(time.Now(), outbound.Over{Inc: inc}))
	}
}

func (l *loop) step(ev any) {
	now := time.Now()
	switch ev := ev.(type) {
	case tick:
		l.w.ticked.Store(now.UnixNano())
		l.doOutbound(l.outbound.Step(now, outbound.Tick{}))
		l.lookRound(now)
		if l.ticks++; l.ticks%retryTicks == 0 {
			l.doJournal(l.journal.Step(journal.Space{Full: l.w.cfg.Jobs.Full()}))
			l.doLanes(l.lanes.Step(now, lane.Tick{}))
			l.doHome(l.home.Step(home.Tick{}))
			l.w.slices.Forget(l.w.cfg.Jobs.IsLive)
			l.w.tries.Forget(l.w.cfg.Jobs.IsLive)
			l.w.cfg.InHand.Forget(l.w.cfg.Jobs.IsLive)
			maps.DeleteFunc(l.sent, func(k sliceKey, _ bool) bool { return !l.w.cfg.Jobs.IsLive(k.id) })
		}
		l.doLanes(l.lanes.Step(now, lane.Due{}))
		l.markFull(now)
	case journal.Event:
		l.doJournal(l.journal.Step(ev))
	case lane.Event:
		l.doLanes(l.lanes.Step(now, ev))
	case outbound.Event:
		l.nobodys(now, ev)
		l.doOutbound(l.outbound.Step(now, ev))
	case home.Event:
		l.endLook(ev)
		l.doHome(l.home.Step(ev))
	case tenure.Event:
		l.doTenure(l.tenure.Step(now, ev))
	case controlsChanged:
		l.doLanes(l.lanes.Step(now, lane.Control{Job: ev.id, Controls: l.w.inForce(ev)}))
	case controlsCaughtUp:
		if now.Sub(ev.at) < lane.ControlsMaxAge { // else the loop was held up
			l.doLanes(l.lanes.Step(now, lane.CaughtUp{}))
		}
	case applied:
		l.applied(ev)
	case assign:
		l.assign(now, ev)
	case whereIs:
		ev.answer <- l.whereIs(ev.key)
	case lanesAsked:
		l.w.respond(bus.Msg(ev), l.lanes.List())
	case chargeAsked:
		l.asked++
		l.charges[l.asked] = ev.ended
		l.doHome(l.home.Step(home.Charge{ID: l.asked, Entry: ev.entry}))
	default:
		l.err = fmt.Errorf("worker loop: event of type %T", ev)
	}
}

// lookTicks is how many ticks pass, a fifth of a second in all, between looks at who else there is.
const lookTicks = int(200 * time.Millisecond / tickEvery)

// lookRound tells the core of tenure about the others, now and then.
func (l *loop) lookRound(now time.Time) {
	if l.ticks%lookTicks != 0 {
		return
	}
	if silent := l.w.cfg.Silent(); silent || l.silent {
		if silent != l.silent {
			l.silent = silent
			l.doTenure(l.tenure.Step(now, tenure.Silence{On: silent}))
		}
		if silent {
			l.doLanes(l.lanes.Step(now, lane.Drop{}))
			l.giveIdle()
		}
	}
	if ring := l.w.cfg.Ring(); ring != l.ring {
		l.ring = ring
		l.doTenure(l.tenure.Step(now, tenure.RingIs{Ring: ring}))
		return
	}
	l.doTenure(l.tenure.Step(now, tenure.Tick{}))
}

// giveMost is how many slices without work are given up in one look: each is an append.
const giveMost = 64

// giveIdle gives up slices that the lanes do not have: they are sent, or an offer of them is
// being answered, which begins nothing any more.
func (l *loop) giveIdle() {
	n := 0
	for _, thing := range l.w.slices.Held() {
		if id, number, ok := ledger.SliceOf(thing); ok && !l.lanes.Holds(id, number) {
			l.giveSlice(thing)
			if n++; n == giveMost {
				return
			}
		}
	}
}

// giveSlice gives up a slice of which nothing is under way. Whoever takes it has to have
// read all of it, what others reserved before, too.
func (l *loop) giveSlice(thing ledger.Thing) {
	l.w.slices.Give(l.ctx, thing, max(l.last, l.w.cfg.Index.Watermark()-1))
}

// nobodys lets reports about another worker's journal be answered once that is sealed and
// nothing of it is open any more: whoever closed it may be gone before the gateway heard,
// which reports to whom it knows (rule 14).
func (l *loop) nobodys(now time.Time, ev outbound.Event) {
	r, ok := ev.(outbound.Reported)
	if !ok || l.outbound.Owns(r.Report.Ref.Journal) {
		return
	}
	if j := r.Report.Ref.Journal; l.w.cfg.Index.Sealed(j) && !l.w.cfg.Index.HasOpen(j) {
		l.doOutbound(l.outbound.Step(now, outbound.Closed{Journal: j}))
	}
}

// endLook frees what a look that is answered needed.
func (l *loop) endLook(ev home.Event) {
	var r job.Range
	switch ev := ev.(type) {
	case home.Found:
		r = ev.Findings.Range
	case home.NotFound:
		r = ev.Pass.Range
	default:
		return
	}
	if cancel := l.looks[r]; cancel != nil {
		cancel()
		delete(l.looks, r)
	}
}

func (l *loop) whereIs(k sliceKey) job.SliceState {
	switch {
	case l.sent[k]:
		return job.SliceSent
	case l.lanes.Holds(k.id, k.number):
		return job.SliceSending
	}
	return job.SliceClaimed
}

func (l *loop) assign(now time.Time, ev assign) {
	k := sliceKey{ev.offer.Job, ev.offer.Number}
	// What is to do was read some time ago: of a slice that was sent since, or given up,
	// it would be reserved twice. The controls are those of now: one that came since the offer was
	// told to lanes that did not have the slice, and every later one is told them again.
	j, live := l.w.cfg.Jobs.Current(k.id)
	if l.whereIs(k) != job.SliceClaimed || !live {
		return
	}
	if !l.w.slices.Has(ledger.SliceThing(k.id, k.number), ev.epoch) {
		return
	}
	spec := j.Spec
	l.doLanes(l.lanes.Step(now, lane.Assign{Controls: j.InForce(), Slice: lane.Slice{Job: spec.ID, Number: k.number, Class: spec.Class,
		Priority: spec.Priority, Rate: spec.Rate, Submitted: spec.SubmittedAt, Expires: spec.ExpiresAt, Todo: ev.todo}}))
}

func (l *loop) applied(ev applied) {
	l.doHome(l.home.Step(home.Applied{Seq: ev.seq}))
	for _, s := range ev.online {
		l.doHome(l.home.Step(home.Wanted{Who: s}))
	}
}

// submit gives the journal an entry and calls then, on the loop, when it is
// durable (true) or never will be known to be (false).
func (l *loop) submit(e ledger.Entry, then func(journal.Durable, bool)) {
	l.doJournal(l.journal.Step(l.ticketFor(e, then)))
}

func (l *loop) ticketFor(e ledger.Entry, then func(journal.Durable, bool)) journal.Submit {
	l.ticket++
	l.tickets[l.ticket] = then
	return journal.Submit{Ticket: l.ticket, Entry: e}
}

func (l *loop) settleTicket(t journal.Ticket, d journal.Durable, ok bool) {
	if then := l.tickets[t]; then != nil {
		delete(l.tickets, t)
		then(d, ok)
	}
}

func (l *loop) doJournal(effects []journal.Effect) {
	for _, e := range effects {
		switch e := e.(type) {
		case journal.Append:
			l.w.stats.Records.Add(1)
			l.w.stats.Bytes.Add(uint64(len(e.Data)))
			l.w.beside.Go(func() { l.append(e) })
			if e.Rest > 0 {
				l.w.beside.Go(func() {
					if pause.For(l.ctx, e.Rest) {
						l.w.post(l.ctx, journal.Rested{})
					}
				})
			}
		case journal.ReadLast:
			l.w.beside.Go(func() { l.readLast() })
		case journal.Durable:
			l.last = max(l.last, e.Seq)
			l.settleTicket(e.Ticket, e, true)
		case journal.Refused:
			l.settleTicket(e.Ticket, journal.Durable{}, false)
		case journal.Stopped:
			// The tickets stay open: what they stand for is its taker's now.
			l.err = fmt.Errorf("%w: %s: %s", ErrStopped, l.w.journal, e.Reason)
		}
	}
}

func (l *loop) doLanes(effects []lane.Effect) {
	for _, e := range effects {
		switch e := e.(type) {
		case lane.Prepare:
			l.w.beside.Go(func() { l.w.makeBlock(l.ctx, e.Task) })
		case lane.Append:
			l.w.stats.Reserves.Add(1)
			decided := time.Now()
			l.submit(e.Reserve, func(d journal.Durable, ok bool) {
				if !ok {
					l.doLanes(l.lanes.Step(time.Now(), lane.Refused{Lane: e.Lane}))
					return
				}
				now := time.Now()
				l.doLanes(l.lanes.Step(now, lane.Reserved{Lane: e.Lane, Ref: d.Ref}))
				l.doOutbound(l.outbound.Step(now, outbound.Reserved{Ref: d.Ref, Job: e.Reserve.Job, Range: e.Reserve.Range(),
					Urgent: e.Urgent, Targets: e.Reserve.Targets, Late: l.isLate(now, decided, e.Reserve.Job)}))
				l.markFull(now)
			})
		case lane.Dropped:
			l.giveSlice(ledger.SliceThing(e.Job, e.Number))
		case lane.SliceSent:
			l.sent[sliceKey{e.Job, e.Number}] = true
			l.w.beside.Go(func() { l.w.tellSent(e.Job, e.Number) })
		}
	}
}

func (l *loop) doOutbound(effects []outbound.Effect) {
	for _, e := range effects {
		switch e := e.(type) {
		case outbound.Send:
			l.w.outbox.Put(e)
		case outbound.SendFence:
			l.w.beside.Go(func() { l.w.fence(l.ctx, e) })
		case outbound.Append:
			l.w.stats.Dones.Add(1)
			l.submit(e.Entry, func(_ journal.Durable, ok bool) {
				if ok {
					l.doOutbound(l.outbound.Step(time.Now(), outbound.Recorded{Key: e.Key}))
				}
			})
		case outbound.Freed:
			l.doHome(l.home.Step(home.Closed{Range: e.Range, Who: e.Who, Away: e.Away}))
		case outbound.Tell:
			l.tells = append(l.tells, e.Recorded)
		case outbound.Handled:
			l.doLanes(l.lanes.Step(time.Now(), lane.Handled{Ref: e.Ref}))
		}
	}
}

func (l *loop) doHome(effects []home.Effect) {
	for _, e := range effects {
		switch e := e.(type) {
		case home.Look:
			try, cancel := context.WithCancel(l.ctx)
			l.looks[e.Pass.Range] = cancel
			l.w.beside.Go(func() { l.w.look(l.ctx, try, e.Pass) })
		case home.Quiet:
			l.quiet(e)
		case home.Settle:
			l.w.publish(handoff.SettleTo(e.Settle.Inc.Gateway), e.Settle.Bytes())
		case home.Append:
			l.appendPass(e)
		case home.AppendCharge:
			l.submit(e.Entry, func(d journal.Durable, ok bool) {
				c := home.Charged{ID: e.ID, Range: e.Entry.Range()}
				if ok {
					c.Seq = d.Seq
				}
				l.doHome(l.home.Step(c))
			})
		case home.ChargeEnded:
			l.charges[e.ID] <- e.Applied
			delete(l.charges, e.ID)
		}
	}
}

// errNotCharged says that a charge is not in the ledger.
var errNotCharged = errors.New("this worker is not the home of the range any more, or the ledger has no room")

// charge appends a charge and waits until the index has it, or it is sure that it never
// will: who asks next must see what it did.
func (w *Worker) charge(ctx context.Context, e *ledger.Charge) error {
	ended := make(chan bool, 1)
	select {
	case w.events <- chargeAsked{e, ended}:
	case <-ctx.Done():
		return ctx.Err()
	case <-w.over:
		return ErrStopped
	}
	select {
	case applied := <-ended:
		if !applied {
			return errNotCharged
		}
		return nil
	case <-w.over:
		return ErrStopped
	}
}

// markFull tells those who work out blocks which incarnations have no room.
func (l *loop) markFull(now time.Time) {
	full, open := map[job.Incarnation]bool{}, l.outbound.Incarnations()
	l.w.open.Store(&open)
	for _, inc := range open {
		if l.outbound.SilentAt(now, inc) >= outbound.MaxSilent {
			full[inc] = true
		}
	}
	l.w.full.Store(&full)
}

func (l *loop) append(e journal.Append) {
	if e.Tries > 0 && !pause.For(l.ctx, ledgerRetry) {
		return
	}
	seq, err := l.w.cfg.Log.Append(l.ctx, ledger.JournalSubject(l.w.journal), e.Last, e.Data)
	if err != nil {
		l.w.log.Warn("appending to the journal: reading back what happened", "error", err)
		l.w.post(l.ctx, journal.Unclear{Err: err})
		return
	}
	l.w.post(l.ctx, journal.Stored{Seq: seq})
}
