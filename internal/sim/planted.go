package sim

import (
	"errors"
	"slices"

	"crier/job"
	"crier/presence/handoff"
	"crier/state/ledger"
	"crier/state/parked"
	"crier/worker/home"
	"crier/worker/journal"
	"crier/worker/outbound"
	"crier/worker/tenure"

	"crier/internal/idset"
	"crier/internal/sim/stream"
)

// The rules, broken: nothing here runs as long as all of them are kept.

func isConflict(err error) bool { return errors.Is(err, ledger.ErrConflict) }

// sealedElsewhere tells everybody that a journal is sealed, whose owner does not notice.
func (w *World) sealedElsewhere(j, by job.Journal) {
	if w.elsewhere[j] {
		return
	}
	w.elsewhere[j] = true
	if w.rules.SealElsewhere {
		rec := ledger.Record{Journal: j, Nonce: w.nonce(), Entries: []ledger.Entry{ledger.Seal{By: by}}}
		w.ledger.Store(w.mono(), "led.seal."+j.String(), stream.Any, rec.Bytes())
	}
	for _, x := range w.workers {
		if s := x.run; s != nil && s.ready && s.mine != j {
			s.after(w.flight(), func() {
				s.doTenure(s.tenure.Step(s.now(), tenure.Sealed{Journal: j, Open: len(s.openOf(j)) > 0}))
			})
		}
	}
}

// sendEarly hands off what is in a record that is not durable yet.
func (s *start) sendEarly(e journal.Append) {
	rec := parsed(ledger.ParseRecord(e.Data))
	for i, entry := range rec.Entries {
		ref := job.Ref{Journal: s.mine, N: rec.N, Entry: uint16(i)}
		if s.early[ref] {
			continue
		}
		switch entry := entry.(type) {
		case *ledger.Reserve:
			s.early[ref] = true
			s.doOutbound(s.outbound.Step(s.now(), outbound.Reserved{Ref: ref, Job: entry.Job, Range: entry.Range(), Targets: entry.Targets}))
		case *ledger.Drain:
			s.early[ref] = true
			s.doOutbound(s.outbound.Step(s.now(), outbound.Reserved{Ref: ref, Job: entry.Job, Range: entry.Range, Targets: entry.Targets}))
		}
	}
}

// pipeline has several appends in flight: the core is told at once that one is stored,
// and what follows goes out without a condition.
type pipeline struct {
	out     int
	guess   uint64
	telling bool
	held    []journal.Durable
}

func (s *start) pipe(e journal.Append) {
	if s.piped == nil {
		s.piped = &pipeline{}
	}
	p := s.piped
	last := e.Last
	if p.out > 0 || e.Last >= 1<<40 {
		last = stream.Any
	}
	p.out++
	p.guess++
	p.telling = true
	before := len(p.held)
	s.post(func() {
		s.doJournal(s.journal.Step(journal.Stored{Seq: 1<<40 + p.guess}))
		held := slices.Clone(p.held[before:])
		p.held = p.held[:before]
		s.w.appendTo(s.p, s.w.ledger, ledger.JournalSubject(s.mine), last, e.Data, func(seq uint64, err error) {
			p.out--
			if err != nil {
				return
			}
			for _, d := range held {
				d.Seq = seq
				s.settleTicket(d.Ticket, d, true)
			}
		})
	})
}

func (p *pipeline) hold(_ *start, d journal.Durable) bool {
	p.held = append(p.held, d)
	return true
}

// reopen goes on behind a seal.
func (s *start) reopen(st ledger.Stored) bool {
	rec, err := ledger.ParseRecord(st.Data)
	if err != nil || !rec.Sealed() || s.pending.Data == nil {
		return false
	}
	s.w.appendTo(s.p, s.w.ledger, ledger.JournalSubject(s.mine), st.Seq, s.pending.Data, func(seq uint64, err error) {
		if err == nil {
			s.doJournal(s.journal.Step(journal.LastRecord{Stored: ledger.Stored{Seq: seq, Data: s.pending.Data}}))
			return
		}
		s.readLast()
	})
	return true
}

// redirect is a reserve whose missing targets were handed to another gateway; it makes
// one report of what both say.
type redirect struct {
	key           outbound.Key
	inc           job.Incarnation // the other one
	first, second *handoff.Report
}

// redirect hands whom a gateway does not have to another one, in the same reserve.
func (s *start) redirect(key outbound.Key, e outbound.Send, a *handoff.Answer) bool {
	if a.Kind != handoff.Accepted || len(a.Reports) != 1 {
		return false
	}
	if s.redirects[key.Ref] != nil {
		return s.redirected(&a.Reports[0])
	}
	first := &a.Reports[0]
	g := s.w.gateways[s.w.n(len(s.w.gateways))]
	if first.NotHere.IsEmpty() || g.name == key.Inc.Gateway || !g.p.up {
		return false
	}
	s.redirects[key.Ref] = &redirect{key: key, inc: g.inc, first: first}
	again := *e.Handoff
	again.To, again.Targets, again.Message = g.inc, first.NotHere.Clone(), s.w.message(e.Handoff.Job)
	b := again.Bytes()
	mine := s.mine
	s.w.ask(s.p, g.p, toHandoff, handOffWait, func(answer func([]byte)) { g.onHandoff(b, mine, answer) }, func(b []byte, ok bool) {
		if !ok {
			s.redirected(first)
			return
		}
		if a := only(handoff.ParseAnswers(b)); len(a.Reports) == 1 {
			s.redirected(&a.Reports[0])
		}
	})
	return true
}

// redirected takes a report about a reserve that was redirected.
func (s *start) redirected(p *handoff.Report) bool {
	r := s.redirects[p.Ref]
	switch {
	case r == nil:
		return false
	case p.Inc == r.inc:
		r.second = p
	case p.Inc == r.key.Inc && p.Version >= r.first.Version:
		r.first = p
	}
	m := *r.first
	m.Version *= 256
	if away := r.first.NotHere; r.second != nil && !away.IsEmpty() {
		acked, waiting := r.second.Split(away)
		m.Version += r.second.Version
		m.Acked, m.Waiting = union(m.Acked, acked), union(m.Waiting, waiting)
		m.NotHere, m.Unacked, m.Mute = r.second.NotHere, union(m.Unacked, r.second.Unacked), union(m.Mute, r.second.Mute)
	}
	s.doOutbound(s.outbound.Step(s.now(), outbound.Reported{Report: &m}))
	return true
}

// tellBoth passes on what was recorded of a merged report.
func (s *start) tellBoth(m *handoff.Recorded) bool {
	r := s.redirects[m.Ref]
	if r == nil || m.Inc != r.key.Inc {
		return false
	}
	for i, inc := range []job.Incarnation{r.key.Inc, r.inc} {
		version := []uint32{m.Version / 256, m.Version % 256}[i]
		g := s.w.gateway(inc.Gateway)
		c := handoff.Recorded{Ref: m.Ref, Inc: inc, Version: version, Settled: m.Settled}
		b := c.Bytes()
		if version > 0 {
			s.w.send(s.p, g.p, toRecorded, func() { g.onRecorded(b) })
		}
	}
	return true
}

func union(a, b *idset.Set) *idset.Set {
	switch {
	case a.IsEmpty():
		return b
	case b.IsEmpty():
		return a
	}
	u := a.Clone()
	u.Or(b)
	return u
}

// spoil makes parked what is admitted and not delivered.
func (s *start) spoil(p home.Pass, f *home.Findings) {
	if !s.w.rules.ParkedByDelivered {
		return
	}
	for _, o := range s.index.OpenReserves(func(job.Journal) bool { return true }) {
		if o.Range != p.Range || !o.Set.Intersects(p.Who) {
			continue
		}
		set := o.Set.Clone()
		set.And(p.Who)
		f.Items = append(f.Items, parked.Item{Job: o.Job, Number: parked.Number{Seq: o.Seq, Entry: o.Ref.Entry}, Set: set})
	}
}

// ownsCancel reports whether this start has seen a job's cancel or recall itself.
func (s *start) ownsCancel(id jobID) bool {
	j := s.w.byID[id]
	return j.cancelled == 0 || j.cancelled > s.since
}

// decideToo lets the sender decide doubt, which is the home's.
func (s *start) decideToo(e outbound.Append) {
	if !s.w.rules.TwoDeciders {
		return
	}
	d := e.Entry.(*ledger.Doubt)
	for _, o := range s.index.OpenReserves(func(j job.Journal) bool { return j == d.Of.Journal }) {
		if o.Ref == d.Of && o.Inc == d.Inc {
			s.after(tickEvery, func() {
				s.submit(&ledger.Decide{Job: d.Job, Range: d.Range, Delivered: idset.New(d.Range), Parked: o.Set.Clone(), Failed: idset.New(d.Range)},
					func(journal.Durable, bool) {})
			})
		}
	}
}

// seenBlock answers for a block of a job that was here before, whoever its targets are.
func (g *gatewayHost) seenBlock(h *handoff.Handoff, answer func([]byte)) bool {
	k := blockKey{h.Job, h.Targets.Range}
	if h.To != g.inc || g.from[h.Ref] {
		return false
	}
	if !g.seen[k] {
		g.seen[k] = true
		return false
	}
	a := handoff.Answer{Kind: handoff.Accepted, Reports: []handoff.Report{{Ref: h.Ref, Inc: h.To, Job: h.Job, Version: 1, Rest: handoff.RestAcked}}}
	answer(a.Bytes())
	return true
}
