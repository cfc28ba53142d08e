package sim

import (
	"fmt"
	"time"

	"crier/job"
	"crier/presence/handoff"
	"crier/state/ledger"
	"crier/worker/home"
	"crier/worker/journal"
	"crier/worker/lane"
	"crier/worker/outbound"
	"crier/worker/tenure"
)

// The worker's loop: what its cores say is carried out, as in production.

func (s *start) tick() {
	now := s.now()
	s.doOutbound(s.outbound.Step(now, outbound.Tick{}))
	if s.ticks%lookTicks == 0 {
		if ring := s.x.look(); ring != s.ring {
			s.ring = ring
			s.doTenure(s.tenure.Step(now, tenure.RingIs{Ring: ring}))
		} else if s.ticks%(3*lookTicks) == 0 {
			s.doTenure(s.tenure.Step(now, tenure.Tick{}))
		}
	}
	if s.ticks++; s.ticks%retryTicks == 0 {
		s.doLanes(s.lanes.Step(now, lane.Tick{}))
		s.doHome(s.home.Step(home.Tick{}))
		for k := range s.sent {
			if !s.table.isLive(k.id) {
				delete(s.sent, k)
			}
		}
	}
	s.doLanes(s.lanes.Step(now, lane.Due{}))
	s.markFull()
}

func (s *start) markFull() {
	clear(s.full)
	for _, inc := range s.outbound.Incarnations() {
		if s.outbound.SilentAt(s.now(), inc) >= outbound.MaxSilent {
			s.full[inc] = true
		}
	}
}

func (s *start) submit(e ledger.Entry, then func(journal.Durable, bool)) {
	s.doJournal(s.journal.Step(s.ticketFor(e, then)))
}

func (s *start) ticketFor(e ledger.Entry, then func(journal.Durable, bool)) journal.Submit {
	s.ticket++
	s.tickets[s.ticket] = then
	return journal.Submit{Ticket: s.ticket, Entry: e}
}

func (s *start) settleTicket(t journal.Ticket, d journal.Durable, ok bool) {
	if then := s.tickets[t]; then != nil {
		delete(s.tickets, t)
		then(d, ok)
	}
}

func (s *start) doJournal(effects []journal.Effect) {
	for _, e := range effects {
		switch e := e.(type) {
		case journal.Append:
			s.append(e)
			if e.Rest > 0 {
				s.after(e.Rest, func() { s.doJournal(s.journal.Step(journal.Rested{})) })
			}
		case journal.ReadLast:
			s.readLast()
		case journal.Durable:
			if s.piped != nil && s.piped.hold(s, e) {
				continue
			}
			s.settleTicket(e.Ticket, e, true)
		case journal.Refused:
			s.settleTicket(e.Ticket, journal.Durable{}, false)
		case journal.Stopped:
			s.w.counts.ZombieRefused++
			s.stopped(e.Reason)
			return
		}
	}
}

// stopped ends the process: it starts again, with another incarnation.
func (s *start) stopped(why string) {
	s.w.trace("%s stops: %s", s.mine, why)
	s.w.kill(s.p)
	s.w.at(s.w.upTo(s.w.weather.restart), s.x.bootIfDown)
}

func (x *worker) bootIfDown() {
	if !x.p.up {
		x.boot()
	}
}

func (s *start) append(e journal.Append) {
	s.pending = e
	if s.w.rules.SendBeforeReserve {
		s.sendEarly(e)
	}
	if s.w.rules.Pipelined {
		s.pipe(e)
		return
	}
	try := func() {
		s.w.appendTo(s.p, s.w.ledger, ledger.JournalSubject(s.mine), e.Last, e.Data, func(seq uint64, err error) {
			s.appended(e, seq, err)
		})
	}
	if e.Tries > 0 {
		if s.w.bad(0.1) { // the worst moment
			s.w.pause(s.p, s.w.upTo(15*time.Second))
		}
		s.after(ledgerRetry, try)
		return
	}
	try()
}

func (s *start) appended(e journal.Append, seq uint64, err error) {
	switch {
	case err == nil:
		s.doJournal(s.journal.Step(journal.Stored{Seq: seq}))
	case s.w.rules.RetryIsStored && e.Tries > 0 && isConflict(err):
		s.w.lastOf(s.p, s.w.ledger, ledger.JournalSubject(s.mine), func(st ledger.Stored, err error) {
			if err != nil {
				s.appended(e, 0, errNoAnswer)
				return
			}
			s.doJournal(s.journal.Step(journal.Stored{Seq: st.Seq}))
		})
	default:
		s.doJournal(s.journal.Step(journal.Unclear{Err: err}))
	}
}

// readLast reads the journal's last record until the ledger answers.
func (s *start) readLast() {
	s.w.lastOf(s.p, s.w.ledger, ledger.JournalSubject(s.mine), func(st ledger.Stored, err error) {
		switch {
		case err == nil && s.w.rules.ReopenSealed && s.reopen(st):
		case err == nil:
			s.doJournal(s.journal.Step(journal.LastRecord{Stored: st}))
		case isNoRecord(err):
			s.doJournal(s.journal.Step(journal.NoRecord{}))
		default:
			s.after(ledgerRetry, s.readLast)
		}
	})
}

func (s *start) doLanes(effects []lane.Effect) {
	for _, e := range effects {
		switch e := e.(type) {
		case lane.Prepare:
			s.after(s.w.upTo(tickEvery/10), func() { s.prepare(e.Task) })
		case lane.Append:
			if e.Reserve.Targets.Card() > 0 {
				s.w.judgeSend(s, e.Reserve.Job, "reserve")
			}
			s.submit(e.Reserve, func(d journal.Durable, ok bool) {
				if !ok {
					s.doLanes(s.lanes.Step(s.now(), lane.Refused{Lane: e.Lane}))
					return
				}
				s.doLanes(s.lanes.Step(s.now(), lane.Reserved{Lane: e.Lane, Ref: d.Ref}))
				if s.handled[d.Ref] {
					s.doLanes(s.lanes.Step(s.now(), lane.Handled{Ref: d.Ref}))
				}
				if !s.early[d.Ref] {
					s.doOutbound(s.outbound.Step(s.now(), outbound.Reserved{Ref: d.Ref, Job: e.Reserve.Job, Range: e.Reserve.Range(),
						Urgent: e.Urgent, Targets: e.Reserve.Targets}))
				}
				s.markFull()
			})
		case lane.SliceSent:
			s.sent[sliceKey{e.Job, e.Number}] = true
		}
	}
}

func (s *start) doOutbound(effects []outbound.Effect) {
	for _, e := range effects {
		switch e := e.(type) {
		case outbound.Send:
			s.handOff(e)
		case outbound.SendFence:
			s.fence(e)
		case outbound.Append:
			if _, isDoubt := e.Entry.(*ledger.Doubt); isDoubt {
				s.w.counts.Doubts++
				s.decideToo(e)
			}
			s.submit(e.Entry, func(_ journal.Durable, ok bool) {
				if ok {
					s.doOutbound(s.outbound.Step(s.now(), outbound.Recorded{Key: e.Key}))
				}
			})
		case outbound.Freed:
			s.doHome(s.home.Step(home.Closed{Range: e.Range, Who: e.Who, Away: e.Away}))
		case outbound.Tell:
			if s.tellBoth(e.Recorded) {
				continue
			}
			if g := s.w.gateway(e.Recorded.Inc.Gateway); g != nil {
				b := e.Recorded.Bytes()
				s.w.send(s.p, g.p, toRecorded, func() { g.onRecorded(b) })
			}
		case outbound.Handled:
			s.handled[e.Ref] = s.early[e.Ref]
			s.doLanes(s.lanes.Step(s.now(), lane.Handled{Ref: e.Ref}))
		}
	}
}

// handOff asks a gateway to take a reserve's targets.
func (s *start) handOff(e outbound.Send) {
	key := outbound.Key{Ref: e.Handoff.Ref, Inc: e.Handoff.To}
	g := s.w.gateway(key.Inc.Gateway)
	if e.WithBody {
		e.Handoff.Message = s.w.message(e.Handoff.Job)
	}
	b := e.Handoff.Bytes()
	mine := s.mine
	s.w.ask(s.p, g.p, toHandoff, handOffWait, func(answer func([]byte)) { g.onHandoff(b, mine, answer) }, func(b []byte, ok bool) {
		var a *handoff.Answer
		if ok {
			a = only(handoff.ParseAnswers(b))
		}
		switch {
		case !ok:
			s.doOutbound(s.outbound.Step(s.now(), outbound.Lost{Key: key}))
		case s.w.rules.RedirectNotHere && s.redirect(key, e, a):
		default:
			s.doOutbound(s.outbound.Step(s.now(), outbound.Answered{Key: key, Answer: a}))
		}
	})
}

// parsed is for what this simulator encoded itself.
func parsed[T any](x T, err error) T {
	if err != nil {
		panic(err)
	}
	return x
}

// only is for messages of which this simulator sends one at a time.
func only[T any](all []T, err error) T {
	if err != nil || len(all) != 1 {
		panic(fmt.Sprint(len(all), " messages instead of one: ", err))
	}
	return all[0]
}

func (s *start) fence(e outbound.SendFence) {
	f := e.Fence
	g := s.w.gateway(f.To.Gateway)
	silent := func() {
		s.doOutbound(s.outbound.Step(s.now(), outbound.Fenced{Journal: f.Journal, Inc: f.To, Answer: &handoff.Answer{Kind: handoff.Fenced}}))
	}
	if s.w.rules.NoFence {
		s.post(silent)
		return
	}
	b := f.Bytes()
	s.w.ask(s.p, g.p, toFence, handOffWait, func(answer func([]byte)) { g.onFence(b, answer) }, func(b []byte, ok bool) {
		switch {
		case ok:
			s.doOutbound(s.outbound.Step(s.now(), outbound.Fenced{Journal: f.Journal, Inc: f.To, Answer: only(handoff.ParseAnswers(b))}))
		case s.w.rules.SilenceIsAnswer:
			silent()
		default:
			s.doOutbound(s.outbound.Step(s.now(), outbound.Lost{Journal: f.Journal, Key: outbound.Key{Inc: f.To}}))
		}
	})
}

func (s *start) doHome(effects []home.Effect) {
	for _, e := range effects {
		switch e := e.(type) {
		case home.Look:
			s.after(s.w.upTo(tickEvery/20), func() { s.findings(e.Pass) })
		case home.Quiet:
			s.quiet(e)
		case home.Settle:
			if g := s.w.gateway(e.Settle.Inc.Gateway); g != nil {
				b := e.Settle.Bytes()
				s.w.send(s.p, g.p, toSettle, func() { g.onSettle(b) })
			}
		case home.Append:
			s.appendPass(e)
		case home.AppendCharge:
			s.appendCharge(e)
		case home.ChargeEnded:
			s.chargeEnded(e)
		}
	}
}

// appendPass submits the entries of a pass and tells the home when the last of them is
// settled.
func (s *start) appendPass(e home.Append) {
	if !e.Looked && s.isStale(e) {
		s.doHome(s.home.Step(home.Stale{Range: e.Range}))
		return
	}
	left, stored, top := len(e.Entries), 0, uint64(0)
	var all journal.Together
	for i, entry := range e.Entries {
		drain, isDrain := entry.(*ledger.Drain)
		if isDrain {
			s.w.judgeSend(s, drain.Job, "drain")
		}
		then := func(d journal.Durable, ok bool) {
			left--
			if ok {
				stored++
				top = max(top, d.Seq)
				s.countDrops(entry)
				if isDrain && !s.early[d.Ref] {
					s.w.counts.Drains++
					s.doOutbound(s.outbound.Step(s.now(), outbound.Reserved{Ref: d.Ref, Job: drain.Job, Range: drain.Range,
						Urgent: e.Urgent[i], Targets: drain.Targets}))
				}
			}
			switch {
			case left > 0:
			case stored > 0:
				s.doHome(s.home.Step(home.Durable{Range: e.Range, Seq: top, Partly: stored < len(e.Entries)}))
			default:
				s.doHome(s.home.Step(home.Refused{Range: e.Range}))
			}
		}
		if isDrain && s.w.rules.DrainUnreserved {
			s.unreserved++
			then(journal.Durable{Ref: job.Ref{Journal: s.mine, N: 1<<40 + s.unreserved}}, true)
			continue
		}
		all = append(all, s.ticketFor(entry, then))
		if s.dropsTwice(entry) {
			all = append(all, s.ticketFor(entry, func(journal.Durable, bool) {}))
		}
	}
	s.doJournal(s.journal.Step(all))
}

func (s *start) doTenure(effects []tenure.Effect) {
	w := s.w
	for _, e := range effects {
		switch e := e.(type) {
		case tenure.Take:
			s.take(e.Thing, takeWait, func(c ledger.Claim, err error) {
				if err != nil {
					s.doTenure(s.tenure.Step(s.now(), tenure.NotTaken(e)))
					return
				}
				s.doTenure(s.tenure.Step(s.now(), tenure.Taken{Claim: c}))
			})
		case tenure.Seal:
			s.sealFor(e.Journal)
		case tenure.Begin:
			s.forget(e.Range)
			s.doHome(s.home.Step(home.Begin{Range: e.Range}))
			s.begun[e.Range], s.fresh[e.Range] = w.now, e.First
			w.trace("%s is home to %s", s.mine, e.Range)
		case tenure.Inherit:
			w.counts.TakeOvers++
			open := s.openOf(e.Journal)
			w.trace("%s takes over %d open reserves of %s", s.mine, len(open), e.Journal)
			for _, in := range open {
				s.doOutbound(s.outbound.Step(s.now(), in))
			}
		case tenure.End:
			delete(s.begun, e.Range)
			if w.rules.GiveBeforeDurable {
				s.doTenure(s.tenure.Step(s.now(), tenure.Quiet{Range: e.Range, After: s.index.Watermark() - 1}))
				continue
			}
			s.doHome(s.home.Step(home.End{Range: e.Range}))
		case tenure.Give:
			s.give(e)
		}
	}
}

// quiet goes on when the home has nothing of a range under way any more. Whoever takes
// the range has to have read all that this worker has.
func (s *start) quiet(e home.Quiet) {
	s.forget(e.Range)
	s.doTenure(s.tenure.Step(s.now(), tenure.Quiet{Range: e.Range, After: max(e.After, s.index.Watermark()-1)}))
}

// forget drops all that is known of who is in a range.
func (s *start) forget(r job.Range) { s.arrivals.Leave(r, func() { s.presence.forget(r) }) }

// sealFor seals the journal of a worker that has lapsed (rule 5).
func (s *start) sealFor(j job.Journal) {
	s.w.judgeSeal(s, j)
	s.seal(j, s.w.now+takeWait, func(bool) {
		if s.w.rules.ActBeforeSealRead && s.w.fold.Sealed(j) {
			s.doTenure(s.tenure.Step(s.now(), tenure.Sealed{Journal: j, Open: len(s.openOf(j)) > 0}))
		}
		s.doTenure(s.tenure.Step(s.now(), tenure.NotSealed{Journal: j}))
	})
}
