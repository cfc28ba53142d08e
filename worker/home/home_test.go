package home

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"crier/internal/idset"
	"crier/job"
	"crier/presence/handoff"
	"crier/state/ledger"
	"crier/state/parked"
)

func init() { // before the command line, which may say otherwise
	flag.Set("rapid.checks", "300")
	flag.Set("rapid.steps", "120")
	flag.Set("rapid.nofailfile", "true")
}

// place is one recipient in one job.
type place struct {
	id  job.ID
	who uint32
}

// entry is an entry on its way: submitted, stored, applied.
type entry struct {
	rng   job.Range
	entry ledger.Entry
	seq   uint64
}

// pass is the pass under way in one range, as the oracle follows it.
type pass struct {
	now     Pass
	found   bool
	entries []ledger.Entry
	urgent  []uint8
	seq     uint64 // of its last entry, once stored
}

// world is an index kept naively, a ledger, and clients.
type world struct {
	t       *rapid.T
	s       *State
	jobs    map[job.ID]JobInfo
	ids     []job.ID
	people  []uint32
	online  map[uint32]bool
	parked  map[place]uint64 // park number
	doubt   map[place]bool   // for good
	open    map[place]bool   // drained, not done
	over    map[place]string // terminal
	passes  map[job.Range]*pass
	wanted  map[uint32]bool        // since they were wanted no look was about them
	hellos  map[uint32]int         // logins that no look was about
	ending  map[job.Range][]job.ID // the same of jobs
	settled map[string]bool        // what clients were told to forget
	away    map[job.Range]bool     // ranges that were ended: nothing about them begins
	quiet   map[job.Range]bool     // the same, once nothing is under way
	last    map[job.Range]uint64   // sequence of the last entry since a range was begun
	stored  []entry                // not applied yet
	told    uint64                 // the last sequence that State was told is applied
	seq     uint64
	cap     int
	drops   map[job.Reason]int                // how many recipients passes dropped
	turns   int                               // without a look
	stale   int                               // the same, and not taken
	out     map[place]bool                    // drained since the last look at its range, and not done
	late    map[uint32]int                    // of each, how many older ones were done since
	script  map[job.Range]map[uint32][]job.ID // what is left to be drained of what the last look found
}

// begun is a worker that is home to two ranges.
func begun() *State {
	s := New()
	s.Step(Begin{0})
	s.Step(Begin{1})
	return s
}

func newWorld(t *rapid.T) *world {
	w := &world{t: t, s: begun(), jobs: map[job.ID]JobInfo{}, online: map[uint32]bool{}, parked: map[place]uint64{}, doubt: map[place]bool{},
		open: map[place]bool{}, over: map[place]string{}, passes: map[job.Range]*pass{}, wanted: map[uint32]bool{}, hellos: map[uint32]int{},
		ending: map[job.Range][]job.ID{}, settled: map[string]bool{}, away: map[job.Range]bool{}, quiet: map[job.Range]bool{}, last: map[job.Range]uint64{},
		drops: map[job.Reason]int{}, out: map[place]bool{}, late: map[uint32]int{}, script: map[job.Range]map[uint32][]job.ID{}}
	w.s.limit = rapid.SampledFrom([]int{1, 3, PassLimit}).Draw(t, "limit")
	w.s.ahead = rapid.SampledFrom([]int{1, aheadMost, aheadMost}).Draw(t, "ahead")
	w.s.most = rapid.SampledFrom([]int{1, 2, admitMost}).Draw(t, "admitted")
	w.cap = rapid.SampledFrom([]int{0, 1, 3}).Draw(t, "cap")
	for i := range rapid.SampledFrom([]int{2, 5, PassLimit + 8}).Draw(t, "jobs") {
		w.ids = append(w.ids, job.ID{byte(i + 1)})
		info := JobInfo{Known: true, Over: job.Parked, Urgent: uint8(i % 3), Resend: i%2 == 0, Account: uint32(i % 2), Withdraws: i%7 == 6}
		if i%5 < 3 && !info.Withdraws {
			info.CollapseKey = rapid.SampledFrom([]string{"", "k", "l"}).Draw(t, "key")
			info.Submitted = rapid.Int64Range(0, 3).Draw(t, "submitted")
		}
		w.jobs[w.ids[i]] = info
	}
	for r := range uint32(2) {
		for i := range uint32(4) {
			w.people = append(w.people, r<<job.RangeBits+i*70_000)
		}
	}
	return w
}

func rangeOf(who uint32) job.Range { return job.Recipient(who).Range() }

func (w *world) step(ev Event) { w.take(w.s.Step(ev)) }

func (w *world) take(effects []Effect) {
	for _, e := range effects {
		switch e := e.(type) {
		case Look:
			w.look(e.Pass)
		case Quiet:
			w.isQuiet(e)
		case Append:
			if !e.Looked {
				w.goOn(e)
				continue
			}
			p := w.passes[e.Range]
			if w.away[e.Range] {
				w.t.Fatalf("entries for range %s, which was ended", e.Range)
			}
			if p == nil || !p.found || p.entries != nil || len(e.Entries) == 0 || len(e.Urgent) != len(e.Entries) {
				w.t.Fatalf("entries for range %s without a pass", e.Range)
			}
			w.judge(e)
			p.entries, p.urgent = e.Entries, e.Urgent
		case Settle:
			for _, id := range e.Settle.Jobs {
				w.mayForget(place{id, uint32(e.Settle.Recipient)})
			}
		}
	}
}

// goOn holds a turn that needs no look against the pass before it. Its jobs may be others since.
func (w *world) goOn(e Append) {
	if x := w.passes[e.Range]; w.away[e.Range] || x == nil || !x.found || x.seq == 0 || len(e.Entries) == 0 || len(e.Urgent) != len(e.Entries) {
		w.t.Fatalf("a turn of range %s behind %+v", e.Range, x)
	}
	w.roomy(e.Who)
	p := &pass{now: Pass{Range: e.Range, Who: idset.New(e.Range)}, found: true, entries: e.Entries, urgent: e.Urgent}
	stale := rapid.IntRange(0, 9).Draw(w.t, "stale") == 0
	for _, x := range e.Entries {
		d := x.(*ledger.Drain)
		p.now.Who.Or(d.Targets.Union(e.Range))
		for who := range d.Targets.Union(e.Range).All() {
			stale = stale || !w.online[who]
		}
		info := w.jobs[d.Job]
		stale = stale || info.Paused || info.Over != job.Parked
	}
	w.passes[e.Range] = p
	if stale {
		delete(w.passes, e.Range)
		w.back(p.now)
		w.stale++
		w.step(Stale{e.Range})
		return
	}
	w.judgeDrains(e)
	w.judgeOrder(e)
	w.turns++
}

// roomy: who gets another turn without a look has at most one that is not closed. What is closed of
// before the look counts, too: the home keeps no list of what it drained.
func (w *world) roomy(who *idset.Set) {
	has := map[uint32]int{}
	for p := range w.out {
		has[p.who]++
	}
	for id := range who.All() {
		if has[id]-w.late[id] > w.s.limit {
			w.t.Fatalf("another turn for %d, of whom %d messages are not closed", id, has[id])
		}
	}
}

// isQuiet: what was under way is applied, and the last of it is known.
func (w *world) isQuiet(e Quiet) {
	p := w.passes[e.Range]
	switch {
	case !w.away[e.Range] || w.quiet[e.Range]:
		w.t.Fatalf("range %s is let go, nobody asked", e.Range)
	case p != nil && (!p.found || p.entries != nil && p.seq == 0 || p.seq > w.told):
		w.t.Fatalf("range %s is let go while a pass is under way: %+v", e.Range, p)
	case e.After != w.last[e.Range]:
		w.t.Fatalf("range %s is let go after record %d, its last is %d", e.Range, e.After, w.last[e.Range])
	}
	w.quiet[e.Range] = true
	delete(w.passes, e.Range)
}

// end gives a range up: nothing is owed about it.
func (w *world) end(r job.Range) {
	w.away[r] = true
	for _, who := range w.people {
		if rangeOf(who) == r {
			delete(w.wanted, who)
			delete(w.hellos, who)
		}
	}
	delete(w.ending, r)
	w.step(End{r})
}

// begin takes a range that was let go: who is online is wanted, as they are announced.
func (w *world) begin(r job.Range) {
	delete(w.away, r)
	delete(w.quiet, r)
	delete(w.last, r)
	w.step(Begin{r})
	for _, who := range w.people {
		if rangeOf(who) == r && w.online[who] {
			w.want(who)
		}
	}
}

// owe notes that a look has to be about a recipient, while its range is here.
func (w *world) owe(who uint32) {
	if !w.away[rangeOf(who)] {
		w.wanted[who] = true
	}
}

// look holds a new pass against the one before it.
func (w *world) look(p Pass) {
	if w.away[p.Range] {
		w.t.Fatalf("a look at range %s, which was ended", p.Range)
	}
	if x := w.passes[p.Range]; x != nil {
		switch {
		case !x.found || x.entries != nil && x.seq == 0:
			w.t.Fatalf("a second pass over range %s while one is under way", p.Range)
		case x.seq > w.told:
			w.t.Fatalf("a look at range %s, the last pass is applied at %d, %d is applied", p.Range, x.seq, w.told)
		}
	}
	w.passes[p.Range] = &pass{now: p}
	for who := range p.Who.All() {
		delete(w.wanted, who)
	}
	for _, l := range p.Logins {
		w.hellos[uint32(l.Recipient)]--
	}
	for _, id := range p.Ending {
		w.ending[p.Range] = slices.DeleteFunc(w.ending[p.Range], func(x job.ID) bool { return x == id })
	}
}

// back is what a pass that came to nothing still owes.
func (w *world) back(p Pass) {
	if w.away[p.Range] {
		return
	}
	for who := range p.Who.All() {
		w.wanted[who] = true
	}
	for _, l := range p.Logins {
		w.hellos[uint32(l.Recipient)]++
	}
	w.ending[p.Range] = append(w.ending[p.Range], p.Ending...)
}

// judge holds decisions against the jobs.
func (w *world) judge(e Append) {
	w.judgeDrops(e)
	maps.DeleteFunc(w.out, func(p place, _ bool) bool { return rangeOf(p.who) == e.Range })
	maps.DeleteFunc(w.late, func(who uint32, _ int) bool { return rangeOf(who) == e.Range })
	w.judgeDrains(e)
	w.judgeOrder(e)
}

// judgeOrder: one turn after the other, each recipient gets what a pass without a limit would
// have drained at the look.
func (w *world) judgeOrder(e Append) {
	for who, jobs := range drainedTo(e.Entries, e.Range) {
		all := w.script[e.Range][who]
		if n := min(len(all), w.s.limit); !slices.Equal(jobs, all[:n]) {
			w.t.Fatalf("a turn drains %v to %d, want %v", jobs, who, all[:n])
		} else {
			w.script[e.Range][who] = all[n:]
		}
	}
}

// drainedTo lists the jobs that entries drain, by recipient.
func drainedTo(entries []ledger.Entry, r job.Range) map[uint32][]job.ID {
	got := map[uint32][]job.ID{}
	for _, x := range entries {
		if d, ok := x.(*ledger.Drain); ok {
			for who := range d.Targets.Union(r).All() {
				got[who] = append(got[who], d.Job)
			}
		}
	}
	return got
}

func (w *world) judgeDrains(e Append) {
	drained := map[uint32]int{}
	for _, x := range e.Entries {
		d, ok := x.(*ledger.Drain)
		if !ok {
			continue
		}
		info := w.jobs[d.Job]
		if info.Paused || info.Over != job.Parked {
			w.t.Fatalf("%s is drained: %+v", d.Job, info)
		}
		for who := range d.Targets.Union(e.Range).All() {
			w.out[place{d.Job, who}] = true
			if drained[who]++; drained[who] > w.s.limit {
				w.t.Fatalf("%d messages drained to %d in one pass", drained[who], who)
			}
		}
	}
}

// judgeDrops holds what a pass drops against what each recipient has parked, item by item.
func (w *world) judgeDrops(e Append) {
	got := map[place]job.Reason{}
	for _, x := range e.Entries {
		o, ok := x.(*ledger.Outcome)
		if !ok || o.Outcome != job.Dropped {
			continue
		}
		for who := range o.Set.All() {
			if pl := (place{o.Job, who}); got[pl] != job.NoReason {
				w.t.Fatalf("%d of %s is dropped twice in one pass", who, o.Job)
			} else {
				got[pl] = o.Reason
			}
		}
	}
	want := map[place]job.Reason{}
	for who := range w.passes[e.Range].now.Who.All() {
		w.tooMuch(who, want)
	}
	if !maps.Equal(got, want) {
		w.t.Fatalf("a pass drops %v, want %v", got, want)
	}
	for _, reason := range got {
		w.drops[reason]++
	}
}

// tooMuch says what a recipient is not to wait for.
func (w *world) tooMuch(who uint32, out map[place]job.Reason) {
	var left []job.ID // oldest first
	for _, id := range w.ids {
		if _, ok := w.parked[place{id, who}]; ok && w.jobs[id].Over == job.Parked {
			left = append(left, id)
		}
	}
	slices.SortStableFunc(left, func(a, b job.ID) int { return int(w.parked[place{a, who}]) - int(w.parked[place{b, who}]) })
	for _, old := range left {
		a := w.jobs[old]
		for _, young := range left {
			b := w.jobs[young]
			isNewer := b.Submitted > a.Submitted || b.Submitted == a.Submitted && young[0] > old[0]
			if a.CollapseKey != "" && a.CollapseKey == b.CollapseKey && a.Account == b.Account && isNewer && !b.Paused {
				out[place{old, who}] = job.ReasonCollapsed
			}
		}
	}
	n := 0
	for _, id := range slices.Backward(left) {
		if out[place{id, who}] != job.NoReason || w.jobs[id].Withdraws || w.cap == 0 {
			continue
		}
		if n++; n > w.cap {
			out[place{id, who}] = job.ReasonParkCap
		}
	}
}

// mayForget: clients forget only what is terminal in the index, with nothing open.
func (w *world) mayForget(p place) {
	if w.over[p] == "" || w.open[p] {
		w.t.Fatalf("clients of %d are told to forget %s: terminal %q, open %v", p.who, p.id, w.over[p], w.open[p])
	}
}

// answer finds what a pass decides on in the index as it is now.
func (w *world) answer(r job.Range) {
	p := w.passes[r]
	f := Findings{Range: r, Logins: p.now.Logins, Cap: w.cap, Job: func(id job.ID) JobInfo { return w.jobs[id] }}
	on := idset.New(r)
	for who := range p.now.Who.All() {
		if w.online[who] {
			on.Add(who)
		}
	}
	f.Online = []Online{{g2, on}}
	for _, id := range w.ids {
		gone := idset.New(r)
		for _, who := range w.people {
			pl := place{id, who}
			if rangeOf(who) != r {
				continue
			}
			if n, ok := w.parked[pl]; ok && p.now.Who.Has(who) {
				f.Items = append(f.Items, item(id, n, who))
			}
			if w.doubt[pl] {
				f.Doubts = append(f.Doubts, parked.Doubt{Job: id, Range: r, Inc: g1, Set: idset.Of(who)})
			}
			if _, ok := w.parked[pl]; ok {
				gone.Add(who)
			}
		}
		if slices.Contains(p.now.Ending, id) {
			f.Ending = append(f.Ending, Ended{id, gone})
		}
	}
	slices.SortStableFunc(f.Items, func(a, b parked.Item) int { return int(a.Number.Seq) - int(b.Number.Seq) })
	for i, l := range p.now.Logins {
		for _, id := range l.Have {
			f.Standing = append(f.Standing, Standing{i, id, w.where(place{id, uint32(l.Recipient)})})
		}
	}
	p.found = true
	whole := f
	whole.limit = len(w.ids)
	w.script[r] = drainedTo(Plan(whole).Entries, r)
	want := map[place]job.Reason{}
	for who := range p.now.Who.All() {
		w.tooMuch(who, want)
	}
	w.step(Found{f})
	if p.entries == nil && len(want) > 0 && !w.away[r] {
		w.t.Fatalf("a pass decides nothing, want it to drop %v", want)
	}
}

func (w *world) where(p place) job.Outcome {
	_, isParked := w.parked[p]
	switch {
	case isParked:
		return job.Parked
	case w.doubt[p]:
		return job.InDoubt
	case w.open[p]:
		return job.HandedOff
	case w.over[p] != "":
		return job.Delivered
	}
	return job.Pending
}

// store makes the entries of a pass durable, in one record or several; the ledger
// may refuse drains.
func (w *world) store(r job.Range, refuse, partly bool) {
	p := w.passes[r]
	entries := p.entries
	if refuse {
		p.entries, p.found = nil, true
		delete(w.passes, r)
		w.back(p.now)
		w.step(Refused{r})
		return
	}
	if partly && len(entries) > 1 {
		entries = entries[:1+len(entries)/2]
	}
	for i, e := range entries {
		if i == 0 || rapid.Bool().Draw(w.t, "next record") {
			w.seq++
		}
		w.stored = append(w.stored, entry{r, e, w.seq})
	}
	p.seq, w.last[r] = w.seq, w.seq
	late := rapid.Bool().Draw(w.t, "applied before it is told durable")
	if late {
		w.applyAll()
	}
	w.step(Durable{r, p.seq, len(entries) < len(p.entries)})
}

func (w *world) applyAll() {
	for len(w.stored) > 0 {
		w.apply()
	}
}

// apply takes the next record into the index.
func (w *world) apply() {
	seq := w.stored[0].seq
	ranges := map[job.Range]bool{}
	for len(w.stored) > 0 && w.stored[0].seq == seq {
		e := w.stored[0]
		w.stored = w.stored[1:]
		ranges[e.rng] = true
		switch x := e.entry.(type) {
		case *ledger.Drain:
			for who := range x.Targets.Union(e.rng).All() {
				w.leavePark(place{x.Job, who}, "drained")
				w.open[place{x.Job, who}] = true
			}
		case *ledger.Outcome:
			for who := range x.Set.All() {
				w.leavePark(place{x.Job, who}, x.Outcome.String())
				w.over[place{x.Job, who}] = x.Outcome.String()
			}
		case *ledger.Decide:
			w.decide(x, seq)
		}
	}
	w.told = seq
	w.step(Applied{seq})
	for _, r := range slices.Sorted(maps.Keys(ranges)) {
		w.wantParked(r, seq)
	}
}

func (w *world) leavePark(p place, why string) {
	if _, ok := w.parked[p]; !ok {
		w.t.Fatalf("%d of %s is %s and was not parked", p.who, p.id, why)
	}
	delete(w.parked, p)
}

func (w *world) decide(x *ledger.Decide, seq uint64) {
	for i, set := range []*idset.Set{x.Delivered, x.Parked, x.Failed} {
		for who := range set.All() {
			p := place{x.Job, who}
			if !w.doubt[p] {
				w.t.Fatalf("doubt about %d of %s is decided, there is none", who, x.Job)
			}
			delete(w.doubt, p)
			if i == 1 {
				w.parked[p] = seq
			} else {
				w.over[p] = []string{"delivered", "", "failed"}[i]
			}
		}
	}
}

// wantParked: who was parked just now and is online will not log in for it.
func (w *world) wantParked(r job.Range, seq uint64) {
	set := idset.New(r)
	for p, n := range w.parked {
		if n == seq && rangeOf(p.who) == r && w.online[p.who] {
			set.Add(p.who)
			w.owe(p.who)
		}
	}
	w.step(Wanted{Who: set})
}

func (w *world) want(who uint32) {
	w.owe(who)
	w.step(Wanted{Who: idset.Of(who)})
}

// park is a block or a done that parks a recipient.
func (w *world) park(p place) {
	w.seq++
	w.applyAll()
	w.parked[p] = w.seq
	if w.online[p.who] {
		w.want(p.who)
	}
}

// done ends a drain.
func (w *world) done(p place, how string) {
	w.seq++
	w.applyAll()
	delete(w.open, p)
	if !w.out[p] {
		w.late[p.who]++
	}
	delete(w.out, p)
	switch how {
	case "not here":
		w.parked[p] = w.seq
		if w.online[p.who] {
			w.want(p.who)
		}
	case "doubt":
		w.doubt[p] = true
	default:
		w.over[p] = how
	}
	w.step(Closed{Range: rangeOf(p.who), Who: idset.Of(p.who)})
}

func (w *world) login(who uint32, have []job.ID) {
	w.online[who] = true
	w.owe(who)
	if !w.away[rangeOf(who)] {
		w.hellos[who]++
	}
	w.step(Wanted{Who: idset.Of(who), Logins: []Login{{handoff.Hello{Recipient: job.Recipient(who), Speaks: true, Have: have}, g2}}})
}

func (w *world) unfinished() []job.Range {
	var out []job.Range
	for r, p := range w.passes {
		if !p.found || p.entries != nil && p.seq == 0 {
			out = append(out, r)
		}
	}
	slices.Sort(out)
	return out
}

// rest ends all faults and lets the passes come to their ends.
func (w *world) rest() {
	for i := 0; ; i++ {
		for _, r := range w.unfinished() {
			if !w.passes[r].found {
				w.answer(r)
			} else {
				w.store(r, false, false)
			}
		}
		w.applyAll()
		open := w.sortedOpen()
		for _, p := range open {
			w.done(p, "delivered")
		}
		if len(open) == 0 && len(w.unfinished()) == 0 && len(w.stored) == 0 && i > refusedTicks+2 {
			return
		}
		if i > 500 {
			w.t.Fatalf("the passes never come to an end")
		}
		w.step(Tick{})
	}
}

func (w *world) sortedOpen() []place {
	open := slices.Collect(maps.Keys(w.open))
	slices.SortFunc(open, func(a, b place) int {
		return slices.Compare([]byte(fmt.Sprintf("%x %d", a.id, a.who)), []byte(fmt.Sprintf("%x %d", b.id, b.who)))
	})
	return open
}

func TestPassesFollowEachOther(t *testing.T) {
	var ended [2]int // ranges that came back, and those of them about which something was durable
	turns, stale := 0, 0
	drops := map[job.Reason]int{}
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		who := func(t *rapid.T) uint32 { return rapid.SampledFrom(w.people).Draw(t, "recipient") }
		t.Repeat(map[string]func(*rapid.T){
			"parks": func(t *rapid.T) {
				n := rapid.IntRange(1, len(w.ids)).Draw(t, "jobs")
				id := who(t)
				for _, j := range w.ids[:n] {
					if p := (place{j, id}); w.where(p) == job.Pending {
						w.park(p)
					}
				}
			},
			"login": func(t *rapid.T) {
				var have []job.ID
				for range rapid.IntRange(0, 2).Draw(t, "have") {
					have = append(have, rapid.SampledFrom(w.ids).Draw(t, "job"))
				}
				w.login(who(t), have)
			},
			"logout": func(t *rapid.T) { delete(w.online, who(t)) },
			"found": func(t *rapid.T) {
				for _, r := range w.unfinished() {
					if p := w.passes[r]; !p.found {
						if rapid.IntRange(0, 4).Draw(t, "cannot be answered") == 0 {
							delete(w.passes, r)
							w.back(p.now)
							w.step(NotFound{p.now})
							continue
						}
						w.answer(r)
					}
				}
			},
			"store": func(t *rapid.T) {
				for _, r := range w.unfinished() {
					if w.passes[r].found {
						w.store(r, rapid.IntRange(0, 4).Draw(t, "refused") == 0, rapid.IntRange(0, 4).Draw(t, "partly") == 0)
					}
				}
			},
			"apply": func(t *rapid.T) {
				if len(w.stored) > 0 {
					w.apply()
				}
			},
			"done": func(t *rapid.T) {
				if open := w.sortedOpen(); len(open) > 0 {
					w.done(rapid.SampledFrom(open).Draw(t, "which"), rapid.SampledFrom([]string{"delivered", "delivered", "not here", "doubt"}).Draw(t, "how"))
				}
			},
			"job changes": func(t *rapid.T) {
				id := rapid.SampledFrom(w.ids).Draw(t, "job")
				info := w.jobs[id]
				if rapid.IntRange(0, 4).Draw(t, "how") == 0 {
					info.Over = rapid.SampledFrom([]job.Outcome{job.Cancelled, job.Recalled}).Draw(t, "over")
				} else {
					info.Paused = !info.Paused
				}
				w.jobs[id] = info
			},
			"ending": func(t *rapid.T) {
				id, r := rapid.SampledFrom(w.ids).Draw(t, "job"), job.Range(rapid.IntRange(0, 1).Draw(t, "range"))
				if !w.away[r] {
					w.ending[r] = append(w.ending[r], id)
				}
				w.step(Ending{r, id})
			},
			"end": func(t *rapid.T) {
				if r := job.Range(rapid.IntRange(0, 1).Draw(t, "range")); !w.away[r] {
					w.end(r)
				}
			},
			"begin": func(t *rapid.T) {
				if r := job.Range(rapid.IntRange(0, 1).Draw(t, "range")); w.quiet[r] {
					ended[0]++
					if w.last[r] > 0 {
						ended[1]++
					}
					w.begin(r)
				}
			},
			"tick": func(t *rapid.T) { w.step(Tick{}) },
			"goes on": func(t *rapid.T) { // until something is closed
				for range 12 {
					for _, r := range w.unfinished() {
						if p := w.passes[r]; !p.found {
							w.answer(r)
						} else {
							w.store(r, false, false)
						}
					}
					w.applyAll()
					if open := w.sortedOpen(); len(open) > 0 {
						w.done(rapid.SampledFrom(open).Draw(t, "which"), "delivered")
					}
				}
			},
		})
		w.comeBack()
		for _, id := range w.ids {
			info := w.jobs[id]
			info.Paused = false
			w.jobs[id] = info
			for r := range job.Range(2) {
				w.ending[r] = append(w.ending[r], id)
				w.step(Ending{r, id})
			}
		}
		for _, id := range w.people {
			if w.online[id] {
				w.want(id)
			}
		}
		w.rest()
		w.atRest()
		for reason, n := range w.drops {
			drops[reason] += n
		}
		turns, stale = turns+w.turns, stale+w.stale
	})
	if turns < 20 || stale < 10 {
		t.Errorf("%d turns without a look, %d that were stale: too few to mean anything", turns, stale)
	}
	if drops[job.ReasonCollapsed] < 100 || drops[job.ReasonParkCap] < 100 {
		t.Errorf("%v were dropped: too few to mean anything", drops)
	}
	if ended[1] == 0 || ended[0] == ended[1] {
		t.Errorf("%d ranges came back, %d of them with something appended: too few to mean anything", ended[0], ended[1])
	}
}

// comeBack begins what is away, when it is quiet.
func (w *world) comeBack() {
	if len(w.away) > 0 {
		w.rest()
	}
	for r := range job.Range(2) {
		if w.away[r] && !w.quiet[r] {
			w.t.Fatalf("range %s is never let go", r)
		}
		if w.away[r] {
			w.begin(r)
		}
	}
}

// atRest: nobody wanted is forgotten, and nobody is parked and online.
func (w *world) atRest() {
	for who := range w.wanted {
		w.t.Fatalf("%d was wanted, and no look was about it", who)
	}
	for who, n := range w.hellos {
		if n != 0 {
			w.t.Fatalf("%d logins of %d were never looked at", n, who)
		}
	}
	for r, ids := range w.ending {
		if len(ids) > 0 {
			w.t.Fatalf("the ends of %v in range %s were never looked at", ids, r)
		}
	}
	for p := range w.parked {
		if w.jobs[p.id].Over != job.Parked {
			w.t.Fatalf("%d of %s is parked, the job is %s", p.who, p.id, w.jobs[p.id].Over)
		}
		if w.online[p.who] {
			w.t.Fatalf("%d of %s is parked and online", p.who, p.id)
		}
	}
	w.step(Tick{})
	for r, x := range w.s.ranges {
		if x.phase != idle || !x.next.isEmpty() || !x.now.isEmpty() {
			w.t.Fatalf("something of range %s is left: %+v", r, x)
		}
	}
	if len(w.s.waiting) != 0 {
		w.t.Fatalf("%d ranges wait", len(w.s.waiting))
	}
}
