package sim

import (
	"time"

	"crier/internal/idset"
	"crier/job"
	"crier/state/ledger"
	"crier/state/parked/kv"
	"crier/worker/home"
	"crier/worker/journal"
)

// Charges, in a quarter of the worlds: a cap over all jobs, and a key that half of them
// share. A day is short, so that some of them end meanwhile.

const (
	dayLasts  = 15 * time.Second
	onceUntil = 1 << 20 // hours: it does not end
)

var onceKey = job.OnceKey{1}

// charges reports whether this world's recipients are charged. It takes nothing from the
// rest's chance, which goes on as it did before there were charges.
func (w *World) charges() bool { return w.opts.Seed%4 == 3 }

// mostADay is the cap.
func (w *World) mostADay() int { return 1 + int(w.opts.Seed/4%3) }

// day is the day on a process's clock, which is off by a few seconds.
func (s *start) day() uint32 {
	off := max(-5*time.Second, min(s.p.skew, 5*time.Second))
	return uint32((s.w.now + off) / dayLasts)
}

func (s *start) terms(id jobID) ledger.Terms {
	t := ledger.Terms{Day: s.day(), All: true}
	if s.w.byID[id].n%2 == 1 {
		t.Once, t.Until = onceKey, onceUntil
	}
	return t
}

// settle takes out of keep whom a charge of the block dropped, and first lets everybody be
// charged who is not yet.
func (s *start) settle(res *ledger.Reserve, keep *idset.Set, then func(bool)) {
	if s.w.rules.ChargeByBlock {
		s.settleBlock(res, keep, then)
		return
	}
	id, span, r := res.Job, res.Span, keep.Range
	if len(s.uncharged(id, span)) == 0 {
		s.standing(id, span, keep)
		then(true)
		return
	}
	s.queue(r, func(next func()) {
		gaps := s.uncharged(id, span)
		if len(gaps) == 0 {
			s.standing(id, span, keep)
			then(true)
			next()
			return
		}
		s.charge(s.judgeBlock(id, gaps[0]), func(ok bool) {
			if ok && len(s.uncharged(id, gaps[0])) > 0 {
				ok = false // another has reserved it
			}
			if !ok {
				then(false)
			} else {
				s.settle(res, keep, then)
			}
			next()
		})
	})
}

// uncharged is the gaps between charges of a span in which there is somebody.
func (s *start) uncharged(id jobID, span job.Span) (gaps []job.Span) {
	all, dropped, err := s.index.Charges.Verdict(id, span)
	if err != nil {
		panic(err)
	}
	for _, d := range dropped {
		d.Set.Release()
	}
	for _, g := range all {
		ids := s.w.packageRange(id, job.Range(g.Lo>>job.RangeBits))
		if ids.KeepSpan(g); !ids.IsEmpty() {
			gaps = append(gaps, g)
		}
		ids.Release()
	}
	return gaps
}

// standing takes out of keep whom charges dropped.
func (s *start) standing(id jobID, span job.Span, keep *idset.Set) {
	_, dropped, err := s.index.Charges.Verdict(id, span)
	if err != nil {
		panic(err)
	}
	for _, d := range dropped {
		keep.AndNot(d.Set)
		d.Set.Release()
	}
}

// queue runs what charges a range one after the other.
func (s *start) queue(r job.Range, run func(next func())) {
	s.charging[r] = append(s.charging[r], run)
	if len(s.charging[r]) == 1 {
		s.runNext(r)
	}
}

func (s *start) runNext(r job.Range) {
	s.charging[r][0](func() {
		s.charging[r] = s.charging[r][1:]
		if len(s.charging[r]) > 0 {
			s.post(func() { s.runNext(r) })
		}
	})
}

// judgeBlock works out a charge.
func (s *start) judgeBlock(id jobID, span job.Span) *ledger.Charge {
	r := job.Range(span.Lo >> job.RangeBits)
	keep := s.w.packageRange(id, r)
	keep.KeepSpan(span)
	e := &ledger.Charge{Job: id, Span: span, IDs: uint32(keep.Card()), Terms: s.terms(id)}
	drop := func(reason job.Reason, out *idset.Set) {
		if out.And(keep); !out.IsEmpty() {
			keep.AndNot(out)
			e.Dropped = append(e.Dropped, ledger.Drop{Reason: reason, Set: out})
		}
	}
	suppressed := idset.New(r)
	for id, is := range s.w.byID[id].drops {
		if is && job.Recipient(id).Range() == r {
			suppressed.Add(id)
		}
	}
	drop(job.ReasonSuppressed, suppressed)
	if !e.Terms.Once.IsZero() {
		drop(job.ReasonSendOnce, parsed(s.index.Charges.Marked(r, e.Terms.Once, 0)))
	}
	drop(job.ReasonFrequency, parsed(s.index.Charges.AtLeast(r, e.Terms.Day, 0, s.w.mostADay())))
	keep.Release()
	return e
}

// charge makes a charge durable and applied.
func (s *start) charge(e *ledger.Charge, then func(bool)) {
	s.asked++
	id := s.asked
	s.charged[id] = then
	s.post(func() { s.doHome(s.home.Step(home.Charge{ID: id, Entry: e})) })
}

func (s *start) appendCharge(e home.AppendCharge) {
	s.w.counts.Charges++
	s.submit(e.Entry, func(d journal.Durable, ok bool) {
		c := home.Charged{ID: e.ID, Range: e.Entry.Range()}
		if ok {
			c.Seq = d.Seq
		}
		s.doHome(s.home.Step(c))
	})
}

func (s *start) chargeEnded(e home.ChargeEnded) {
	then := s.charged[e.ID]
	delete(s.charged, e.ID)
	then(e.Applied)
}

// The rules, broken.

// settleBlock charges a block that was never charged as it is cut now.
func (s *start) settleBlock(res *ledger.Reserve, keep *idset.Set, then func(bool)) {
	key := blockSpan{res.Job, res.Span}
	finish := func(e *ledger.Charge) {
		s.standing(res.Job, res.Span, keep)
		for _, d := range e.Dropped {
			out := d.Set.Clone()
			if out.And(keep); !out.IsEmpty() {
				keep.AndNot(out)
				res.Dropped = append(res.Dropped, ledger.Drop{Reason: d.Reason, Set: out})
			}
		}
		then(true)
	}
	if e := s.verdicts[key]; e != nil {
		finish(e)
		return
	}
	s.queue(keep.Range, func(next func()) {
		e := s.judgeBlock(res.Job, res.Span)
		s.charge(e, func(ok bool) {
			if ok {
				s.verdicts[key] = e
				finish(e)
			} else {
				then(false)
			}
			next()
		})
	})
}

// blockSpan is a block as it was cut.
type blockSpan struct {
	id   jobID
	span job.Span
}

// misread gives a record as an index reads it that takes the day from its own clock.
func (s *start) misread(st ledger.Stored) ledger.Stored {
	if !s.w.rules.DayOfReader {
		return st
	}
	rec := parsed(ledger.ParseRecord(st.Data))
	for _, e := range rec.Entries {
		if c, ok := e.(*ledger.Charge); ok {
			c.Terms.Day = s.day()
		}
	}
	st.Data = rec.Bytes()
	return st
}

// refundAgain refunds what a record has refunded.
func (s *start) refundAgain(st ledger.Stored) {
	if !s.w.rules.RefundTwice {
		return
	}
	for _, e := range parsed(ledger.ParseRecord(st.Data)).Entries {
		o, ok := e.(*ledger.Outcome)
		if !ok {
			continue
		}
		var b kv.Batch
		if err := s.index.Charges.Refund(&b, o.Job, o.Set); err != nil {
			s.w.fail("charge", "%s refunds again: %v", s.mine, err)
			return
		}
		if err := s.x.disk.Write(&b); err != nil {
			panic(err)
		}
	}
}
