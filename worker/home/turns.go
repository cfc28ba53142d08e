package home

import "crier/internal/idset"

// Turns: who has more waiting than one pass takes gets it turn after turn, two of them under way at
// a time. A turn that the last look found needs no look of its own, and does not wait until the
// index has the one before.

// keep remembers who has more waiting than the pass took, which drained as many to each of them as
// it may; unless it was appended partly: who lacks something of this turn is not to get the next
// one's before, and another look tells what they lack.
func (x *rangeState) keep(limit int, partly bool) {
	if partly {
		x.rest = nil
	}
	if x.held.IsEmpty() {
		x.held = nil
		return
	}
	if x.more == nil {
		x.more, x.load = idset.New(x.held.Range), map[uint32]int{}
	}
	x.more.Or(x.held)
	for id := range x.held.All() {
		if !partly {
			x.load[id] += limit
		}
		x.makeReady(id, limit)
	}
	x.held = nil
}

// makeReady lets somebody have another turn who has at most one that is not closed: two fit into what
// a connection may have unsettled (rule 14).
func (x *rangeState) makeReady(id uint32, limit int) {
	if x.load[id] > limit || !x.more.Has(id) {
		return
	}
	if x.ready == nil {
		x.ready = idset.New(x.more.Range)
	}
	x.ready.Add(id)
}

// closed notes of whom one message is closed.
func (x *rangeState) closed(who *idset.Set, limit int) {
	for id := range who.All() {
		n, ok := x.load[id]
		if !ok {
			continue
		}
		if n--; n > 0 {
			x.load[id] = n
		} else {
			delete(x.load, id)
		}
		if n <= limit {
			x.makeReady(id, limit)
		}
	}
}

// goOn takes the next turn of what the last look found.
func (x *rangeState) goOn() []Effect {
	t := x.rest[0]
	x.rest, x.ready = x.rest[1:], nil
	x.more = idset.New(x.next.Range)
	if len(x.rest) > 0 {
		x.held = x.rest[0].Who.Clone() // whoever is in a later one is in this
	}
	x.now, x.phase = Pass{Range: x.next.Range, Who: t.Who}, appending
	return []Effect{Append{Range: x.next.Range, Entries: t.Entries, Urgent: t.Urgent, Basis: x.basis, Who: t.Who}}
}

func within(s, of *idset.Set) bool {
	left := s.Clone()
	defer left.Release()
	left.AndNot(of)
	return left.IsEmpty()
}
