package outbound

import (
	"cmp"
	"flag"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"crier/internal/idset"
	"crier/job"
	"crier/presence/handoff"
	"crier/state/ledger"
)

func init() { // before the command line, which may say otherwise
	flag.Set("rapid.checks", "300")
	flag.Set("rapid.steps", "150")
	flag.Set("rapid.nofailfile", "true")
}

// request is a question on its way to a gateway, for one owner.
type request struct {
	owner *State
	send  *Send
	fence *SendFence
	lost  bool // its owner was told so; it may still arrive
	reply *handoff.Answer
}

type letter struct {
	to     job.Journal
	report *handoff.Report
}

type laneWait struct {
	at      time.Time
	incs    []job.Incarnation
	handled int
}

// world is one worker after another, gateways, and the network between them.
type world struct {
	t       *rapid.T
	book    *book
	now     time.Time
	s       *State
	zombies []*State
	n       uint64 // record of the journal
	gws     map[string][]*incarnation
	up      map[string]bool
	wire    []*request
	letters []letter
	tells   []*handoff.Recorded
	appends []Append
	lanes   map[job.Ref]*laneWait
	heard   map[Key]bool
}

var gatewayNames = []string{"g1", "g2", "g3"}

func newWorld(t *rapid.T) *world {
	w := &world{t: t, now: start, gws: map[string][]*incarnation{}, up: map[string]bool{}, lanes: map[job.Ref]*laneWait{}, heard: map[Key]bool{}}
	w.book = &book{t: t, lots: map[Key]*lot{}, gws: w.incarnation}
	for _, name := range gatewayNames {
		w.gws[name] = []*incarnation{newIncarnation(job.Incarnation{Gateway: name, Start: 1})}
		w.up[name] = true
	}
	w.s = New(job.Journal{Worker: "w", Incarnation: 1})
	return w
}

func (w *world) incarnation(i job.Incarnation) *incarnation { return w.gws[i.Gateway][i.Start-1] }

func (w *world) current(name string) *incarnation { return w.gws[name][len(w.gws[name])-1] }

func (w *world) step(s *State, ev Event) { w.take(s, s.Step(w.now, ev)) }

func (w *world) take(s *State, effects []Effect) {
	for _, e := range effects {
		switch e := e.(type) {
		case Send:
			h := e.Handoff
			l := w.book.lots[Key{h.Ref, h.To}]
			if h.Ref.Journal != s.mine || l == nil {
				w.t.Fatalf("%s hands off %s to %s", s.mine, h.Ref, h.To)
			}
			for who := range h.Targets.All() {
				if !l.all[who] {
					w.t.Fatalf("target %d of %s is offered to %s", who, h.Ref, h.To)
				}
			}
			w.book.watermark(s.mine, h.To, h.Settled)
			w.wire = append(w.wire, &request{owner: s, send: &e})
		case SendFence:
			if e.Fence.Journal == s.mine || e.Fence.By != s.mine {
				w.t.Fatalf("%s fences %s for %s", s.mine, e.Fence.Journal, e.Fence.By)
			}
			w.wire = append(w.wire, &request{owner: s, fence: &e})
		case Append:
			if s == w.s { // a sealed journal takes nothing
				w.appends = append(w.appends, e)
			}
		case Tell:
			w.book.told(e.Recorded)
			w.tells = append(w.tells, e.Recorded)
		case Handled:
			if s == w.s {
				w.handled(e.Ref)
			}
		}
	}
}

func (w *world) handled(ref job.Ref) {
	l := w.lanes[ref]
	if l.handled++; l.handled > 1 {
		w.t.Fatalf("the lane of %s is freed again", ref)
	}
	for _, inc := range l.incs {
		if !w.heard[Key{ref, inc}] && w.now.Sub(l.at) < LaneWait {
			w.t.Fatalf("the lane of %s is freed after %s, %s has not answered", ref, w.now.Sub(l.at), inc)
		}
	}
}

// reserve makes a reserve durable and tells the worker.
func (w *world) reserve() {
	w.n++
	ref := job.Ref{Journal: w.s.mine, N: w.n, Entry: uint16(rapid.IntRange(0, 2).Draw(w.t, "entry"))}
	if rapid.Bool().Draw(w.t, "same record") {
		w.n--
		ref.N, ref.Entry = w.n, 9
		if w.n == 0 || w.lanes[ref] != nil {
			return
		}
	}
	ev := Reserved{Ref: ref, Job: job.ID{byte(rapid.IntRange(1, 3).Draw(w.t, "job"))}, Range: testRange}
	wait := &laneWait{at: w.now}
	for _, name := range gatewayNames {
		n := rapid.IntRange(-2, 4).Draw(w.t, "targets")
		if n < 0 {
			continue
		}
		inc := w.current(name).name // it may be over
		l := &lot{job: ev.Job, all: map[uint32]bool{}, open: map[uint32]bool{}, doubted: map[uint32]bool{}, closed: map[uint32]string{}}
		for who := range uint32(n) {
			l.all[testRange.Lo()+who], l.open[testRange.Lo()+who] = true, true
		}
		ev.Targets.Incs, ev.Targets.Sets = append(ev.Targets.Incs, inc), append(ev.Targets.Sets, setOf(l.all))
		if n > 0 {
			w.book.lots[Key{ref, inc}] = l
			wait.incs = append(wait.incs, inc)
		}
	}
	w.lanes[ref] = wait
	w.step(w.s, ev)
	if len(wait.incs) == 0 && wait.handled == 0 {
		w.t.Fatalf("a reserve without targets does not free its lane")
	}
}

func (w *world) pick() stand {
	return rapid.SampledFrom([]stand{waiting, waiting, waiting, acked, notHere, refused}).Draw(w.t, "stands")
}

// arrive takes a request to its gateway; busy is an answer that says nothing.
func (w *world) arrive(r *request, busy bool) {
	to := w.to(r)
	g := w.incarnation(to)
	switch {
	case !w.up[to.Gateway]:
		return
	case busy:
		r.reply = &handoff.Answer{Kind: rapid.SampledFrom([]handoff.Kind{handoff.InProgress, handoff.Stranger}).Draw(w.t, "busy")}
	case r.fence != nil:
		r.reply = g.fence(r.fence.Fence)
	default:
		r.reply = g.handOff(r.send.Handoff, r.send.WithBody, w.pick)
	}
}

func (w *world) to(r *request) job.Incarnation {
	if r.fence != nil {
		return r.fence.Fence.To
	}
	return r.send.Handoff.To
}

// answer takes the reply back to the owner, or tells it that there is none.
func (w *world) answer(r *request, lose bool) {
	if r.lost {
		return
	}
	lose = lose || r.reply == nil
	r.lost = lose
	if r.send != nil {
		key := Key{r.send.Handoff.Ref, r.send.Handoff.To}
		if lose {
			w.step(r.owner, Lost{Key: key})
			return
		}
		w.heard[key] = w.heard[key] || slices.Contains([]handoff.Kind{handoff.Accepted, handoff.Over, handoff.Unreadable}, r.reply.Kind)
		w.step(r.owner, Answered{key, r.reply})
		return
	}
	f := r.fence.Fence
	if lose {
		w.step(r.owner, Lost{Journal: f.Journal, Key: Key{Inc: f.To}})
		return
	}
	w.step(r.owner, Fenced{Journal: f.Journal, Inc: f.To, Answer: r.reply})
}

func (w *world) drop(r *request) {
	w.wire = slices.DeleteFunc(w.wire, func(x *request) bool { return x == r })
}

// change moves one waiting target of a reserve at a gateway that is up.
func (w *world) change() {
	for _, name := range gatewayNames {
		g := w.current(name)
		if !w.up[name] {
			continue
		}
		for _, ref := range sortedRefs(g.taken) {
			k := g.taken[ref]
			for _, who := range slices.Sorted(maps.Keys(k.stands)) {
				if k.stands[who] == waiting && rapid.IntRange(0, 2).Draw(w.t, "moves") == 0 {
					k.stands[who] = rapid.SampledFrom([]stand{acked, acked, notHere, unacked, mute}).Draw(w.t, "to")
					k.dirty = true
				}
			}
		}
	}
}

// publish sends the reports that nobody has recorded yet.
func (w *world) publish(name string) {
	g := w.current(name)
	if !w.up[name] {
		return
	}
	for _, ref := range sortedRefs(g.taken) {
		k := g.taken[ref]
		if k.free || k.open() == len(k.stands) || !k.dirty && k.recorded == k.version {
			continue
		}
		p := g.report(ref, job.ID{})
		for _, to := range g.fenced[ref.Journal] {
			w.letters = append(w.letters, letter{to, &p})
		}
		if g.fenced[ref.Journal] == nil {
			w.letters = append(w.letters, letter{ref.Journal, &p})
		}
	}
}

// read hands a report to whoever it is addressed to, or to a wrong one.
func (w *world) read(l letter, astray bool) {
	for _, s := range append([]*State{w.s}, w.zombies...) {
		if s.mine == l.to || astray {
			if s == w.s {
				w.heard[Key{l.report.Ref, l.report.Inc}] = true
			}
			w.step(s, Reported{l.report})
			return
		}
	}
}

// tellGateway lets a gateway know what was recorded.
func (w *world) tellGateway(m *handoff.Recorded) {
	g := w.incarnation(m.Inc)
	if !w.up[m.Inc.Gateway] {
		return
	}
	j := m.Ref.Journal
	if !g.over && g.settled[j].Before(m.Settled) {
		g.settled[j] = m.Settled
	}
	k := g.taken[m.Ref]
	if k == nil || k.free || m.Version > k.version || g.over && m.Version != lastWordVersion {
		return
	}
	k.recorded = max(k.recorded, m.Version)
	if k.open() == 0 && !k.dirty && k.recorded == k.version {
		k.free, g.closed[m.Ref] = true, true
	}
}

// store makes the oldest entry durable.
func (w *world) store(tell bool) {
	a := w.appends[0]
	w.appends = w.appends[1:]
	switch e := a.Entry.(type) {
	case *ledger.Done:
		w.book.done(e)
	case *ledger.Doubt:
		w.book.doubt(e)
	default:
		w.t.Fatalf("entry of type %T", e)
	}
	if tell {
		w.step(w.s, Recorded{a.Key})
	}
}

// takeOver seals the journal in the midst of its appends and starts the next one.
func (w *world) takeOver() {
	for range rapid.IntRange(0, len(w.appends)).Draw(w.t, "stored before the seal") {
		w.store(false)
	}
	w.appends = nil
	w.zombies = append(w.zombies, w.s)
	w.s = New(job.Journal{Worker: "w", Incarnation: w.s.mine.Incarnation + 1})
	w.n, w.lanes = 0, map[job.Ref]*laneWait{}
	var keys []Key
	for k, l := range w.book.lots {
		if len(l.open)+len(l.doubted) > 0 {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b Key) int { return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	for _, k := range keys { // in no order that the journal has
		l := w.book.lots[k]
		open := maps.Clone(l.open)
		maps.Copy(open, l.doubted)
		w.step(w.s, Inherited{Key: k, Job: l.job, Range: testRange, Open: setOf(open), Doubted: len(l.doubted) > 0})
	}
}

func (w *world) tick(d time.Duration) {
	w.now = w.now.Add(d)
	w.step(w.s, Tick{})
	for ref, l := range w.lanes {
		if w.now.Sub(l.at) >= LaneWait && l.handled != 1 {
			w.t.Fatalf("the lane of %s waits since %s, freed %d times", ref, w.now.Sub(l.at), l.handled)
		}
	}
}

// rest ends all faults: gateways are up and answer, clients decide, nothing is
// lost. Everything must be closed within a bounded time.
func (w *world) rest() {
	for _, name := range gatewayNames {
		w.restart(name)
	}
	for i := 0; i < 2000 && w.s.Open() > 0; i++ {
		for len(w.wire) > 0 {
			r := w.wire[0]
			w.drop(r)
			if r.reply == nil {
				w.arrive(r, false)
			}
			w.answer(r, false)
		}
		for len(w.appends) > 0 {
			w.store(true)
		}
		w.change()
		if i%20 == 0 {
			w.settleGateways()
		}
		w.tick(50 * time.Millisecond)
	}
	w.settleGateways()
	w.settleGateways()
}

func (w *world) settleGateways() {
	for _, name := range gatewayNames {
		w.publish(name)
	}
	for len(w.letters) > 0 {
		l := w.letters[0]
		w.letters = w.letters[1:]
		w.read(l, false)
	}
	for len(w.appends) > 0 {
		w.store(true)
	}
	for len(w.tells) > 0 {
		m := w.tells[0]
		w.tells = w.tells[1:]
		w.tellGateway(m)
	}
}

func (w *world) restart(name string) {
	if !w.up[name] {
		w.up[name] = true
		w.gws[name] = append(w.gws[name], newIncarnation(job.Incarnation{Gateway: name, Start: uint32(len(w.gws[name])) + 1}))
	}
}

func (w *world) judge() {
	if n := w.s.Open(); n > 0 {
		w.t.Fatalf("%d reserves are never closed", n)
	}
	if len(w.s.waits) > 0 {
		w.t.Fatalf("lanes still wait: %v", w.s.waits)
	}
	for k, l := range w.book.lots {
		if len(l.closed) != len(l.all) {
			w.t.Fatalf("%s at %s: %d of %d targets are accounted for", k.Ref, k.Inc, len(l.closed), len(l.all))
		}
	}
	for _, name := range gatewayNames {
		g := w.current(name)
		if got := w.s.SilentAt(w.now, g.name); got != 0 {
			w.t.Fatalf("%d open at %s", got, g.name)
		}
		for ref, k := range g.taken {
			if !k.free && (ref.Journal == w.s.mine || slices.Contains(g.fenced[ref.Journal], w.s.mine)) {
				w.t.Fatalf("%s still keeps %s, version %d, recorded %d", g.name, ref, k.version, k.recorded)
			}
		}
	}
}

func TestEveryTargetIsAccountedForOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		one := func(n int, what string) int { return rapid.IntRange(0, n-1).Draw(t, what) }
		rare := func() bool { return one(12, "now") == 0 }
		t.Repeat(map[string]func(*rapid.T){
			"reserve": func(t *rapid.T) { w.reserve() },
			"arrive": func(t *rapid.T) {
				for range min(len(w.wire), 1+one(4, "how many")) {
					r := w.wire[one(len(w.wire), "which")]
					w.arrive(r, one(5, "busy") == 0)
				}
			},
			"answer": func(t *rapid.T) {
				for range min(len(w.wire), 1+one(4, "how many")) {
					r := w.wire[one(len(w.wire), "which")]
					lose := one(4, "lost") == 0
					if r.reply == nil && !lose {
						continue
					}
					w.answer(r, lose)
					if one(3, "copy stays") > 0 {
						w.drop(r)
					} else {
						r.lost = true // the copy arrives late, its answer is nobody's
					}
				}
			},
			"stand": func(t *rapid.T) { w.change() },
			"publish": func(t *rapid.T) {
				w.publish(rapid.SampledFrom(gatewayNames).Draw(t, "gateway"))
			},
			"letter": func(t *rapid.T) {
				if len(w.letters) > 0 {
					i := one(len(w.letters), "which")
					l := w.letters[i]
					if one(3, "copy stays") > 0 {
						w.letters = slices.Delete(w.letters, i, i+1)
					}
					w.read(l, one(5, "astray") == 0)
				}
			},
			"tell": func(t *rapid.T) {
				if len(w.tells) > 0 {
					i := one(len(w.tells), "which")
					w.tellGateway(w.tells[i])
					if one(3, "copy stays") > 0 {
						w.tells = slices.Delete(w.tells, i, i+1)
					}
				}
			},
			"store": func(t *rapid.T) {
				for range min(len(w.appends), 1+one(3, "how many")) {
					w.store(true)
				}
			},
			"tick": func(t *rapid.T) {
				w.tick(rapid.SampledFrom([]time.Duration{50 * time.Millisecond, 300 * time.Millisecond, 2 * time.Second, 31 * time.Second}).Draw(t, "later"))
			},
			"crash": func(t *rapid.T) {
				if name := rapid.SampledFrom(gatewayNames).Draw(t, "gateway"); w.up[name] && rare() {
					w.up[name] = false
					w.current(name).crash(one(3, "power cut") == 0)
				}
			},
			"restart": func(t *rapid.T) { w.restart(rapid.SampledFrom(gatewayNames).Draw(t, "gateway")) },
			"take over": func(t *rapid.T) {
				if rare() {
					w.takeOver()
				}
			},
			"zombie": func(t *rapid.T) {
				if len(w.zombies) > 0 {
					w.step(w.zombies[one(len(w.zombies), "which")], Tick{})
				}
			},
		})
		w.rest()
		w.judge()
	})
}

// quiet is a reserve of mine at one incarnation, with its targets.
func quiet(n int) (Reserved, Key) {
	inc := job.Incarnation{Gateway: "g", Start: 1}
	ref := job.Ref{Journal: job.Journal{Worker: "w", Incarnation: 1}, N: uint64(n)}
	set := idset.Of(testRange.Lo()+1, testRange.Lo()+2)
	return Reserved{Ref: ref, Job: job.ID{1}, Range: testRange, Targets: ledger.Targets{Incs: []job.Incarnation{inc}, Sets: []*idset.Set{set}}}, Key{ref, inc}
}

func only[E Effect](t *testing.T, effects []Effect) E {
	t.Helper()
	var got []E
	for _, e := range effects {
		if x, ok := e.(E); ok {
			got = append(got, x)
		}
	}
	if len(got) != 1 {
		t.Fatalf("%d effects of type %T among %v", len(got), *new(E), effects)
	}
	return got[0]
}

func none[E Effect](t *testing.T, effects []Effect) {
	t.Helper()
	for _, e := range effects {
		if _, ok := e.(E); ok {
			t.Fatalf("effect %+v", e)
		}
	}
}

func accepted(k Key, version uint32, p handoff.Report) *handoff.Answer {
	p.Ref, p.Inc, p.Version = k.Ref, k.Inc, version
	return &handoff.Answer{Kind: handoff.Accepted, Reports: []handoff.Report{p}}
}

func TestOnlySilenceFillsAGateway(t *testing.T) {
	s := New(job.Journal{Worker: "w", Incarnation: 1})
	var last Key
	for n := range MaxSilent {
		ev, k := quiet(n + 1)
		s.Step(start, ev)
		last = k
	}
	if got := s.SilentAt(start.Add(LaneWait-1), last.Inc); got != 0 {
		t.Fatalf("%d silent while the lanes still wait: a gateway may be busy", got)
	}
	later := start.Add(LaneWait)
	if got := s.SilentAt(later, last.Inc); got != MaxSilent {
		t.Fatalf("%d silent after %d reserves", got, MaxSilent)
	}
	s.Step(later, Answered{last, accepted(last, 1, handoff.Report{})})
	if got := s.SilentAt(later, last.Inc); got != MaxSilent-1 {
		t.Fatalf("%d silent, one of %d was answered: slow clients do not make a gateway mute", got, MaxSilent)
	}
}

func TestSilenceAfterAnAcceptanceIsDoubtAndEndsWithTheNextReport(t *testing.T) {
	s := New(job.Journal{Worker: "w", Incarnation: 1})
	ev, k := quiet(1)
	s.Step(start, ev)
	one := handoff.Report{NotHere: idset.Of(testRange.Lo() + 1)}
	done := only[Append](t, s.Step(start, Answered{k, accepted(k, 1, one)})).Entry.(*ledger.Done)
	if done.Waiting.Card() != 1 || done.NotHere.Card() != 1 {
		t.Fatalf("%+v", done)
	}
	s.Step(start, Recorded{k})
	now := start.Add(DoubtAfter / 2)
	none[Append](t, s.Step(now, Answered{k, accepted(k, 1, one)}))
	none[Append](t, s.Step(now.Add(DoubtAfter-time.Millisecond), Tick{}))
	now = now.Add(DoubtAfter)
	doubt := only[Append](t, s.Step(now, Tick{})).Entry.(*ledger.Doubt)
	if doubt.Final || doubt.Of != k.Ref {
		t.Fatalf("%+v", doubt)
	}
	s.Step(now, Recorded{k})
	if s.SilentAt(now, k.Inc) != 1 {
		t.Fatal("a gateway that fell silent has room")
	}
	none[Append](t, s.Step(now.Add(time.Hour), Tick{})) // one doubt is enough
	// The same report again: it lives, and what was in doubt is handed off.
	done = only[Append](t, s.Step(now.Add(time.Hour), Answered{k, accepted(k, 1, one)})).Entry.(*ledger.Done)
	if done.Waiting.Card() != 1 || done.NotHere.Card() != 0 {
		t.Fatalf("%+v", done)
	}
}

// Room is there for whoever a recorded done took away, if they were there, and for all when the last
// word is doubt.
func TestRoomIsThereWhenTheLedgerHasIt(t *testing.T) {
	freed := func(effects []Effect) string {
		f := only[Freed](t, effects)
		if f.Range != testRange {
			t.Fatalf("%+v", f)
		}
		if f.Away == nil {
			return fmt.Sprint(slices.Collect(f.Who.All()))
		}
		return fmt.Sprint(slices.Collect(f.Who.All()), "away", slices.Collect(f.Away.All()))
	}
	one, two := testRange.Lo()+1, testRange.Lo()+2
	s := New(job.Journal{Worker: "w", Incarnation: 1})
	ev, k := quiet(1)
	s.Step(start, ev)
	none[Freed](t, s.Step(start, Answered{k, accepted(k, 1, handoff.Report{NotHere: idset.Of(one)})}))
	if got := freed(s.Step(start, Recorded{k})); got != fmt.Sprint([]uint32{one}, "away", []uint32{one}) {
		t.Errorf("freed %s when one is recorded", got)
	}
	now := start.Add(2 * DoubtAfter)
	only[Append](t, s.Step(now, Tick{}))
	none[Freed](t, s.Step(now, Recorded{k})) // it may have it
	if doubt := only[Append](t, s.Step(now, Answered{k, &handoff.Answer{Kind: handoff.Unreadable}})).Entry.(*ledger.Doubt); !doubt.Final {
		t.Fatalf("%+v", doubt)
	}
	if got := freed(s.Step(now, Recorded{k})); got != fmt.Sprint([]uint32{two}) {
		t.Errorf("freed %s when doubt is final", got)
	}
}

func TestAReportOfAnothersJournalIsNotAnswered(t *testing.T) {
	s := New(job.Journal{Worker: "w", Incarnation: 2})
	p := &handoff.Report{Ref: job.Ref{Journal: job.Journal{Worker: "w", Incarnation: 1}, N: 3}, Inc: job.Incarnation{Gateway: "g", Start: 1}, Version: 2, Rest: handoff.RestAcked}
	if effects := s.Step(start, Reported{p}); len(effects) > 0 {
		t.Fatalf("%v: nothing of that journal is known to be recorded", effects)
	}
	p.Ref.Journal = job.Journal{Worker: "w", Incarnation: 2}
	only[Tell](t, s.Step(start, Reported{p})) // of mine, everything that is not open is closed
	p.Ref.Journal = job.Journal{Worker: "w", Incarnation: 1}
	only[Tell](t, New(job.Journal{Worker: "w", Incarnation: 2}, p.Ref.Journal).Step(start, Reported{p})) // so it is of my former ones
}

func TestTheBodyGoesOnce(t *testing.T) {
	s := New(job.Journal{Worker: "w", Incarnation: 1})
	ev, k := quiet(1)
	if only[Send](t, s.Step(start, ev)).WithBody {
		t.Fatal("the body goes although nobody asked for it")
	}
	need := &handoff.Answer{Kind: handoff.NeedBody}
	if !only[Send](t, s.Step(start, Answered{k, need})).WithBody {
		t.Fatal("the body does not go")
	}
	none[Send](t, s.Step(start, Answered{k, need})) // it goes again only after a while
	s.Step(start, Answered{k, accepted(k, 1, handoff.Report{})})
	if only[Send](t, s.Step(start.Add(askAgain), Tick{})).WithBody {
		t.Fatal("the body goes again")
	}
}

func TestOneFenceAtATimeForAJournal(t *testing.T) {
	s := New(job.Journal{Worker: "w", Incarnation: 2})
	var effects []Effect
	for n := range 5 {
		_, k := quiet(n + 1)
		effects = append(effects, s.Step(start, Inherited{Key: k, Job: job.ID{1}, Range: testRange, Open: idset.Of(testRange.Lo() + 1)})...)
	}
	f := only[SendFence](t, effects).Fence
	none[SendFence](t, s.Step(start.Add(time.Minute/4), Tick{}))
	s.Step(start.Add(time.Minute/4), Lost{Journal: f.Journal, Key: Key{Inc: f.To}})
	only[SendFence](t, s.Step(start.Add(time.Minute/3), Tick{}))
}

func TestTheWatermarkFollowsTheFirstOpenReserve(t *testing.T) {
	s := New(job.Journal{Worker: "w", Incarnation: 1})
	var keys []Key
	for n := range 3 {
		ev, k := quiet(n + 1)
		s.Step(start, ev)
		keys = append(keys, k)
	}
	steps := []struct {
		close int
		want  job.Ref
	}{{1, job.Ref{N: 0, Entry: 1<<16 - 1}}, {2, job.Ref{N: 0, Entry: 1<<16 - 1}}, {0, job.Ref{N: 3}}}
	for _, x := range steps {
		k := keys[x.close]
		x.want.Journal = k.Ref.Journal
		s.Step(start, Answered{k, accepted(k, 1, handoff.Report{Rest: handoff.RestAcked})})
		told := only[Tell](t, s.Step(start, Recorded{k}))
		if got := s.Settled(k.Ref.Journal, k.Inc); got != x.want || told.Recorded.Settled != got {
			t.Fatalf("after %s: settled up to %s, told %s, want %s", k.Ref, got, told.Recorded.Settled, x.want)
		}
	}
}

// Of a sealed journal nothing follows: once all that was handed over is closed, all of it
// is, what its owner closed behind that included.
func TestTheWatermarkOfASealedJournalGoesToItsEnd(t *testing.T) {
	s := New(job.Journal{Worker: "w", Incarnation: 2})
	var keys []Key
	for n := range 2 {
		_, k := quiet(2*n + 1)
		s.Step(start, Inherited{Key: k, Job: job.ID{1}, Range: testRange, Open: idset.Of(testRange.Lo() + 1)})
		keys = append(keys, k)
	}
	last := job.Ref{Journal: keys[0].Ref.Journal, N: 1 << 50}
	for i, k := range keys {
		s.Step(start, Reported{&handoff.Report{Ref: k.Ref, Inc: k.Inc, Version: 1, Rest: handoff.RestAcked}})
		told := only[Tell](t, s.Step(start, Recorded{k})).Recorded
		if all := !told.Settled.Before(last); all != (i == 1) {
			t.Fatalf("after %s: settled up to %s", k.Ref, told.Settled)
		}
	}
}

func TestWhatWasInDoubtAndIsInheritedIsHandedOffAgain(t *testing.T) {
	for _, doubted := range []bool{false, true} {
		s := New(job.Journal{Worker: "w", Incarnation: 2})
		_, k := quiet(1)
		s.Step(start, Inherited{Key: k, Job: job.ID{1}, Range: testRange, Open: idset.Of(testRange.Lo() + 1), Doubted: doubted})
		a := accepted(k, 1, handoff.Report{})
		a.Kind = handoff.Fenced
		effects := s.Step(start, Fenced{Journal: k.Ref.Journal, Inc: k.Inc, Answer: a})
		if !doubted {
			none[Append](t, effects)
		} else if done := only[Append](t, effects).Entry.(*ledger.Done); done.Waiting.Card() != 1 {
			t.Fatalf("%+v", done)
		}
	}
}
