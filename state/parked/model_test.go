package parked_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"crier/internal/idset"
	"crier/job"
	"crier/state/ledger"
	"crier/state/parked"
)

// status is where one recipient of a job stands.
type status struct {
	outcome job.Outcome
	reason  job.Reason
	number  parked.Number // while parked
	flagged bool
	lot     lotKey // while handed off or in doubt
	mute    bool
	final   bool // in doubt for good
}

type lotKey struct {
	ref job.Ref
	inc job.Incarnation
}

// lot is a reserve at an incarnation: whom it names and has not had the last word about.
type lot struct {
	job   job.ID
	rng   job.Range
	names map[uint32]bool
}

type writer struct {
	journal job.Journal
	next    uint64
	prev    job.Digest
	sealed  bool
}

type who struct {
	id  job.ID
	who uint32
}

// history makes random valid ledgers and keeps, recipient by recipient, what they
// mean. It knows nothing of rows, pages or cells.
type history struct {
	rng      *rand.Rand
	packages map[job.ID]map[uint32]bool
	people   map[who]*status
	seen     map[who]bool      // it may have been written to a socket
	spans    map[job.ID][]bool // by place: ids inside reserved spans, member or not
	lots     map[lotKey]*lot
	writers  []*writer
	seq      uint64
	records  []ledger.Stored
	verdicts map[who]*verdict     // of charges
	judged   map[job.ID][]bool    // by place: ids inside charged spans, member or not
	day      uint32               // of the last charge
	last     map[job.Range]uint32 // day that was charged last
	dice     *rand.Rand           // of the checks
	crowded  int                  // recipients for whom too much was parked, over all checks
}

var (
	testJobs   = []job.ID{{1}, {2}, {3}}
	testRanges = []job.Range{2, 3}
)

const regionSize = 1 << 17 // ids of a range that are used: two containers

// placeOf is the index of an id among all that are used.
func placeOf(id uint64) int {
	return int(id>>job.RangeBits-uint64(testRanges[0]))*regionSize + int(id&(1<<job.RangeBits-1))
}

func newHistory(seed uint64) *history {
	h := &history{rng: rand.New(rand.NewPCG(seed, 7)), dice: rand.New(rand.NewPCG(seed, 8)), packages: map[job.ID]map[uint32]bool{}, people: map[who]*status{}, seen: map[who]bool{},
		spans: map[job.ID][]bool{}, lots: map[lotKey]*lot{}, verdicts: map[who]*verdict{}, judged: map[job.ID][]bool{}, day: 20_000, last: map[job.Range]uint32{}}
	for _, id := range testJobs {
		h.packages[id] = map[uint32]bool{}
		h.spans[id] = make([]bool, len(testRanges)*regionSize)
		for _, r := range testRanges {
			for range 60 { // on both sides of the borders of pages and containers
				border := uint32(h.rng.IntN(regionSize>>12)+1) << 12
				h.packages[id][r.Lo()+min(regionSize-1, border-8+h.rng.Uint32N(16))] = true
			}
		}
	}
	for i := range 2 {
		h.open(uint32(i + 1))
	}
	return h
}

// PackageRange implements parked.Packages.
func (h *history) PackageRange(_ context.Context, id job.ID, r job.Range) (*idset.Set, error) {
	s := idset.New(r)
	for i := range h.packages[id] {
		if job.Recipient(i).Range() == r {
			s.Add(i)
		}
	}
	return s, nil
}

// Get implements parked.Records.
func (h *history) Get(_ context.Context, seq uint64) (ledger.Stored, error) {
	for _, st := range h.records {
		if st.Seq == seq {
			return st, nil
		}
	}
	return ledger.Stored{}, ledger.ErrNoRecord
}

func (h *history) open(n uint32) {
	w := &writer{journal: job.Journal{Worker: fmt.Sprintf("w%d", n%2), Incarnation: n}}
	h.writers = append(h.writers, w)
	h.append(w, []ledger.Entry{ledger.Open{Boot: "b"}})
}

// append stores a record of a journal; others write in between.
func (h *history) append(w *writer, entries []ledger.Entry) ledger.Stored {
	return h.appendAt(w, entries, h.seq+1+h.rng.Uint64N(3))
}

func (h *history) appendAt(w *writer, entries []ledger.Entry, seq uint64) ledger.Stored {
	rec := ledger.Record{Journal: w.journal, N: w.next, Nonce: [16]byte{byte(w.next)}, Prev: w.prev, Entries: entries}
	st := ledger.Stored{Seq: seq, Subject: ledger.JournalSubject(w.journal), Data: rec.Bytes()}
	h.seq = seq
	w.next, w.prev = w.next+1, ledger.HashOf(st.Data)
	h.records = append(h.records, st)
	return st
}

func pick[T any](h *history, from []T) T { return from[h.rng.IntN(len(from))] }

// members are the ids of a job's package in a range for which keep is true, ascending.
func (h *history) members(id job.ID, r job.Range, keep func(s *status) bool) []uint32 {
	var out []uint32
	for i := range h.packages[id] {
		if s := h.people[who{id, i}]; job.Recipient(i).Range() == r && keep(s) {
			out = append(out, i)
		}
	}
	slices.Sort(out)
	return out
}

// some are a random part of ids.
func (h *history) some(ids []uint32) []uint32 {
	p := h.rng.Float64()
	return slices.DeleteFunc(slices.Clone(ids), func(uint32) bool { return h.rng.Float64() > p })
}

func setOf(r job.Range, ids ...uint32) *idset.Set {
	s := idset.New(r)
	for _, i := range ids {
		s.Add(i)
	}
	return s
}

// deal makes targets of ids at up to three incarnations.
func (h *history) deal(r job.Range, ids []uint32) (ledger.Targets, map[job.Incarnation][]uint32) {
	var t ledger.Targets
	dealt := map[job.Incarnation][]uint32{}
	n := 1 + h.rng.IntN(3)
	for i := range n {
		t.Incs = append(t.Incs, job.Incarnation{Gateway: fmt.Sprintf("g%d", i), Start: 1 + h.rng.Uint32N(2)})
		t.Sets = append(t.Sets, idset.New(r))
	}
	for _, i := range ids {
		k := h.rng.IntN(n)
		t.Sets[k].Add(i)
		dealt[t.Incs[k]] = append(dealt[t.Incs[k]], i)
	}
	if len(ids) == 0 {
		return ledger.Targets{}, dealt
	}
	return t, dealt
}

// handOff is what targets mean.
func (h *history) handOff(id job.ID, r job.Range, ref job.Ref, dealt map[job.Incarnation][]uint32) {
	for inc, ids := range dealt {
		k := lotKey{ref, inc}
		h.lots[k] = &lot{id, r, map[uint32]bool{}}
		for _, i := range ids {
			h.lots[k].names[i] = true
			h.people[who{id, i}] = &status{outcome: job.HandedOff, lot: k}
		}
	}
}

// step makes one more entry.
func (h *history) step(at parked.Number, ref job.Ref) ledger.Entry {
	id, r := pick(h, testJobs), pick(h, testRanges)
	switch n := h.rng.IntN(23); {
	case n >= 19:
		return h.charge(id, r)
	case n < 5:
		return h.reserve(at, ref, id, r)
	case n < 8:
		return h.drain(ref, id, r)
	case n < 13:
		return h.done(at)
	case n < 15:
		return h.doubt()
	case n < 17:
		return h.decide(at, id, r)
	case n < 18:
		return h.outcome(id, r)
	}
	return nil
}

func (h *history) reserve(at parked.Number, ref job.Ref, id job.ID, r job.Range) ledger.Entry {
	// From a random id to at most the next reserved one.
	lo := uint64(r.Lo()) + h.rng.Uint64N(regionSize)
	hi := lo
	for end := min(uint64(r.Lo())+regionSize, lo+1+h.rng.Uint64N(regionSize/3)); hi < end && !h.spans[id][placeOf(hi)]; hi++ {
	}
	if hi == lo {
		return nil
	}
	e := &ledger.Reserve{Job: id, Slice: uint32(h.rng.IntN(4)), Span: job.Span{Lo: lo, Hi: hi}, Rest: job.Parked}
	ids := h.members(id, r, func(*status) bool { return true })
	ids = slices.DeleteFunc(ids, func(i uint32) bool { return !e.Span.Has(job.Recipient(i)) })
	e.IDs = uint32(len(ids))
	rest := ids
	if h.rng.IntN(5) == 0 {
		e.Rest = pick(h, []job.Outcome{job.Cancelled, job.Expired, job.Recalled})
	}
	split := func() []uint32 {
		part := h.some(rest)
		rest = slices.DeleteFunc(slices.Clone(rest), func(i uint32) bool { return slices.Contains(part, i) })
		return part
	}
	states := map[uint32]*status{}
	rest = h.refused(id, rest, states)
	for _, reason := range []job.Reason{job.ReasonRelation, job.ReasonSuppressed} {
		if h.rng.IntN(2) == 0 {
			part := split()
			e.Dropped = append(e.Dropped, ledger.Drop{Reason: reason, Set: setOf(r, part...)})
			for _, i := range part {
				states[i] = &status{outcome: job.Dropped, reason: reason}
				h.refund(id, i)
			}
		}
	}
	var dealt map[job.Incarnation][]uint32
	e.Targets, dealt = h.deal(r, split())
	for i := lo; i < hi; i++ {
		h.spans[id][placeOf(i)] = true
	}
	h.handOff(id, r, ref, dealt)
	for _, i := range rest {
		states[i] = &status{outcome: e.Rest, number: at}
		if e.Rest != job.Parked {
			h.refund(id, i)
		}
	}
	for i, s := range states {
		h.people[who{id, i}] = s
	}
	return e
}

func (h *history) drain(ref job.Ref, id job.ID, r job.Range) ledger.Entry {
	ids := h.some(h.members(id, r, func(s *status) bool { return s != nil && s.outcome == job.Parked }))
	e := &ledger.Drain{Job: id, Range: r}
	var dealt map[job.Incarnation][]uint32
	e.Targets, dealt = h.deal(r, ids)
	h.handOff(id, r, ref, dealt)
	return e
}

func (h *history) lotKeys() []lotKey {
	keys := slices.Collect(maps.Keys(h.lots))
	slices.SortFunc(keys, func(a, b lotKey) int { return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	return keys
}

func (h *history) done(at parked.Number) ledger.Entry {
	keys := h.lotKeys()
	if len(keys) == 0 {
		return nil
	}
	k := pick(h, keys) // it may be closed long since
	l := h.lots[k]
	e := &ledger.Done{Job: l.job, Range: l.rng, Of: k.ref, Inc: k.inc}
	sets := []**idset.Set{nil, &e.Waiting, &e.NotHere, &e.Unacked, &e.Mute, &e.Refused}
	waits := h.rng.IntN(2)
	for _, i := range slices.Sorted(maps.Keys(l.names)) {
		c := h.rng.IntN(len(sets))
		if waits == 1 && h.rng.IntN(2) == 0 {
			c = 1
		}
		if c > 0 {
			if *sets[c] == nil {
				*sets[c] = idset.New(l.rng)
			}
			(*sets[c]).Add(i)
		}
		if c != 1 {
			delete(l.names, i) // the incarnation's last word about it
		}
		s := h.people[who{l.job, i}]
		if s.lot != k || s.outcome != job.HandedOff && (s.outcome != job.InDoubt || s.mute || s.final) {
			continue // decided meanwhile, or closed
		}
		if c == 0 || c == 3 || c == 4 {
			h.seen[who{l.job, i}] = true
		}
		switch c {
		case 0:
			*s = status{outcome: job.Delivered}
		case 1:
			*s = status{outcome: job.HandedOff, lot: k}
		case 2, 3:
			*s = status{outcome: job.Parked, number: at, flagged: c == 3}
			if c == 3 {
				h.flag(l.job, i)
			}
		case 4:
			*s = status{outcome: job.InDoubt, lot: k, mute: true}
		case 5:
			*s = status{outcome: job.Failed, reason: job.ReasonRefused}
			h.refund(l.job, i)
		}
	}
	return e
}

func (h *history) doubt() ledger.Entry {
	keys := h.lotKeys()
	if len(keys) == 0 {
		return nil
	}
	k := pick(h, keys)
	l := h.lots[k]
	e := &ledger.Doubt{Job: l.job, Range: l.rng, Of: k.ref, Inc: k.inc, Final: h.rng.IntN(3) == 0}
	for i := range l.names {
		s := h.people[who{l.job, i}]
		if s.lot == k && (s.outcome == job.HandedOff || s.outcome == job.InDoubt && !s.mute && !s.final) {
			*s = status{outcome: job.InDoubt, lot: k, final: e.Final}
		}
	}
	if e.Final {
		clear(l.names)
	}
	return e
}

func (h *history) decide(at parked.Number, id job.ID, r job.Range) ledger.Entry {
	e := &ledger.Decide{Job: id, Range: r, Delivered: idset.New(r), Parked: idset.New(r), Failed: idset.New(r)}
	for _, i := range h.some(h.members(id, r, func(*status) bool { return true })) {
		c := h.rng.IntN(3)
		[]*idset.Set{e.Delivered, e.Parked, e.Failed}[c].Add(i)
		if s := h.people[who{id, i}]; s != nil && s.outcome == job.InDoubt {
			h.seen[who{id, i}] = true
			*s = status{outcome: []job.Outcome{job.Delivered, job.Parked, job.Failed}[c]}
			switch c {
			case 1:
				s.number, s.flagged = at, true
				h.flag(id, i)
			case 2:
				s.reason = job.ReasonUnknown
			}
		}
	}
	return e
}

func (h *history) outcome(id job.ID, r job.Range) ledger.Entry {
	e := &ledger.Outcome{Job: id, Range: r, Outcome: pick(h, []job.Outcome{job.Expired, job.Cancelled, job.Recalled, job.Dropped, job.Failed})}
	switch e.Outcome {
	case job.Dropped:
		e.Reason = job.SuppressedParked
	case job.Failed:
		e.Reason = job.ReasonTries
	}
	ids := h.some(h.members(id, r, func(s *status) bool { return s != nil && s.outcome == job.Parked }))
	e.Set = setOf(r, ids...)
	for _, i := range ids {
		h.refund(id, i)
		*h.people[who{id, i}] = status{outcome: e.Outcome, reason: e.Reason}
	}
	return e
}

// close has the last word about all that is open: every reserve is answered, and what is
// in doubt given up.
func (h *history) close() {
	w := h.writers[slices.IndexFunc(h.writers, func(w *writer) bool { return !w.sealed })]
	at := func() parked.Number { return parked.Number{Seq: h.seq + 1} }
	for range 1000 { // done picks a random reserve, and may leave some waiting
		if !slices.ContainsFunc(slices.Collect(maps.Values(h.people)), func(s *status) bool { return s.outcome == job.HandedOff }) {
			break
		}
		h.appendAt(w, []ledger.Entry{h.done(at())}, h.seq+1)
	}
	for _, id := range testJobs {
		for _, r := range testRanges {
			ids := h.members(id, r, func(s *status) bool { return s != nil && s.outcome == job.InDoubt })
			for _, i := range ids {
				h.seen[who{id, i}] = true
				*h.people[who{id, i}] = status{outcome: job.Failed, reason: job.ReasonUnknown}
			}
			h.appendAt(w, []ledger.Entry{&ledger.Decide{Job: id, Range: r, Failed: setOf(r, ids...), Delivered: idset.New(r), Parked: idset.New(r)}}, h.seq+1)
		}
	}
}

// record makes one more record of a random journal, which may be sealed, or an erasure.
func (h *history) record() ledger.Stored {
	w := pick(h, h.writers)
	id, r := pick(h, testJobs), pick(h, testRanges)
	if h.rng.IntN(6) == 0 {
		return h.erase()
	}
	lo := uint64(r.Lo())
	void := []ledger.Entry{&ledger.Reserve{Job: id, Span: job.Span{Lo: lo, Hi: lo + 64}, Rest: job.Parked}}
	switch {
	case w.sealed: // a stale owner: whatever it writes is void, its numbers too
		w.next = h.rng.Uint64N(100)
		return h.append(w, void)
	case h.rng.IntN(40) == 0:
		w.sealed = true
		st := h.append(w, append([]ledger.Entry{ledger.Seal{}}, void...))
		h.open(uint32(len(h.writers) + 1))
		return st
	}
	seq := h.seq + 1 + h.rng.Uint64N(3)
	var entries []ledger.Entry
	for range 1 + h.rng.IntN(4) {
		k := uint16(len(entries))
		if e := h.step(parked.Number{Seq: seq, Entry: k}, job.Ref{Journal: w.journal, N: w.next, Entry: k}); e != nil {
			entries = append(entries, e)
		}
	}
	if len(entries) == 0 {
		entries = []ledger.Entry{ledger.Open{Boot: "again"}}
	}
	return h.appendAt(w, entries, seq)
}
