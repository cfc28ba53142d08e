package outbound

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"crier/internal/idset"
	"crier/job"
	"crier/presence/handoff"
	"crier/state/ledger"
)

// stand is where one target stands at the simulated gateway that took it.
type stand uint8

const (
	waiting stand = iota
	acked
	notHere
	unacked
	mute
	refused
)

// taken is one accepted reserve at a simulated incarnation.
type taken struct {
	stands   map[uint32]stand
	version  uint32
	dirty    bool
	history  map[uint32]map[uint32]stand // what each version said
	recorded uint32
	free     bool // its owner said that the last version is recorded
}

func (k *taken) open() int {
	n := 0
	for _, s := range k.stands {
		if s == waiting {
			n++
		}
	}
	return n
}

// incarnation is one start of a simulated gateway.
type incarnation struct {
	name       job.Incarnation
	over       bool
	unreadable bool
	taken      map[job.Ref]*taken
	fenced     map[job.Journal][]job.Journal // by whom
	settled    map[job.Journal]job.Ref
	closed     map[job.Ref]bool
	bodies     map[job.ID]bool
}

func newIncarnation(name job.Incarnation) *incarnation {
	return &incarnation{name: name, taken: map[job.Ref]*taken{}, fenced: map[job.Journal][]job.Journal{},
		settled: map[job.Journal]job.Ref{}, closed: map[job.Ref]bool{}, bodies: map[job.ID]bool{}}
}

// lastWord is the version of a report about an incarnation that is over.
const lastWordVersion = 1<<32 - 1

func (g *incarnation) report(ref job.Ref, id job.ID) handoff.Report {
	k := g.taken[ref]
	if k.dirty {
		k.version++
		k.dirty = false
		if g.over {
			k.version = lastWordVersion
		}
		k.history[k.version] = maps.Clone(k.stands)
	}
	p := handoff.Report{Ref: ref, Inc: g.name, Job: id, Version: k.version}
	if k.version%2 == 0 { // either way of saying it must be understood
		p.Rest = handoff.RestAcked
	}
	for who, s := range k.history[k.version] {
		switch {
		case s == waiting && p.Rest == handoff.RestWaiting, s == acked && p.Rest == handoff.RestAcked:
			continue
		}
		set := [...]**idset.Set{&p.Waiting, &p.Acked, &p.NotHere, &p.Unacked, &p.Mute, &p.Refused}[s]
		if *set == nil {
			*set = idset.New(testRange)
		}
		(*set).Add(who)
	}
	return p
}

// crash ends the incarnation: who did not acknowledge may have been written to.
func (g *incarnation) crash(unreadable bool) {
	g.over, g.unreadable = true, unreadable
	for _, ref := range sortedRefs(g.taken) {
		k := g.taken[ref]
		for who, s := range k.stands {
			if s == waiting {
				k.stands[who] = unacked
				if who%2 == 0 {
					k.stands[who] = mute
				}
			}
		}
		k.dirty = true
	}
}

func sortedRefs(m map[job.Ref]*taken) []job.Ref {
	refs := slices.Collect(maps.Keys(m))
	slices.SortFunc(refs, func(a, b job.Ref) int {
		switch {
		case a == b:
			return 0
		case a.Journal.Incarnation < b.Journal.Incarnation || a.Journal == b.Journal && a.Before(b):
			return -1
		}
		return 1
	})
	return refs
}

// handOff answers a hand-off to this incarnation as the protocol says (rule 9).
// pick draws where a new target stands.
func (g *incarnation) handOff(h *handoff.Handoff, withBody bool, pick func() stand) *handoff.Answer {
	if g.over {
		return g.ended(func(ref job.Ref) bool { return ref == h.Ref }, h.Job)
	}
	j := h.Ref.Journal
	if g.settled[j].Before(h.Settled) {
		g.settled[j] = h.Settled
	}
	switch {
	case g.taken[h.Ref] != nil && !g.taken[h.Ref].free:
		return &handoff.Answer{Kind: handoff.Accepted, Reports: []handoff.Report{g.report(h.Ref, h.Job)}}
	case g.closed[h.Ref], !g.settled[j].Before(h.Ref):
		return &handoff.Answer{Kind: handoff.Settled}
	case g.fenced[j] != nil:
		return &handoff.Answer{Kind: handoff.Fenced}
	case !g.bodies[h.Job] && !withBody:
		return &handoff.Answer{Kind: handoff.NeedBody}
	}
	g.bodies[h.Job] = true
	k := &taken{stands: map[uint32]stand{}, dirty: true, history: map[uint32]map[uint32]stand{}}
	for who := range h.Targets.All() {
		k.stands[who] = pick()
	}
	g.taken[h.Ref] = k
	return &handoff.Answer{Kind: handoff.Accepted, Reports: []handoff.Report{g.report(h.Ref, h.Job)}}
}

func (g *incarnation) ended(asked func(job.Ref) bool, id job.ID) *handoff.Answer {
	if g.unreadable {
		return &handoff.Answer{Kind: handoff.Unreadable}
	}
	a := &handoff.Answer{Kind: handoff.Over}
	for _, ref := range sortedRefs(g.taken) {
		if asked(ref) && !g.taken[ref].free {
			a.Reports = append(a.Reports, g.report(ref, id))
		}
	}
	return a
}

func (g *incarnation) fence(f *handoff.Fence) *handoff.Answer {
	of := func(ref job.Ref) bool { return ref.Journal == f.Journal }
	if g.over {
		return g.ended(of, job.ID{})
	}
	g.fenced[f.Journal] = append(g.fenced[f.Journal], f.By)
	a := &handoff.Answer{Kind: handoff.Fenced}
	for _, ref := range sortedRefs(g.taken) {
		if of(ref) && !g.taken[ref].free {
			a.Reports = append(a.Reports, g.report(ref, job.ID{}))
		}
	}
	return a
}

// lot is the open part of one reserve at one incarnation, as the ledger has it.
type lot struct {
	job     job.ID
	all     map[uint32]bool
	open    map[uint32]bool // handed off
	doubted map[uint32]bool // in doubt, not for good
	closed  map[uint32]string
}

// book is the ledger kept naively, target by target.
type book struct {
	t    fataler
	lots map[Key]*lot
	gws  func(job.Incarnation) *incarnation
}

type fataler interface{ Fatalf(string, ...any) }

func (b *book) done(e *ledger.Done) {
	l := b.lots[Key{e.Of, e.Inc}]
	if l == nil {
		b.t.Fatalf("a done of %s at %s, which no reserve has", e.Of, e.Inc)
	}
	for _, set := range []*idset.Set{e.Waiting, e.NotHere, e.Unacked, e.Mute, e.Refused} {
		for who := range set.All() {
			if !l.open[who] && !l.doubted[who] {
				b.t.Fatalf("a done of %s at %s names %d, which is not open", e.Of, e.Inc, who)
			}
		}
	}
	for _, from := range []map[uint32]bool{l.open, l.doubted} {
		for who := range maps.Clone(from) {
			if has(e.Waiting, who) {
				l.open[who] = true
				delete(l.doubted, who)
				continue
			}
			delete(from, who)
			outcome, n := acked, 0
			for s, set := range map[stand]*idset.Set{notHere: e.NotHere, unacked: e.Unacked, mute: e.Mute, refused: e.Refused} {
				if has(set, who) {
					outcome = s
					n++
				}
			}
			b.close(e, l, who, outcome, n)
		}
	}
}

// close holds one closed target against where it really stands.
func (b *book) close(e *ledger.Done, l *lot, who uint32, outcome stand, sets int) {
	if sets > 1 || l.closed[who] != "" {
		b.t.Fatalf("target %d of %s at %s: closed in %d sets of the done, and before as %q", who, e.Of, e.Inc, sets, l.closed[who])
	}
	g := b.gws(e.Inc)
	k := g.taken[e.Of]
	switch {
	case k == nil && outcome == notHere && (g.over || g.fenced[e.Of.Journal] != nil):
	case k == nil:
		b.t.Fatalf("target %d of %s at %s is closed (%d), and the gateway may still accept it", who, e.Of, e.Inc, outcome)
	case k.stands[who] != outcome:
		b.t.Fatalf("target %d of %s at %s is closed as %d, it stands at %d", who, e.Of, e.Inc, outcome, k.stands[who])
	}
	l.closed[who] = fmt.Sprint(outcome)
}

func (b *book) doubt(e *ledger.Doubt) {
	l := b.lots[Key{e.Of, e.Inc}]
	if e.Final {
		if !b.gws(e.Inc).unreadable {
			b.t.Fatalf("final doubt about %s at %s, which can be read", e.Of, e.Inc)
		}
		for _, from := range []map[uint32]bool{l.open, l.doubted} {
			for who := range maps.Clone(from) {
				delete(from, who)
				l.closed[who] = "doubt"
			}
		}
		return
	}
	maps.Copy(l.doubted, l.open)
	clear(l.open)
}

// told holds what a gateway is told against the ledger.
func (b *book) told(m *handoff.Recorded) {
	g := b.gws(m.Inc)
	if k := g.taken[m.Ref]; k != nil {
		l := b.lots[Key{m.Ref, m.Inc}]
		for who, s := range k.history[m.Version] {
			if s != waiting && l.closed[who] == "" {
				b.t.Fatalf("%s is told that version %d of %s is recorded, target %d (%d) is not", m.Inc, m.Version, m.Ref, who, s)
			}
		}
	}
	b.watermark(m.Ref.Journal, m.Inc, m.Settled)
}

func (b *book) watermark(j job.Journal, inc job.Incarnation, settled job.Ref) {
	for k, l := range b.lots {
		if k.Ref.Journal == j && k.Inc == inc && !settled.IsZero() && !settled.Before(k.Ref) && len(l.open)+len(l.doubted) > 0 {
			b.t.Fatalf("the watermark of %s at %s is %s, and %s is open", j, inc, settled, k.Ref)
		}
	}
}

func has(s *idset.Set, who uint32) bool { return s != nil && s.Has(who) }

func setOf(m map[uint32]bool) *idset.Set {
	s := idset.New(testRange)
	for who := range m {
		s.Add(who)
	}
	return s
}

const testRange = job.Range(3)

var start = time.Unix(1_700_000_000, 0)
