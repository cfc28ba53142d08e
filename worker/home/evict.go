package home

import (
	"cmp"
	"slices"

	"crier/internal/idset"
	"crier/job"
	"crier/state/ledger"
	"crier/state/parked/crowd"
)

// Who waits for too much: of the messages with one collapse key the older ones are dropped,
// and what was parked first beyond the cap. A drop is an outcome like any other: it is in
// the home's journal, once, and the next pass begins when the index has it.

// keyed is the messages that replace each other: of one account, with one collapse key.
type keyed struct {
	account uint32
	key     string
}

// drop takes recipients out of a batch for good. The set is kept.
func (p *plan) drop(b *batch, out *idset.Set, reason job.Reason) {
	if out.IsEmpty() {
		out.Release()
		return
	}
	b.set.AndNot(out)
	p.add(&ledger.Outcome{Job: b.id, Range: p.f.Range, Outcome: job.Dropped, Reason: reason, Set: out}, 0)
}

// suppress drops who asked to be forgotten, and who was suppressed meanwhile. Of the first
// nobody comes back, so that they need not wait for the end of a pause.
func (p *plan) suppress(batches []*batch) {
	for _, b := range batches {
		p.dropAmong(b, b.info.Erased)
		if !b.info.Paused {
			p.dropAmong(b, b.info.Suppress)
		}
	}
}

// dropAmong drops those of a batch who are in a set; nil is nobody.
func (p *plan) dropAmong(b *batch, who *idset.Set) {
	if who == nil || !b.set.Intersects(who) {
		return
	}
	out := b.set.Clone()
	out.And(who)
	p.drop(b, out, job.SuppressedParked)
}

// collapse keeps of each recipient's messages with one key the newest, as their clients
// would: by when it was submitted, not by when it was parked, for an older one may come back
// later. A job that is paused replaces nothing yet, because it may never be sent.
func (p *plan) collapse(batches []*batch) {
	groups := map[keyed][]*batch{}
	var order []keyed
	for _, b := range batches {
		if b.info.CollapseKey == "" {
			continue
		}
		k := keyed{b.info.Account, b.info.CollapseKey}
		if groups[k] == nil {
			order = append(order, k)
		}
		groups[k] = append(groups[k], b)
	}
	for _, k := range order {
		group := groups[k]
		slices.SortFunc(group, func(a, b *batch) int {
			return cmp.Or(cmp.Compare(b.info.Submitted, a.info.Submitted), slices.Compare(b.id[:], a.id[:]))
		})
		newer := idset.New(p.f.Range)
		for _, b := range group {
			out := b.set.Clone()
			out.And(newer)
			if !b.info.Paused {
				newer.Or(b.set)
			}
			p.drop(b, out, job.ReasonCollapsed)
		}
		newer.Release()
	}
}

// limit drops what was parked first for whoever has more than the cap. Nobody has two
// items of one job, so that with few jobs there is nothing to count. Withdrawals are
// neither counted nor dropped: who does not get one keeps what was taken back.
func (p *plan) limit(batches []*batch) {
	if p.f.Cap <= 0 || len(batches) <= p.f.Cap {
		return
	}
	byJob := make(map[job.ID]*batch, len(batches))
	over := make(map[job.ID]*idset.Set)
	for _, b := range batches {
		if !b.info.Withdraws {
			byJob[b.id] = b
		}
	}
	kept, full := map[uint32]int{}, idset.New(p.f.Range)
	defer full.Release()
	for _, it := range slices.Backward(p.f.Items) { // the newest first
		b := byJob[it.Job]
		if b == nil {
			continue
		}
		s := it.Set.Clone()
		s.And(b.set)
		if s.Intersects(full) {
			out := s.Clone()
			out.And(full)
			s.AndNot(out)
			if over[b.id] == nil {
				over[b.id] = idset.New(p.f.Range)
			}
			over[b.id].Or(out)
			out.Release()
		}
		for id := range s.All() {
			if kept[id]++; kept[id] == p.f.Cap {
				full.Add(id)
			}
		}
		s.Release()
	}
	for _, b := range batches {
		if out := over[b.id]; out != nil {
			p.drop(b, out, job.ReasonParkCap)
		}
	}
}

// Crowd says of which jobs too much may be parked for somebody, given all of which anybody is
// parked: of none if nobody can have two with one key, or more than the cap.
func Crowd(most int, waiting map[job.ID]JobInfo) crowd.Limits {
	groups, size, counts := map[keyed]int{}, map[int]int{}, 0
	c := crowd.Limits{Cap: most, Of: map[job.ID]crowd.Member{}}
	for id, info := range waiting {
		if !info.Known || info.Over != job.Parked {
			continue
		}
		m := crowd.Member{Counts: !info.Withdraws}
		if m.Counts {
			counts++
		}
		// One that is paused replaces nothing, and is replaced when it is not paused any more.
		if info.CollapseKey != "" && !info.Paused {
			k := keyed{info.Account, info.CollapseKey}
			if groups[k] == 0 {
				groups[k] = len(groups) + 1
			}
			m.Group = groups[k]
			size[m.Group]++
		}
		c.Of[id] = m
	}
	if counts <= most {
		c.Cap = 0
	}
	for id, m := range c.Of {
		if size[m.Group] < 2 {
			m.Group = 0
		}
		if c.Of[id] = m; m.Group == 0 && c.Cap == 0 {
			delete(c.Of, id)
		}
	}
	return c
}
