package sim

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"crier/job"
	"crier/scheduler/apta/hint"
	"crier/state/ledger"
	"crier/worker/tenure"
)

// The coordination store keeps one lease a member, and every member has a view of it
// that lags and differs; while the store answers nobody, members are frozen (rule 24).

const (
	leaseLasts  = 5 * time.Second
	renewEvery  = 1250 * time.Millisecond
	fenceAfter  = 3 * time.Second // of the last answer: nothing new is taken
	helloEvery  = time.Second
	silentAfter = 3 * time.Second
)

// lease is one member's, as the store has it.
type lease struct {
	name   string
	inc    uint32
	silent bool
	until  time.Duration // by the store's clock
	wall   time.Time     // by its owner's
}

type coord struct{ leases []lease } // by name

func (c *coord) renew(l lease) {
	i := slices.IndexFunc(c.leases, func(o lease) bool { return o.name == l.name })
	if i < 0 {
		c.leases = append(c.leases, l)
		slices.SortFunc(c.leases, func(a, b lease) int { return cmp.Compare(a.name, b.name) })
		return
	}
	if l.inc >= c.leases[i].inc {
		c.leases[i] = l
	}
}

// sight is what a member knows of another.
type sight struct {
	inc    uint32
	silent bool
	lease  time.Duration // when its lease was last seen live
	until  time.Duration // the end of that lease
	wall   time.Time
	heard  time.Duration // its last hello
}

// membership is a member's view.
type membership struct {
	seen  map[string]*sight
	names []string      // sorted
	since time.Duration // the store has answered since
	last  time.Duration // its last answer; 0 if none
	ring  *ring
	wrong map[job.Journal]time.Duration // mistakes about who has lapsed, until when
}

func newMembership() *membership {
	return &membership{seen: map[string]*sight{}, ring: &ring{frozen: true}, wrong: map[job.Journal]time.Duration{}}
}

func (m *membership) of(name string) *sight {
	s := m.seen[name]
	if s == nil {
		s = &sight{lease: -time.Hour, heard: -time.Hour}
		m.seen[name] = s
		m.names = append(m.names, name)
		slices.Sort(m.names)
	}
	return s
}

// renew keeps this member's lease and reads the others'.
func (x *worker) renew() {
	w := x.w
	var view []lease
	sent := w.now
	run := x.run
	w.ask(x.p, w.coordHost, toMember, time.Second, func(answer func([]byte)) {
		w.coord.renew(lease{x.name, run.mine.Incarnation, x.silent, w.now + leaseLasts, w.wall(x.p).Add(leaseLasts)})
		view = view[:0]
		for _, l := range w.coord.leases {
			if l.until > w.now || w.rules.WallClockLease || w.rules.MassTakeOver {
				view = append(view, l)
			}
		}
		answer(nil)
	}, func(_ []byte, ok bool) {
		if !ok || x.run != run {
			return
		}
		m := run.members
		if m.last == 0 || w.now-m.last > fenceAfter {
			m.since = w.now
		}
		m.last = sent
		for _, l := range view {
			s := m.of(l.name)
			if l.inc >= s.inc {
				s.inc, s.silent, s.lease, s.until, s.wall = l.inc, l.silent, w.now, l.until, l.wall
			}
		}
	})
}

// hello tells the others that this one is there.
func (x *worker) hello() {
	for _, o := range x.w.workers {
		inc, run := x.run.mine.Incarnation, o
		if o != x {
			x.w.send(x.p, o.p, toMember, func() {
				if run.run != nil && run.run.members != nil {
					s := run.run.members.of(x.name)
					if inc >= s.inc {
						s.inc, s.heard = inc, x.w.now
					}
				}
			})
		}
	}
}

// ring is a view at one moment.
type ring struct {
	mine   string
	live   []string
	lapsed map[string]uint32 // up to which incarnation
	wrong  map[job.Journal]bool
	frozen bool
	key    string
	table  *hint.Table // apta's; nil: by the simple hash below
}

var _ tenure.Ring = (*ring)(nil)

// look makes the ring of now; it is the same one as long as nothing changed.
func (x *worker) look() *ring {
	w, m := x.w, x.run.members
	if x.run.member != nil {
		return x.run.member.look()
	}
	r := &ring{mine: x.name, lapsed: map[string]uint32{}, wrong: map[job.Journal]bool{}}
	r.frozen = (m.last == 0 || w.now-m.last > fenceAfter) && !w.rules.MassTakeOver
	judges := !r.frozen && w.now-m.since >= leaseLasts
	if w.rules.WallClockLease || w.rules.MassTakeOver {
		judges = m.last != 0
	}
	for _, name := range m.names {
		s := m.seen[name]
		if name == x.name {
			if s.inc > 0 {
				r.lapsed[name] = s.inc - 1
			}
			if !s.silent {
				r.live = append(r.live, name)
			}
			continue
		}
		live := w.now-s.lease <= leaseLasts || w.now-s.heard <= silentAfter
		switch {
		case w.rules.WallClockLease:
			live = w.wall(x.p).Before(s.wall)
		case w.rules.MassTakeOver:
			live = w.now < s.until
		}
		if live && !s.silent {
			r.live = append(r.live, name)
		}
		if !judges {
			continue
		}
		if r.lapsed[name] = s.inc; live {
			r.lapsed[name] = s.inc - 1
		}
	}
	for j, until := range m.wrong {
		if w.now < until {
			r.wrong[j] = true
		}
	}
	r.key = fmt.Sprint(r.live, r.lapsed, r.wrong, r.frozen)
	if r.key == m.ring.key {
		return m.ring
	}
	m.ring = r
	return r
}

// Choice implements tenure.Ring by rendezvous hashing.
func (r *ring) Choice(t ledger.Thing) int { return slices.Index(r.order(t.String()), r.mine) }

func (r *ring) order(what string) []string {
	if r.table != nil {
		var out []string
		for n := range hint.Choices {
			if name := r.table.At(shardOf(what), n); name != "" {
				out = append(out, name)
			}
		}
		return out
	}
	type scored struct {
		name  string
		score uint64
	}
	all := make([]scored, 0, len(r.live))
	for _, name := range r.live {
		h := fnv.New64a()
		h.Write([]byte(name))
		h.Write([]byte(what))
		x := h.Sum64()
		x ^= x >> 29
		x *= 0xbf58476d1ce4e5b9
		x ^= x >> 32
		all = append(all, scored{name, x})
	}
	slices.SortFunc(all, func(a, b scored) int {
		return cmp.Or(cmp.Compare(b.score, a.score), strings.Compare(a.name, b.name))
	})
	out := make([]string, len(all))
	for i, s := range all {
		out[i] = s.name
	}
	return out
}

// Lapsed implements tenure.Ring.
func (r *ring) Lapsed(j job.Journal) bool {
	upTo, judged := r.lapsed[j.Worker]
	return judged && j.Incarnation <= upTo || r.wrong[j]
}

// Frozen implements tenure.Ring.
func (r *ring) Frozen() bool { return r.frozen }
