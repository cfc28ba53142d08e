package home

import (
	"cmp"
	"slices"

	"crier/internal/idset"
	"crier/job"
	"crier/presence/handoff"
	"crier/state/ledger"
	"crier/state/parked"
)

// PassLimit is the most messages that one pass drains to one recipient; the rest
// follows when these are settled. It leaves room in the 64 that a connection may
// have unsettled (rule 14).
const PassLimit = 32

// JobInfo is what the home must know of a job to decide about its recipients.
type JobInfo struct {
	Known     bool
	Urgent    uint8
	Submitted int64 // Unix milliseconds
	Account   uint32
	Paused    bool
	Over      job.Outcome // Cancelled, Recalled or Expired if it may not be sent any more, else Parked
	Resend    bool        // the policy, or an operator, wants what is in doubt sent again
	Drop      bool        // an operator wants what is in doubt given up
	Suppress  *idset.Set  // recipients of the range that must not get it; may be nil
	Erased    *idset.Set  // those who asked to be forgotten after it was accepted; may be nil
	Withdraws bool        // it takes another job's message back
	// CollapseKey, with the account, is what older messages are replaced by; none: "".
	CollapseKey string
}

// Login is a client's hello at an incarnation.
type Login struct {
	handoff.Hello
	Inc job.Incarnation
}

// Standing is where one recipient stands in one job that its client named.
type Standing struct {
	Login int // index into Findings.Logins
	Job   job.ID
	Where job.Outcome
}

// Online is who of the recipients looked at is connected to an incarnation that
// has room for another reserve.
type Online struct {
	Inc job.Incarnation
	Set *idset.Set
}

// Findings is everything that a pass over a range decides on. Its sets are not
// changed and not kept.
type Findings struct {
	Range    job.Range
	Items    []parked.Item  // of the recipients looked at, oldest first
	Doubts   []parked.Doubt // of the range
	Online   []Online
	Logins   []Login
	Standing []Standing
	Ending   []Ended
	Cap      int // the most items that may wait for a recipient; 0 is any number
	Job      func(job.ID) JobInfo
}

// Ended is a job that is over in this range, or whose doubt an operator ended,
// with all that is parked of it here.
type Ended struct {
	Job    job.ID
	Parked *idset.Set
}

// Verdict is what a pass decided: entries for the journal, and what clients may
// forget, at once or after the entries are applied.
type Verdict struct {
	Entries []ledger.Entry
	Urgent  []uint8 // of each entry
	Settle  []handoff.Settle
	After   []handoff.Settle
	More    *idset.Set // recipients who have more waiting than one pass takes
}

// Plan decides a pass. It is a pure function of the findings.
func Plan(f Findings) Verdict {
	p := &plan{f: f, decisions: map[job.ID]*ledger.Decide{}, v: Verdict{More: idset.New(f.Range)}}
	p.haves()
	p.doubts()
	for _, id := range p.order {
		d := p.decisions[id]
		d.Parked.AndNot(d.Delivered) // one client has it, another does not: it arrived
		d.Failed.AndNot(d.Delivered)
		p.add(d, 0)
	}
	p.endings()
	p.drains()
	return p.v
}

type plan struct {
	f         Findings
	v         Verdict
	decisions map[job.ID]*ledger.Decide
	order     []job.ID // of decisions, as they came
}

func (p *plan) add(e ledger.Entry, urgent uint8) {
	p.v.Entries = append(p.v.Entries, e)
	p.v.Urgent = append(p.v.Urgent, urgent)
}

func (p *plan) decision(id job.ID) *ledger.Decide {
	d := p.decisions[id]
	if d == nil {
		r := p.f.Range
		d = &ledger.Decide{Job: id, Range: r, Delivered: idset.New(r), Parked: idset.New(r), Failed: idset.New(r)}
		p.decisions[id] = d
		p.order = append(p.order, id)
	}
	return d
}

// haves answers what the clients said they have: a terminal outcome may be
// forgotten; doubt is decided at once (rule 18); what is parked will be drained
// and the gateway, which keeps the list, says that the client has it.
func (p *plan) haves() {
	for _, s := range p.f.Standing {
		l := p.f.Logins[s.Login]
		settle := handoff.Settle{Inc: l.Inc, Recipient: l.Recipient, Jobs: []job.ID{s.Job}}
		switch {
		case s.Where == job.InDoubt:
			p.decision(s.Job).Delivered.Add(uint32(l.Recipient))
			if p.closed(s.Job, uint32(l.Recipient)) {
				p.v.After = append(p.v.After, settle)
			}
		case s.Where.Terminal(), !p.f.Job(s.Job).Known:
			p.v.Settle = append(p.v.Settle, settle)
		}
	}
}

// closed reports whether what put the recipient in doubt is known to be closed. If
// not, an incarnation may still write, and the client must remember (rule 14).
func (p *plan) closed(id job.ID, who uint32) bool {
	answered := false
	for _, d := range p.f.Doubts {
		if d.Job != id || !d.Set.Has(who) {
			continue
		}
		if d.Unanswered {
			return false
		}
		answered = true
	}
	return answered
}

// doubts decides what is in doubt for good: by what speaking clients lack, if
// nobody but a lost gateway knew, and by the job's policy.
func (p *plan) doubts() {
	for _, d := range p.f.Doubts {
		info := p.f.Job(d.Job)
		switch {
		case info.Over == job.Expired, !d.Unanswered && (info.Drop || info.Over == job.Cancelled || info.Over == job.Recalled):
			p.decision(d.Job).Failed.Or(d.Set)
			continue
		case d.Unanswered:
			continue
		}
		for _, l := range p.f.Logins {
			if p.lacks(l, d) {
				p.decision(d.Job).Parked.Add(uint32(l.Recipient))
			}
		}
		if !info.Resend {
			continue
		}
		for _, o := range p.f.Online {
			if d.Set.Intersects(o.Set) {
				again := d.Set.Clone()
				again.And(o.Set)
				p.decision(d.Job).Parked.Or(again)
				again.Release()
			}
		}
	}
}

// lacks reports whether a client says that it does not have what is in doubt. A
// hello that the lost incarnation passed on says nothing of what it wrote later.
func (p *plan) lacks(l Login, d parked.Doubt) bool {
	return l.Speaks && !d.Mute && l.Inc != d.Inc && d.Set.Has(uint32(l.Recipient)) && !slices.Contains(l.Have, d.Job)
}

// endings gives what is parked of a job that is over its outcome (rule 21).
func (p *plan) endings() {
	seen := map[job.ID]bool{} // twice would take the same recipients out of the park twice
	for _, e := range p.f.Ending {
		over := p.f.Job(e.Job).Over
		if over != job.Parked && !e.Parked.IsEmpty() && !seen[e.Job] {
			seen[e.Job] = true
			p.add(&ledger.Outcome{Job: e.Job, Range: p.f.Range, Outcome: over, Set: e.Parked.Clone()}, 0)
		}
	}
}

// batch is what of one job waits for those whom a pass is about.
type batch struct {
	id     job.ID
	info   JobInfo
	number parked.Number
	set    *idset.Set
}

// drains hands what is parked and online to the gateways, urgent jobs first, then
// in the order in which it was parked. What nobody is to wait for any longer is dropped
// before.
func (p *plan) drains() {
	batches := p.batches()
	p.suppress(batches)
	p.collapse(batches)
	p.limit(batches)
	batches = slices.DeleteFunc(batches, func(b *batch) bool { return b.info.Paused })
	slices.SortStableFunc(batches, func(a, b *batch) int {
		return cmp.Or(cmp.Compare(b.info.Urgent, a.info.Urgent), cmp.Compare(a.number.Seq, b.number.Seq), cmp.Compare(a.number.Entry, b.number.Entry))
	})
	room := newRoom(len(batches), p.f.Range)
	for _, b := range batches {
		var t ledger.Targets
		for _, o := range p.f.Online {
			s := b.set.Clone()
			s.And(o.Set)
			room.take(s, p.v.More)
			if s.IsEmpty() {
				s.Release()
				continue
			}
			b.set.AndNot(s) // nobody is a target of two incarnations
			t.Incs, t.Sets = append(t.Incs, o.Inc), append(t.Sets, s)
		}
		b.set.Release()
		if len(t.Incs) > 0 {
			p.add(&ledger.Drain{Job: b.id, Range: p.f.Range, Targets: t}, b.info.Urgent)
		}
	}
}

// batches joins the items of each job that is not over.
func (p *plan) batches() []*batch {
	var batches []*batch
	byJob := map[job.ID]*batch{}
	for _, it := range p.f.Items {
		if b := byJob[it.Job]; b != nil {
			b.set.Or(it.Set)
			continue
		}
		info := p.f.Job(it.Job)
		if !info.Known || info.Over != job.Parked {
			continue
		}
		b := &batch{id: it.Job, info: info, number: it.Number, set: it.Set.Clone()}
		byJob[it.Job] = b
		batches = append(batches, b)
	}
	return batches
}

// room holds each recipient to PassLimit messages a pass. It counts only when
// there are so many jobs that somebody could have more.
type room struct {
	taken map[uint32]int
	full  *idset.Set
}

func newRoom(jobs int, r job.Range) *room {
	if jobs <= PassLimit {
		return &room{}
	}
	return &room{taken: map[uint32]int{}, full: idset.New(r)}
}

// take removes those who have no room left from s and notes them in more.
func (m *room) take(s, more *idset.Set) {
	if m.taken == nil {
		return
	}
	if s.Intersects(m.full) {
		left := s.Clone()
		left.And(m.full)
		more.Or(left)
		s.AndNot(left)
		left.Release()
	}
	for id := range s.All() {
		if m.taken[id]++; m.taken[id] == PassLimit {
			m.full.Add(id)
		}
	}
}
