package tenure

import (
	"flag"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"crier/job"
	"crier/state/ledger"
)

func init() { // before the command line, which may say otherwise
	flag.Set("rapid.checks", "150")
	flag.Set("rapid.steps", "150")
	flag.Set("rapid.nofailfile", "true")
}

// view is what a member believes. Members are ranked for each thing by a hash.
type view struct {
	me      string
	members []string
	lapsed  map[job.Journal]bool
	frozen  bool
}

func (v *view) Lapsed(j job.Journal) bool { return v.lapsed[j] }
func (v *view) Frozen() bool              { return v.frozen }

func (v *view) Choice(t ledger.Thing) int {
	if i := slices.Index(ranked(t, v.members), v.me); i < 3 {
		return i
	}
	return -1
}

var ranks = map[string][]string{}

func ranked(t ledger.Thing, members []string) []string {
	key := t.String() + " " + strings.Join(members, " ")
	if ranks[key] == nil {
		ranks[key] = rank(t, members)
	}
	return ranks[key]
}

func rank(t ledger.Thing, members []string) []string {
	weight := func(m string) uint64 {
		h := fnv.New64a()
		h.Write([]byte(m + " " + t.String() + " " + m))
		return h.Sum64()
	}
	all := slices.Clone(members)
	slices.SortFunc(all, func(a, b string) int {
		if weight(a) < weight(b) {
			return -1
		}
		return 1
	})
	return all
}

// record is one record of the modelled ledger: a claim, a seal, or what an owner
// appended about a range.
type record struct {
	claim *ledger.Claim
	of    job.Journal // the journal it is in, if it is no claim
	seal  bool
	about job.Range
	open  bool // with a seal: the journal left something open
}

// request is something that a core asked for and that is not answered.
type request struct {
	effect Effect
}

// late is a conditional append of a claim that is still on its way.
type late struct {
	claim ledger.Claim
	last  uint64 // the place of the claim before it
}

// worker is one incarnation.
type worker struct {
	journal   job.Journal
	core      *State
	view      *view
	silent    bool
	claims    int // records of the ledger of which it knows the claims
	index     int // records of which it knows the journals
	asked     []request
	busy      map[job.Range]bool // from Begin to Quiet: it may append about them
	home      map[job.Range]bool // from Begin to End
	inherited map[job.Journal]bool
	ends      []time.Time // by the ring, not by silence
	most      int         // of the ranges held at a time
}

// world is a ledger and those who work by it.
type world struct {
	t       *rapid.T
	now     time.Time
	ledger  []record
	late    []late
	workers []*worker // the last incarnation of each name, dead ones too
	dead    map[job.Journal]bool
	things  int
}

func (w *world) sealed(j job.Journal) bool {
	return slices.ContainsFunc(w.ledger, func(r record) bool { return r.seal && r.of == j })
}

// last gives the last claim on a thing and its place, from 1.
func (w *world) last(t ledger.Thing) (c ledger.Claim, at uint64) {
	c = ledger.Claim{Kind: t.Kind, ID: t.ID}
	for i, r := range w.ledger {
		if r.claim != nil && r.claim.Thing() == t {
			c, at = *r.claim, uint64(i+1)
		}
	}
	return c, at
}

func (w *world) step(x *worker, ev Event) {
	for _, e := range x.core.Step(w.now, ev) {
		w.effect(x, e)
	}
	x.most = max(x.most, x.core.Held())
}

func (w *world) effect(x *worker, e Effect) {
	if slices.ContainsFunc(x.asked, func(r request) bool { return r.effect == e }) {
		w.t.Fatalf("%s asks twice at a time for %#v", x.journal, e)
	}
	switch e := e.(type) {
	case Take:
		if known := w.known(x, e.Thing); known.Journal != x.journal && (x.view.frozen || x.silent || x.view.Choice(e.Thing) < 0) {
			w.t.Fatalf("%s takes the %s (%+v): frozen %v, silent %v", x.journal, e.Thing, known, x.view.frozen, x.silent)
		}
	case Seal:
		former := e.Journal.Worker == x.journal.Worker && e.Journal.Incarnation < x.journal.Incarnation
		if !former && !x.view.lapsed[e.Journal] || x.view.frozen || x.silent || e.Journal == x.journal {
			w.t.Fatalf("%s seals %s", x.journal, e.Journal)
		}
	case Begin:
		w.begin(x, e)
		return
	case Inherit:
		if x.inherited[e.Journal] || !w.sealed(e.Journal) {
			w.t.Fatalf("%s inherits %s (again: %v)", x.journal, e.Journal, x.inherited[e.Journal])
		}
		w.alone(x, ledger.JournalThing(e.Journal), func(o *worker) bool { return o.inherited[e.Journal] })
		x.inherited[e.Journal] = true
		return
	case End:
		if !x.home[e.Range] {
			w.t.Fatalf("%s ends range %s, of which it is not the home", x.journal, e.Range)
		}
		if !x.silent && (x.view.frozen || x.view.Choice(ledger.RangeThing(e.Range)) == 0) {
			w.t.Fatalf("%s gives up range %s: frozen %v", x.journal, e.Range, x.view.frozen)
		}
		if !x.silent {
			x.ends = append(x.ends, w.now)
			w.budget(x)
		}
		delete(x.home, e.Range)
	case Give:
		if e.Claim.Journal != x.journal {
			w.t.Fatalf("%s gives up the claim %+v", x.journal, e.Claim)
		}
	}
	x.asked = append(x.asked, request{effect: e})
}

// budget: 5 % of its own per 10 s, one at least.
func (w *world) budget(x *worker) {
	n := 0
	for _, at := range x.ends {
		if w.now.Sub(at) < 10*time.Second {
			n++
		}
	}
	if most := 2 * max(1, x.most/20); n > most { // a window may end and the next begin within 10 s
		w.t.Fatalf("%s gives up %d ranges in 10 s, having %d", x.journal, n, x.most)
	}
}

// known is the last claim of which a worker knows.
func (w *world) known(x *worker, t ledger.Thing) ledger.Claim {
	c := ledger.Claim{Kind: t.Kind, ID: t.ID}
	for _, r := range w.ledger[:x.claims] {
		if r.claim != nil && r.claim.Thing() == t {
			c = *r.claim
		}
	}
	return c
}

// alone: nobody else whose journal is open has it, and the ledger says so.
func (w *world) alone(x *worker, t ledger.Thing, has func(*worker) bool) {
	if w.sealed(x.journal) {
		return // what it does has no effect
	}
	for _, o := range w.workers {
		if o != x && has(o) && !w.sealed(o.journal) {
			w.t.Fatalf("%s and %s both have the %s", x.journal, o.journal, t)
		}
	}
	if c, _ := w.last(t); c.Journal != x.journal {
		w.t.Fatalf("%s has the %s, the ledger says %q", x.journal, t, c.Journal)
	}
}

func (w *world) begin(x *worker, e Begin) {
	if x.busy[e.Range] {
		w.t.Fatalf("%s begins range %s twice", x.journal, e.Range)
	}
	w.alone(x, ledger.RangeThing(e.Range), func(o *worker) bool { return o.busy[e.Range] })
	var before int
	for i, r := range w.ledger {
		if r.claim == nil && !r.seal && r.about == e.Range && i >= x.index {
			w.t.Fatalf("%s is home to range %s and has not read record %d, by %s", x.journal, e.Range, i, r.of)
		}
		if r.claim != nil && r.claim.Thing() == ledger.RangeThing(e.Range) {
			before++
		}
	}
	if e.First != (before == 1) && !w.sealed(x.journal) {
		w.t.Fatalf("%s begins range %s, first: %v, by claim %d", x.journal, e.Range, e.First, before)
	}
	x.busy[e.Range], x.home[e.Range] = true, true
}

// start makes the next incarnation of a name: it seals the one before, and reads.
func (w *world) start(name string, view *view) *worker {
	inc := uint32(1)
	at := slices.IndexFunc(w.workers, func(x *worker) bool { return x.journal.Worker == name })
	if at >= 0 {
		old := w.workers[at]
		inc = old.journal.Incarnation + 1
		w.dead[old.journal] = true
		w.seal(old.journal)
	}
	x := &worker{journal: job.Journal{Worker: name, Incarnation: inc}, view: view,
		busy: map[job.Range]bool{}, home: map[job.Range]bool{}, inherited: map[job.Journal]bool{}}
	x.core = New(x.journal, view)
	if at < 0 {
		w.workers = append(w.workers, x)
	} else {
		w.workers[at] = x
	}
	w.ledger = append(w.ledger, record{of: x.journal, about: none})
	w.readIndex(x, len(w.ledger))
	w.readClaims(x, len(w.ledger))
	return x
}

// none is a range that no claim is about.
const none job.Range = job.Ranges - 1

func (w *world) seal(j job.Journal) {
	if w.sealed(j) {
		return
	}
	busy := slices.ContainsFunc(w.ledger, func(r record) bool { return r.of == j && r.about != none })
	w.ledger = append(w.ledger, record{of: j, seal: true, open: busy, about: none})
}

func (w *world) readIndex(x *worker, to int) {
	for ; x.index < to; x.index++ {
		switch r := w.ledger[x.index]; {
		case r.seal && r.of == x.journal: // it stops, before it takes by what it read behind it
			w.dead[x.journal] = true
			return
		case r.claim != nil || r.of == x.journal:
		case r.seal:
			x.index++ // everything up to it is read
			w.step(x, Sealed{r.of, r.open})
			x.index--
		default:
			w.step(x, Seen{r.of})
		}
	}
}

func (w *world) readClaims(x *worker, to int) {
	for x.claims < to {
		r := w.ledger[x.claims]
		x.claims++
		if r.claim != nil {
			w.step(x, Claimed{*r.claim})
		}
	}
}

// answer carries a request out. How says what becomes of its append.
func (w *world) answer(x *worker, i int, how string) {
	r := x.asked[i]
	x.asked = slices.Delete(x.asked, i, i+1)
	switch e := r.effect.(type) {
	case Take:
		c, ok := w.take(x, e.Thing, how)
		if !ok {
			w.step(x, NotTaken(e))
			return
		}
		w.step(x, Taken{c})
	case Seal:
		if how != "not stored" {
			w.seal(e.Journal)
		}
		w.step(x, NotSealed(e))
	case End:
		delete(x.busy, e.Range)
		after := x.index
		for i, r := range w.ledger {
			if r.of == x.journal && r.about == e.Range {
				after = max(after, i+1)
			}
		}
		w.step(x, Quiet{e.Range, uint64(after)})
	case Give:
		c, at := w.last(ledger.RangeThing(e.Range))
		if c.Journal == e.Claim.Journal && c.Epoch == e.Claim.Epoch {
			free := ledger.Claim{Kind: c.Kind, ID: c.ID, Epoch: c.Epoch + 1, After: e.After}
			if !w.append(late{free, at}, how) {
				w.step(x, NotGiven{e.Range})
				return
			}
		}
		w.step(x, Given{e.Range})
	}
}

func (w *world) take(x *worker, t ledger.Thing, how string) (ledger.Claim, bool) {
	c, at := w.last(t)
	held := !c.Journal.IsZero() && !slices.ContainsFunc(w.ledger[:x.index], func(r record) bool { return r.seal && r.of == c.Journal })
	switch {
	case c.Journal == x.journal:
		return c, true
	case held, c.Journal.IsZero() && uint64(x.index) < c.After:
		return c, false
	}
	mine := ledger.Claim{Kind: t.Kind, ID: t.ID, Epoch: c.Epoch + 1, Journal: x.journal}
	return mine, w.append(late{mine, at}, how)
}

// append reports whether a claim is known to be stored.
func (w *world) append(l late, how string) bool {
	switch how {
	case "not stored":
		return false
	case "late":
		w.late = append(w.late, l)
		return false
	}
	w.land(l)
	return how == "stored"
}

func (w *world) land(l late) {
	if _, at := w.last(l.claim.Thing()); at == l.last {
		w.ledger = append(w.ledger, record{claim: &l.claim, about: none})
	}
}

func (w *world) alive() (all []*worker) {
	for _, x := range w.workers {
		if !w.dead[x.journal] {
			all = append(all, x)
		}
	}
	return all
}

// tick lets time pass for whoever is not stalled.
func (w *world) tick(d time.Duration, workers []*worker) {
	w.now = w.now.Add(d)
	for _, x := range workers {
		w.step(x, Tick{})
	}
}

func names(n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprint("w", i))
	}
	return all
}

const (
	modelWorkers = 3
	modelRanges  = 45 // more than 20 for one, so that its budget is more than one
)

func newModel(t *rapid.T) *world {
	w := &world{t: t, now: time.Unix(1e9, 0), dead: map[job.Journal]bool{}}
	for _, name := range names(modelWorkers) {
		w.start(name, &view{me: name, members: names(modelWorkers)})
	}
	return w
}

// drawView is what a member may come to believe, right or wrong.
func (w *world) drawView(t *rapid.T, me string) *view {
	v := &view{me: me, lapsed: map[job.Journal]bool{}, frozen: rapid.IntRange(0, 5).Draw(t, "frozen") == 0}
	for _, x := range w.workers {
		j := x.journal
		if !w.dead[j] || rapid.IntRange(0, 3).Draw(t, "is taken for alive") == 0 {
			v.members = append(v.members, j.Worker)
		}
		if w.dead[j] && rapid.Bool().Draw(t, "lapsed") || rapid.IntRange(0, 25).Draw(t, "wrongly lapsed") == 0 {
			v.lapsed[j] = true
		}
	}
	if len(v.members) > 1 && rapid.IntRange(0, 2).Draw(t, "one is not seen") == 0 {
		i := rapid.IntRange(0, len(v.members)-1).Draw(t, "which")
		v.members = slices.Delete(v.members, i, i+1)
	}
	return v
}

func TestClaimsGiveEachThingOneOwner(t *testing.T) {
	taken, moved, forgotten := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		w := newModel(t)
		some := func(t *rapid.T) *worker {
			all := w.alive()
			if len(all) == 0 {
				return w.start("w0", w.workers[0].view)
			}
			return all[rapid.IntRange(0, len(all)-1).Draw(t, "worker")]
		}
		aRange := func(t *rapid.T) job.Range { return job.Range(rapid.IntRange(0, modelRanges-1).Draw(t, "range")) }
		hows := []string{"stored", "stored", "stored", "not stored", "stored and not answered", "late"}
		t.Repeat(map[string]func(*rapid.T){
			"want": func(t *rapid.T) {
				lo, n := aRange(t), rapid.IntRange(1, 12).Draw(t, "ranges")
				for _, x := range w.alive() {
					for r := lo; r < min(lo+job.Range(n), modelRanges); r++ {
						w.step(x, Wanted{r})
					}
				}
			},
			"tick": func(t *rapid.T) {
				w.tick(time.Duration(rapid.IntRange(0, 4000).Draw(t, "ms"))*time.Millisecond, w.alive())
			},
			"stall": func(t *rapid.T) { w.tick(300*time.Millisecond, []*worker{some(t)}) },
			"answer": func(t *rapid.T) {
				x := some(t)
				for range rapid.IntRange(1, 15).Draw(t, "n") {
					if len(x.asked) > 0 {
						w.answer(x, rapid.IntRange(0, len(x.asked)-1).Draw(t, "which"), rapid.SampledFrom(hows).Draw(t, "how"))
					}
				}
			},
			"late": func(t *rapid.T) {
				if len(w.late) > 0 {
					i := rapid.IntRange(0, len(w.late)-1).Draw(t, "which")
					w.land(w.late[i])
					w.late = slices.Delete(w.late, i, i+1)
				}
			},
			"read claims": func(t *rapid.T) {
				x := some(t)
				w.readClaims(x, rapid.IntRange(x.claims, len(w.ledger)).Draw(t, "to"))
			},
			"read journals": func(t *rapid.T) {
				x := some(t)
				w.readIndex(x, rapid.IntRange(x.index, len(w.ledger)).Draw(t, "to"))
			},
			"append": func(t *rapid.T) {
				x := some(t)
				for r := range job.Range(modelRanges) {
					if x.busy[r] && !w.sealed(x.journal) {
						w.ledger = append(w.ledger, record{of: x.journal, about: r})
						break
					}
				}
			},
			"ring": func(t *rapid.T) {
				x := some(t)
				x.view = w.drawView(t, x.journal.Worker)
				w.step(x, RingIs{x.view})
			},
			"silence": func(t *rapid.T) {
				x := some(t)
				x.silent = rapid.IntRange(0, 2).Draw(t, "on") == 0
				w.step(x, Silence{x.silent})
			},
			"kill": func(t *rapid.T) {
				if x := some(t); rapid.IntRange(0, 3).Draw(t, "really") == 0 {
					w.dead[x.journal] = true
				}
			},
			"start": func(t *rapid.T) {
				for _, x := range w.workers {
					if w.dead[x.journal] || w.sealed(x.journal) && rapid.Bool().Draw(t, "sees its seal") {
						w.start(x.journal.Worker, w.drawView(t, x.journal.Worker))
						break
					}
				}
			},
			"": func(t *rapid.T) { w.together() },
		})
		m, f := w.calm()
		moved, forgotten = moved+m, forgotten+f
		taken += w.things
	})
	if taken == 0 || moved == 0 || forgotten == 0 {
		t.Errorf("%d things had an owner at the end, %d moved, %d that were forgotten were found: too few to mean anything", taken, moved, forgotten)
	}
}

// together: at every moment one at most may append about a range.
func (w *world) together() {
	for r := range job.Range(modelRanges) {
		var who []string
		for _, x := range w.workers {
			if x.busy[r] && !w.sealed(x.journal) {
				who = append(who, x.journal.String())
			}
		}
		if len(who) > 1 {
			w.t.Fatalf("%v are all home to range %s", who, r)
		}
	}
}

// calm ends all faults: views are right and the same, and in time everything is where
// it belongs. It gives how many ranges moved, and how many were found to be had.
func (w *world) calm() (moved, forgotten int) {
	for _, l := range w.late {
		w.land(l)
	}
	members := names(modelWorkers)
	if rapid.Bool().Draw(w.t, "one never comes back") {
		last := w.workers[len(w.workers)-1]
		w.dead[last.journal] = true
		members = members[:modelWorkers-1]
	}
	w.revive(members)
	for _, x := range w.alive() {
		x.view = &view{me: x.journal.Worker, members: members, lapsed: w.dead}
		w.step(x, RingIs{x.view})
		x.silent = false
		w.step(x, Silence{})
		w.step(x, Wanted{modelRanges})
		for _, r := range w.ledger {
			if r.claim != nil && r.claim.Journal == x.journal && !x.busy[rangeOf(*r.claim)] && r.claim.Kind == ledger.ClaimRange {
				if c, _ := w.last(r.claim.Thing()); c == *r.claim {
					forgotten++
				}
			}
		}
	}
	start := w.now
	before := map[job.Journal]int{}
	for _, x := range w.alive() {
		before[x.journal] = len(x.ends)
	}
	for !w.inPlace(members) {
		w.revive(members) // who was sealed by those who believed wrongly, before
		if w.now.Sub(start) > (modelRanges+3)*10*time.Second {
			w.t.Fatalf("after %s: %s", w.now.Sub(start), w.misplaced(members))
		}
		for _, x := range w.alive() {
			w.readIndex(x, len(w.ledger))
			w.readClaims(x, len(w.ledger))
			for len(x.asked) > 0 {
				w.answer(x, 0, "stored")
			}
		}
		w.together()
		w.tick(250*time.Millisecond, w.alive())
	}
	for _, x := range w.alive() {
		moved += len(x.ends) - before[x.journal]
		w.things += len(x.home)
	}
	return moved, forgotten
}

// revive starts again who is dead or sealed.
func (w *world) revive(members []string) {
	for _, x := range slices.Clone(w.workers[:len(members)]) {
		if w.dead[x.journal] || w.sealed(x.journal) {
			w.step(w.start(x.journal.Worker, x.view), Wanted{modelRanges})
		}
	}
}

func rangeOf(c ledger.Claim) job.Range {
	r, err := job.ParseRange(c.ID)
	if err != nil {
		return none
	}
	return r
}

func (w *world) inPlace(members []string) bool { return w.misplaced(members) == "" }

// misplaced tells what is not where it belongs.
func (w *world) misplaced(members []string) string {
	for r := range job.Range(modelRanges + 1) {
		t := ledger.RangeThing(r)
		c, _ := w.last(t)
		first := ranked(t, members)[0]
		if c.Epoch == 0 && r != modelRanges {
			continue
		}
		for _, x := range w.alive() {
			if x.home[r] != (x.journal.Worker == first) || x.home[r] && c.Journal != x.journal {
				return fmt.Sprintf("range %s belongs to %s; %s is home to it: %v; the ledger says %q", r, first, x.journal, x.home[r], c.Journal)
			}
		}
	}
	for _, r := range w.ledger {
		if r.seal && r.open {
			c, _ := w.last(ledger.JournalThing(r.of))
			if !slices.ContainsFunc(w.alive(), func(x *worker) bool { return x.journal == c.Journal && x.inherited[r.of] }) {
				return fmt.Sprintf("nobody closes what %s left open; the ledger says %q", r.of, c.Journal)
			}
		}
	}
	for j := range w.dead {
		if !w.sealed(j) {
			return fmt.Sprintf("%s is dead and not sealed", j)
		}
	}
	return ""
}
