package home

import (
	"iter"
	"maps"
	"slices"

	"crier/internal/idset"
)

// Turns: who has more waiting than one pass takes gets it turn after turn, two of them under way at
// a time. A turn that the last look found needs no look of its own, and does not wait until the
// index has the one before.

// load is what somebody has under way who has more waiting, or to whom messages did not get.
type load struct {
	open  int // messages drained to them that are not closed
	found int // how often they were found waiting while that was too much
	away  int // messages that came back since one did not
	tries int // how often they were tried while full
	wait  int // ticks until they are tried again; below 0 since when they may be
}

const (
	// foundMost is how often somebody is found waiting in vain, by a sweep every 3 s, before they are
	// looked at all the same: whatever was to close something may be gone.
	foundMost = 20
	// triesMost bounds the ticks between tries of who is full: 64.
	triesMost = 6
	// fullMost is how many ticks somebody is taken for full whom nobody finds online and waiting.
	fullMost = 120
)

// isFull reports whether a whole turn came back: the window is full of what nobody can settle for now,
// such as messages of a paused job. All that waits would go to the gateway and back again and again.
func (l load) isFull(limit int) bool { return l.away >= limit }

// hasRoom reports whether two turns fit: into what a connection may have unsettled (rule 14).
func (l load) hasRoom(limit int) bool { return l.open <= limit && !l.isFull(limit) }

// came is the load when one more is closed: it did not get there, or it did, which makes room.
func (l load) came(back bool, limit int) load {
	l.open = max(0, l.open-1)
	if !back {
		return load{open: l.open}
	}
	l.away++
	if l.isFull(limit) && l.wait <= 0 {
		l.tries = min(l.tries+1, triesMost)
		l.wait = 1 << l.tries
	}
	return l
}

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
	for id := range x.among(who) {
		l := x.load[id]
		switch {
		case l.isFull(limit):
			if l.wait > 0 {
				out.Add(id)
			}
		case l.open > limit && x.more.Has(id):
			if l.found++; l.found > foundMost {
				delete(x.load, id)
				continue
			}
			x.load[id] = l
			out.Add(id)
		}
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
			l := x.load[id]
			l.open += limit
			x.load[id] = l
		}
		x.makeReady(id, limit)
	}
	x.held = nil
}

// makeReady lets somebody have another turn who has room for it.
func (x *rangeState) makeReady(id uint32, limit int) {
	if !x.load[id].hasRoom(limit) || !x.more.Has(id) {
		return
	}
	if x.ready == nil {
		x.ready = idset.New(x.more.Range)
	}
	x.ready.Add(id)
}

// closed notes of whom one message is closed, and to whom it did not get. It may be one from before
// they had more, or before they logged in again: then some may come back for lack of room, and wait
// for the next sweep.
func (x *rangeState) closed(who, away *idset.Set, limit int) {
	if !away.IsEmpty() {
		for id := range away.All() {
			x.note(id, x.load[id].came(true, limit))
			x.makeReady(id, limit)
		}
	}
	for id := range x.among(who) {
		if !away.IsEmpty() && away.Has(id) {
			continue
		}
		if x.load[id].isFull(limit) {
			x.want(who.Range, idset.Of(id))
		}
		x.note(id, x.load[id].came(false, limit))
		x.makeReady(id, limit)
	}
}

// among gives those of a set who have a load.
func (x *rangeState) among(who *idset.Set) iter.Seq[uint32] {
	ids := maps.Keys(x.load)
	if few, ok := who.Few(); ok { // a login, most often
		ids = slices.Values(few)
	}
	return func(yield func(uint32) bool) {
		for id := range ids {
			if _, ok := x.load[id]; ok && who.Has(id) && !yield(id) {
				return
			}
		}
	}
}

func (x *rangeState) note(id uint32, l load) {
	if l == (load{}) {
		delete(x.load, id)
	} else {
		x.load[id] = l
	}
}

// wane lets time pass for those to whom messages did not get.
func (x *rangeState) wane(limit int) {
	for id, l := range x.load {
		switch {
		case l.away == 0:
			continue
		case !l.isFull(limit): // some come back of whoever moves
			l = load{open: l.open, found: l.found}
		default:
			l.wait--
		}
		if l.wait < -fullMost {
			l = load{}
		}
		x.note(id, l)
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
