package home

import (
	"maps"
	"slices"

	"crier/internal/idset"
)

// Turns: who has more waiting than one pass takes gets it turn after turn, two of them under way at
// a time. A turn that the last look found needs no look of its own, and does not wait until the
// index has the one before.

// load is what somebody has who has more waiting.
type load struct {
	open  int // messages drained to them that are not closed
	found int // how often they were found waiting while that was too much
}

// foundMost is how often somebody is found waiting in vain, by a sweep every 3 s, before they are looked
// at all the same: whatever was to close something may be gone.
const foundMost = 20

// leaveOut takes those out of who was found waiting who get more when they have room for it, and not
// before: a client that never answers would have it drained and parked again by every sweep. Who
// logs in has another connection, and room.
func (x *rangeState) leaveOut(who *idset.Set, logins []Login, limit int) {
	if len(x.load) == 0 {
		return
	}
	for _, l := range logins {
		delete(x.load, uint32(l.Recipient))
	}
	out := idset.New(who.Range)
	defer out.Release()
	ids := maps.Keys(x.load)
	if few, ok := who.Few(); ok { // a login, most often
		ids = slices.Values(few)
	}
	for id := range ids {
		l := x.load[id]
		if l.open <= limit || !who.Has(id) || !x.more.Has(id) {
			continue
		}
		if l.found++; l.found > foundMost {
			delete(x.load, id)
			continue
		}
		x.load[id] = l
		out.Add(id)
	}
	who.AndNot(out)
}

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
	x.more.Or(x.held)
	for id := range x.held.All() {
		if !partly {
			x.load[id] = load{open: x.load[id].open + limit}
		}
		x.makeReady(id, limit)
	}
	x.held = nil
}

// makeReady lets somebody have another turn who has at most one that is not closed: two fit into what
// a connection may have unsettled (rule 14).
func (x *rangeState) makeReady(id uint32, limit int) {
	if x.load[id].open > limit || !x.more.Has(id) {
		return
	}
	if x.ready == nil {
		x.ready = idset.New(x.more.Range)
	}
	x.ready.Add(id)
}

// closed notes of whom one message is closed. It may be one from before they had more, or before they
// logged in again: then some may come back for lack of room, and wait for the next sweep.
func (x *rangeState) closed(who *idset.Set, limit int) {
	for id := range who.All() {
		l, ok := x.load[id]
		if !ok {
			continue
		}
		if l = (load{open: l.open - 1}); l.open > 0 {
			x.load[id] = l
		} else {
			delete(x.load, id)
		}
		if l.open <= limit {
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
