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
	// Basis is the caller's word for what it looked at besides jobs, which comes back with what is
	// decided on it.
	Basis uint64
	limit int // default PassLimit
	ahead int // default aheadMost
	Job   func(job.ID) JobInfo
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
	Rest    []Turn     // what they have more, in the order in which they get it
}

// Plan decides a pass. It is a pure function of the findings.
func Plan(f Findings) Verdict {
	p := &plan{f: f, decisions: map[job.ID]*ledger.Decide{}, has: map[job.ID]*idset.Set{}, v: Verdict{More: idset.New(f.Range)}}
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
	order     []job.ID              // of decisions, as they came
	has       map[job.ID]*idset.Set // whose clients have what is parked
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
// forgotten; doubt is decided at once (rule 18); what is parked will be drained, first of
// all, and the gateway, which keeps the list, says that the client has it.
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
		case s.Where == job.Parked:
			if p.has[s.Job] == nil {
				p.has[s.Job] = idset.New(p.f.Range)
			}
			p.has[s.Job].Add(uint32(l.Recipient))
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
	rank   int // the least is drained first; -1: the clients have it, and may forget it then, which makes room
	number parked.Number
	set    *idset.Set
}

// drains hands what is parked and online to the gateways: first what the clients have, then
// urgent jobs, then in the order in which it was parked. What nobody is to wait for any longer
// is dropped before.
func (p *plan) drains() {
	batches := p.batches()
	p.suppress(batches)
	p.collapse(batches)
	p.limit(batches)
	batches = slices.DeleteFunc(p.apart(batches), func(b *batch) bool { return b.info.Paused })
	slices.SortStableFunc(batches, func(a, b *batch) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(b.info.Urgent, a.info.Urgent), cmp.Compare(a.number.Seq, b.number.Seq), cmp.Compare(a.number.Entry, b.number.Entry))
	})
	online := 0
	for _, o := range p.f.Online {
		online += o.Set.Card()
	}
	all := dealt{most: len(batches), limit: cmp.Or(p.f.limit, PassLimit), r: p.f.Range, ahead: online <= cmp.Or(p.f.ahead, aheadMost), full: idset.New(p.f.Range), more: p.v.More}
	for _, b := range batches {
		for _, o := range p.f.Online {
			s := b.set.Clone()
			s.And(o.Set)
			if s.IsEmpty() {
				s.Release()
				continue
			}
			b.set.AndNot(s) // nobody is a target of two incarnations
			all.deal(b, o.Inc, s)
		}
		b.set.Release()
	}
	if len(all.turns) == 0 {
		return
	}
	first, rest := all.turns[0], all.turns[1:]
	p.v.Entries, p.v.Urgent = append(p.v.Entries, first.Entries...), append(p.v.Urgent, first.Urgent...)
	p.v.Rest = rest
	for _, t := range rest { // whoever is in a later one is in this
		p.v.More.Or(t.Who)
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

// apart makes what clients have a batch of its own.
func (p *plan) apart(batches []*batch) []*batch {
	for _, b := range batches {
		if has := p.has[b.id]; has != nil && b.set.Intersects(has) {
			part := *b
			part.rank, part.set = -1, b.set.Clone()
			part.set.And(has)
			b.set.AndNot(part.set)
			batches = append(batches, &part)
		}
	}
	return batches
}

// Turn is the drains of one pass, or of one that needs no look of its own because the look
// before found what waits.
type Turn struct {
	Entries []ledger.Entry
	Urgent  []uint8    // of each entry
	Who     *idset.Set // its targets
}

// IsAt reports whether all targets of entries that are drains are at the incarnations to which
// they go.
func IsAt(entries []ledger.Entry, online []Online) bool {
	for _, x := range entries {
		d := x.(*ledger.Drain)
		for i, inc := range d.Targets.Incs {
			at := slices.IndexFunc(online, func(o Online) bool { return o.Inc == inc })
			if at < 0 || !within(d.Targets.Sets[i], online[at].Set) {
				return false
			}
		}
	}
	return true
}

// aheadMost is for how many recipients online later turns are planned, too: it takes a step for each
// of their messages. Where there are more, most of the time is not the look's.
const aheadMost = 32

// dealt deals drains to turns: of each recipient as many to one as a pass may take.
type dealt struct {
	turns []Turn
	most  int // jobs: the most that anybody can have
	limit int
	r     job.Range
	taken map[uint32]int // how many a recipient has
	ahead bool           // there are turns after the first; else:
	full  *idset.Set     // who has as much as the first may take
	more  *idset.Set     // and more
}

// deal adds what of a batch goes to one incarnation. It counts only when there are so many jobs
// that somebody could have more than one turn has.
func (d *dealt) deal(b *batch, inc job.Incarnation, s *idset.Set) {
	if d.most <= d.limit {
		d.add(0, b, inc, s)
		return
	}
	if d.taken == nil {
		d.taken = map[uint32]int{}
	}
	if !d.ahead {
		d.dealFirst(b, inc, s)
		return
	}
	var parts []*idset.Set
	for id := range s.All() {
		n := d.taken[id] / d.limit
		d.taken[id]++
		for len(parts) <= n {
			parts = append(parts, idset.New(d.r))
		}
		parts[n].Add(id)
	}
	s.Release()
	for n, part := range parts {
		if !part.IsEmpty() {
			d.add(n, b, inc, part)
		}
	}
}

// dealFirst deals to the first turn, and notes who has more.
func (d *dealt) dealFirst(b *batch, inc job.Incarnation, s *idset.Set) {
	if s.Intersects(d.full) {
		left := s.Clone()
		left.And(d.full)
		d.more.Or(left)
		s.AndNot(left)
		left.Release()
	}
	for id := range s.All() {
		if d.taken[id]++; d.taken[id] == d.limit {
			d.full.Add(id)
		}
	}
	if s.IsEmpty() {
		s.Release()
		return
	}
	d.add(0, b, inc, s)
}

func (d *dealt) add(n int, b *batch, inc job.Incarnation, s *idset.Set) {
	for len(d.turns) <= n {
		d.turns = append(d.turns, Turn{Who: idset.New(d.r)})
	}
	t := &d.turns[n]
	t.Who.Or(s)
	if k := len(t.Entries); k > 0 {
		if last := t.Entries[k-1].(*ledger.Drain); last.Job == b.id && !slices.Contains(last.Targets.Incs, inc) { // at another incarnation
			last.Targets.Incs, last.Targets.Sets = append(last.Targets.Incs, inc), append(last.Targets.Sets, s)
			return
		}
	}
	t.Entries = append(t.Entries, &ledger.Drain{Job: b.id, Range: d.r, Targets: ledger.Targets{Incs: []job.Incarnation{inc}, Sets: []*idset.Set{s}}})
	t.Urgent = append(t.Urgent, b.info.Urgent)
}

// Leaving counts how many of one set after the other a pass takes: of each recipient no more than
// it takes of anybody.
func Leaving(items []parked.Item) func(*idset.Set) int {
	if len(items) <= PassLimit { // nobody has more
		return (*idset.Set).Card
	}
	taken := map[uint32]int{}
	return func(s *idset.Set) (n int) {
		for id := range s.All() {
			if taken[id] < PassLimit {
				taken[id]++
				n++
			}
		}
		return n
	}
}
