package lane

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"crier/internal/idset"
	"crier/job"
	"crier/state/ledger"
)

type fataler interface{ Fatalf(string, ...any) }

// happening is an event that comes at a time.
type happening struct {
	at time.Time
	n  int // breaks ties
	do func()
}

// plan is a slice as the oracle keeps it: id by id.
type plan struct {
	Slice
	out     map[uint64]bool // in a block that is under way
	taken   map[uint64]bool // in a durable reserve
	blocks  int             // under way, the gateways' answers included
	sent    bool
	retryAt time.Time // after a failure
}

func (p *plan) size() int {
	n := 0
	for _, s := range p.Todo {
		n += int(s.Hi - s.Lo)
	}
	return n
}

func (p *plan) left() int { return p.size() - len(p.out) - len(p.taken) }

type taken struct {
	at    time.Time
	n     int
	limit uint32 // the highest of the rates since its append was asked for; 0 is none
}

// rated is a rate from a time on; 0 is none.
type rated struct {
	at   time.Time
	rate uint32
}

// sim is the shell and the world around the lanes: blocks take their time, fail,
// are refused; gateways answer late.
type sim struct {
	t        fataler
	rng      *rand.Rand
	now      time.Time
	s        *State
	queue    []happening
	seq      int
	lanes    []bool
	plans    []*plan
	controls map[job.ID]job.Controls
	caughtUp time.Time
	takes    map[job.ID][]taken
	rates    map[job.ID][]rated
	refs     uint64
	faults   bool
	cost     func() time.Duration
	share    uint64 // one id in so many is a target
}

var start = time.Unix(1_700_000_000, 0)

func newSim(t fataler, seed uint64, lanes int) *sim {
	m := &sim{t: t, rng: rand.New(rand.NewPCG(seed, 1)), now: start, s: New(lanes), lanes: make([]bool, lanes),
		controls: map[job.ID]job.Controls{}, takes: map[job.ID][]taken{}, rates: map[job.ID][]rated{}, share: 1}
	m.cost = func() time.Duration { return time.Duration(m.rng.IntN(5)) * time.Millisecond }
	return m
}

func (m *sim) later(d time.Duration, do func()) {
	m.seq++
	m.queue = append(m.queue, happening{m.now.Add(d), m.seq, do})
}

// until runs what happens up to a time.
func (m *sim) until(end time.Time) {
	for {
		i := -1
		for k, h := range m.queue {
			if !h.at.After(end) && (i < 0 || cmp.Or(h.at.Compare(m.queue[i].at), cmp.Compare(h.n, m.queue[i].n)) < 0) {
				i = k
			}
		}
		if i < 0 {
			m.now = end
			return
		}
		h := m.queue[i]
		m.queue = slices.Delete(m.queue, i, i+1)
		m.now = h.at
		h.do()
	}
}

func (m *sim) step(ev Event) {
	for _, e := range m.s.Step(m.now, ev) {
		switch e := e.(type) {
		case Prepare:
			m.prepare(e.Task)
		case Append:
			m.append(e)
		case SliceSent:
			p := m.plan(e.Job, e.Number)
			if p.sent || p.left() > 0 || p.blocks > 0 || len(p.out) > 0 {
				m.t.Fatalf("slice %d is sent (before: %v) with %d ids left and %d blocks under way", e.Number, p.sent, p.left(), p.blocks)
			}
			p.sent = true
		}
	}
	m.idle()
}

// idle: no lane is idle while a slice waits for nothing.
func (m *sim) idle() {
	if slices.Contains(m.lanes, false) {
		for _, p := range m.plans {
			if m.free(p) {
				m.t.Fatalf("a lane is idle, slice %d of %s has %d ids left and waits for nothing", p.Number, p.Job, p.left())
			}
		}
	}
	if busy := m.s.Busy(); busy != len(slices.DeleteFunc(slices.Clone(m.lanes), func(b bool) bool { return !b })) {
		m.t.Fatalf("%d lanes are said to be busy", busy)
	}
}

func (m *sim) plan(id job.ID, number uint32) *plan {
	for _, p := range m.plans {
		if p.Job == id && p.Number == number {
			return p
		}
	}
	m.t.Fatalf("there is no slice %d of %s", number, id)
	return nil
}

func (m *sim) rate(p *plan) uint32 {
	if r := m.controls[p.Job].Rate; r != nil {
		return *r
	}
	return p.Rate
}

// highest is the highest rate that was in force at some time since then: what was begun
// under it may have gone before what was begun later.
func (m *sim) highest(p *plan, since time.Time) uint32 {
	highest := m.rate(p)
	until := m.now
	for _, r := range slices.Backward(m.rates[p.Job]) {
		if until.Before(since) {
			break
		}
		if highest > 0 && (r.rate == 0 || r.rate > highest) {
			highest = r.rate
		}
		until = r.at
	}
	return highest
}

func (m *sim) void(p *plan) job.Outcome {
	switch {
	case m.controls[p.Job].Cancelled:
		return job.Cancelled
	case m.controls[p.Job].Recalled:
		return job.Recalled
	case !m.now.Before(p.Expires):
		return job.Expired
	}
	return job.Parked
}

func (m *sim) maySend(p *plan) error {
	switch c := m.controls[p.Job]; {
	case m.void(p) != job.Parked:
		return fmt.Errorf("it is %s", m.void(p))
	case c.Paused:
		return fmt.Errorf("it is paused")
	case m.now.Sub(m.caughtUp) > 3*time.Second:
		return fmt.Errorf("its controls are %s old", m.now.Sub(m.caughtUp))
	}
	return nil
}

// free reports whether a slice could have a lane at once, its rate apart.
func (m *sim) free(p *plan) bool {
	if p.left() == 0 || !p.retryAt.IsZero() {
		return false
	}
	return m.void(p) != job.Parked || m.rate(p) == 0 && m.maySend(p) == nil
}

func urgent(p *plan) int {
	if p.Class == job.Realtime {
		return int(p.Priority)
	}
	return 0
}

func (m *sim) prepare(t Task) {
	p := m.plan(t.Job, t.Slice)
	if m.lanes[t.Lane] {
		m.t.Fatalf("lane %d has two blocks", t.Lane)
	}
	m.lanes[t.Lane] = true
	if !p.retryAt.IsZero() {
		m.t.Fatalf("slice %d failed at %s and is tried again before the next tick", p.Number, p.retryAt)
	}
	if t.Void != m.void(p) {
		m.t.Fatalf("a block of slice %d is taken as %s, the job is %s", p.Number, t.Void, m.void(p))
	}
	if err := m.maySend(p); err != nil && t.Void == job.Parked {
		m.t.Fatalf("a block of slice %d of %s is begun: %v", p.Number, p.Job, err)
	}
	if m.rate(p) > 0 && t.Void == job.Parked && t.Budget <= 0 {
		m.t.Fatalf("a block without a budget at rate %d", m.rate(p))
	}
	for _, o := range m.plans {
		if m.free(o) && (urgent(o) > urgent(p) || urgent(o) == urgent(p) && o.Submitted.Before(p.Submitted)) {
			m.t.Fatalf("a block of %s (urgency %d of %s) goes before %s (urgency %d of %s)", p.Job, urgent(p), p.Submitted, o.Job, urgent(o), o.Submitted)
		}
	}
	for id := t.Span.Lo; id < t.Span.Hi; id++ {
		inside := slices.ContainsFunc(p.Todo, func(s job.Span) bool { return s.Lo <= id && id < s.Hi })
		if !inside || p.out[id] || p.taken[id] {
			m.t.Fatalf("id %d: of the slice: %v, under way: %v, taken: %v", id, inside, p.out[id], p.taken[id])
		}
		p.out[id] = true
	}
	p.blocks++
	m.later(m.cost(), func() { m.prepared(t, p) })
}

func (m *sim) release(lane int, p *plan, from, to uint64) {
	m.lanes[lane] = false
	p.blocks--
	for id := from; id < to; id++ {
		delete(p.out, id)
	}
}

func (m *sim) prepared(t Task, p *plan) {
	if m.faults && m.rng.IntN(10) == 0 {
		m.release(t.Lane, p, t.Span.Lo, t.Span.Hi)
		p.retryAt = m.now
		m.step(Failed{t.Lane})
		return
	}
	res := &ledger.Reserve{Job: t.Job, Slice: t.Slice, Rest: t.Void}
	took := job.Span{Lo: t.Span.Lo, Hi: t.Span.Lo}
	set := idset.New(job.Range(t.Span.Lo >> job.RangeBits))
	limit := uint64(t.Span.Hi)
	if m.faults && m.rng.IntN(4) == 0 { // a block may also end earlier than its span
		limit = took.Lo + 1 + m.rng.Uint64N(t.Span.Hi-took.Lo)
	}
	for n := 0; took.Hi < limit; took.Hi++ {
		if t.Void != job.Parked || took.Hi%m.share != 0 {
			continue
		}
		if n++; t.Budget > 0 && n > t.Budget {
			break
		}
		set.Add(uint32(took.Hi))
	}
	res.Span = took
	if !set.IsEmpty() {
		res.Targets = ledger.Targets{Incs: []job.Incarnation{{Gateway: "g", Start: 1}}, Sets: []*idset.Set{set}}
	}
	if m.share > 1 && set.IsEmpty() {
		res = nil // the package has no id there
	}
	for id := took.Hi; id < t.Span.Hi; id++ {
		delete(p.out, id)
	}
	// Whether it goes on is for the lanes to say; the oracle learns it by the append.
	m.lanes[t.Lane] = false
	p.blocks--
	for id := took.Lo; id < took.Hi; id++ {
		delete(p.out, id)
		if res == nil {
			p.taken[id] = true
		}
	}
	m.step(Prepared{t.Lane, took, res})
}

func (m *sim) append(e Append) {
	p := m.plan(e.Reserve.Job, e.Reserve.Slice)
	if m.lanes[e.Lane] {
		m.t.Fatalf("lane %d has two blocks", e.Lane)
	}
	if err := m.maySend(p); err != nil && e.Reserve.Rest == job.Parked {
		m.t.Fatalf("a block of %s is reserved: %v", p.Job, err)
	}
	if int(e.Urgent) != urgent(p) {
		m.t.Fatalf("urgency %d, want %d", e.Urgent, urgent(p))
	}
	m.lanes[e.Lane] = true
	p.blocks++
	for id := e.Reserve.Span.Lo; id < e.Reserve.Span.Hi; id++ {
		p.out[id] = true
	}
	asked := m.now
	m.later(m.cost(), func() { m.stored(e, p, asked) })
}

func (m *sim) stored(e Append, p *plan, asked time.Time) {
	span := e.Reserve.Span
	if m.faults && m.rng.IntN(10) == 0 {
		m.release(e.Lane, p, span.Lo, span.Hi)
		p.retryAt = m.now
		m.step(Refused{e.Lane})
		return
	}
	for id := span.Lo; id < span.Hi; id++ {
		delete(p.out, id)
		p.taken[id] = true
	}
	m.refs++
	ref := job.Ref{Journal: job.Journal{Worker: "w", Incarnation: 1}, N: m.refs}
	m.step(Reserved{e.Lane, ref})
	way := m.cost()
	if m.faults && m.rng.IntN(10) == 0 {
		way += time.Duration(m.rng.IntN(400)) * time.Millisecond
	}
	if n := e.Reserve.Targets.Card(); n > 0 { // it arrives at any time before the answer
		m.later(time.Duration(m.rng.Int64N(int64(way)+1)), func() {
			m.takes[p.Job] = append(m.takes[p.Job], taken{m.now, n, m.highest(p, asked)})
			m.window(p.Job)
		})
	}
	m.later(way, func() {
		m.lanes[e.Lane] = false
		p.blocks--
		m.step(Handled{ref})
		m.step(Handled{ref}) // a drain's, or a late one
	})
}

// window: the second that ends now has no more than the rate allowed.
func (m *sim) window(id job.ID) {
	all := m.takes[id]
	last := all[len(all)-1]
	sum := 0
	for _, x := range all {
		if last.at.Sub(x.at) < time.Second {
			sum += x.n
		}
	}
	if last.limit > 0 && sum > int(last.limit) {
		m.t.Fatalf("%s: %d recipients in the second up to %s, the rate is %d", id, sum, last.at.Sub(start), last.limit)
	}
}

func (m *sim) tick() {
	for _, p := range m.plans {
		p.retryAt = time.Time{}
	}
	m.step(Tick{})
}

func (m *sim) catchUp() {
	m.caughtUp = m.now
	m.step(CaughtUp{})
}

func (m *sim) control(id job.ID, c job.Controls) {
	m.controls[id] = c
	if c.Rate != nil {
		m.rates[id] = append(m.rates[id], rated{m.now, *c.Rate})
	}
	m.step(Control{id, c})
}

func (m *sim) assign(s Slice) {
	if m.rates[s.Job] == nil {
		m.rates[s.Job] = []rated{{m.now, s.Rate}}
	}
	m.plans = append(m.plans, &plan{Slice: s, out: map[uint64]bool{}, taken: map[uint64]bool{}})
	m.step(Assign{s, m.controls[s.Job]})
}
