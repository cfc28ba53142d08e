package logins

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"crier/internal/bus"
	"crier/internal/idset"
	"crier/internal/pause"
	"crier/job"
	"crier/presence/handoff"
)

// repeatEvery is how often beats, and reports that were not recorded, are sent.
const repeatEvery = time.Second

// gateway is a simulated gateway to which recipients come: it announces them to the home
// as real ones do, one announcement of a range after the other, and acknowledges at once.
type gateway struct {
	a      *arrivals
	inc    job.Incarnation
	bus    bus.Bus
	worker string // home to every range
	ctx    context.Context
	errors atomic.Uint64

	mu      sync.Mutex
	ranges  map[job.Range]*telling
	known   map[job.Ref]bool // reserves taken
	reports map[job.Ref]*handoff.Report
}

// telling is what the home of a range is told.
type telling struct {
	round, seq  uint64
	there       *idset.Set // everybody
	join, leave *idset.Set // not announced yet
	flight      bool
}

func (g *gateway) begin() error {
	for subject, fn := range map[string]func(bus.Msg){
		handoff.HandoffTo(g.inc.Gateway):  g.handOff,
		handoff.RecordedTo(g.inc.Gateway): g.recorded,
		handoff.AnewTo(g.inc.Gateway):     g.anew,
	} {
		if _, err := g.bus.Subscribe(subject, fn); err != nil {
			return fmt.Errorf("subscribing: %w", err)
		}
	}
	go g.repeat()
	return nil
}

// join lets a recipient come.
func (g *gateway) join(id uint32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := job.Recipient(id).Range()
	t := g.ranges[r]
	if t == nil {
		t = &telling{round: 1, there: idset.New(r), join: idset.New(r), leave: idset.New(r)}
		g.ranges[r] = t
	}
	t.there.Add(id)
	t.join.Add(id)
	g.tell(r, t)
}

// leave lets everybody leave.
func (g *gateway) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for r, t := range g.ranges {
		t.leave, t.there, t.join = t.there, idset.New(r), idset.New(r)
		g.tell(r, t)
	}
}

func (g *gateway) tell(r job.Range, t *telling) {
	if !t.flight {
		t.flight = true
		go g.announce(r, t)
	}
}

// told waits until the homes know everything.
func (g *gateway) told(ctx context.Context) error {
	for {
		g.mu.Lock()
		left := 0
		for _, t := range g.ranges {
			if t.flight {
				left++
			}
		}
		g.mu.Unlock()
		if left == 0 {
			return nil
		}
		if !pause.For(ctx, 5*time.Millisecond) {
			return ctx.Err()
		}
	}
}

// announce tells the home of a range until there is nothing more to tell.
func (g *gateway) announce(r job.Range, t *telling) {
	for {
		g.mu.Lock()
		if t.join.IsEmpty() && t.leave.IsEmpty() {
			t.flight = false
			g.mu.Unlock()
			return
		}
		t.seq++
		m := handoff.Announce{Inc: g.inc, Round: t.round, Seq: t.seq, Range: r, Join: t.join, Leave: t.leave}
		t.join, t.leave = idset.New(r), idset.New(r)
		g.mu.Unlock()
		for id := range m.Join.All() {
			m.Hellos = append(m.Hellos, handoff.Hello{Recipient: job.Recipient(id), Client: uint64(id) + 1, Speaks: true})
		}
		got := g.ask(&m)
		if got == 0 {
			return // the bench ends
		}
		if got == handoff.WantsAnew {
			g.mu.Lock()
			t.round, t.seq = t.round+1, 0
			t.join.Or(t.there)
			g.mu.Unlock()
		}
	}
}

// ask repeats an announcement until the home has answered.
func (g *gateway) ask(m *handoff.Announce) handoff.Reception {
	data := m.Bytes()
	for {
		try, cancel := context.WithTimeout(g.ctx, 5*time.Second)
		answer, err := g.bus.Request(try, handoff.AnnounceTo(g.worker), data)
		cancel()
		if err == nil {
			got, err := handoff.ParseReception(answer)
			switch {
			case err != nil:
				g.errors.Add(1)
			case got != handoff.NotHome:
				return got
			}
		}
		if err := g.bus.Publish(handoff.WantTo, (&handoff.Want{Ranges: []job.Range{m.Range}}).Bytes()); err != nil {
			g.errors.Add(1)
		}
		if !pause.For(g.ctx, 10*time.Millisecond) {
			return 0
		}
	}
}

// handOff accepts a hand-off and reports that all of its recipients acknowledged.
func (g *gateway) handOff(m bus.Msg) {
	all, err := handoff.ParseHandoffs(m.Data)
	if err != nil {
		g.errors.Add(1)
		return
	}
	now := time.Now()
	var answers []byte
	var news []*handoff.Report
	for _, h := range all {
		a := handoff.Answer{Kind: handoff.Stranger}
		if h.To == g.inc {
			a = handoff.Answer{Kind: handoff.Accepted, Reports: []handoff.Report{{Ref: h.Ref, Inc: h.To, Job: h.Job, Version: 1}}}
			if p := g.take(h, now); p != nil {
				news = append(news, p)
			}
		}
		answers = append(answers, a.Bytes()...)
	}
	if err := m.Respond(answers); err != nil {
		g.errors.Add(1)
	}
	g.report(news)
}

// take takes a hand-off and gives the report on it, or nil if it was taken before.
func (g *gateway) take(h *handoff.Handoff, now time.Time) *handoff.Report {
	g.mu.Lock()
	if g.known[h.Ref] {
		g.mu.Unlock()
		return nil
	}
	g.known[h.Ref] = true
	p := &handoff.Report{Ref: h.Ref, Inc: g.inc, Job: h.Job, Version: 2, Rest: handoff.RestAcked}
	g.reports[h.Ref] = p
	g.mu.Unlock()
	g.a.mu.Lock()
	defer g.a.mu.Unlock()
	for id := range h.Targets.All() {
		g.a.take(h.Job, id, now)
	}
	return p
}

// report sends reports, those to one journal together.
func (g *gateway) report(all []*handoff.Report) {
	data := map[job.Journal][]byte{}
	for _, p := range all {
		data[p.Ref.Journal] = append(data[p.Ref.Journal], p.Bytes()...)
	}
	for to, b := range data {
		if err := g.bus.Publish(handoff.ReportTo(to), b); err != nil {
			g.errors.Add(1)
		}
	}
}

func (g *gateway) recorded(m bus.Msg) {
	all, err := handoff.ParseRecorded(m.Data)
	if err != nil {
		g.errors.Add(1)
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range all {
		if r.Version >= 2 {
			delete(g.reports, r.Ref)
		}
	}
}

// unrecorded is how many reserves were reported on and are not recorded.
func (g *gateway) unrecorded() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.reports)
}

// anew tells a home everything that has lost what it was told.
func (g *gateway) anew(m bus.Msg) {
	p, err := handoff.ParseAnew(m.Data)
	if err != nil {
		g.errors.Add(1)
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range p.Ranges {
		if t := g.ranges[r]; t != nil && !t.flight && p.Inc == g.inc { // what is under way is answered so, too
			t.round, t.seq = t.round+1, 0
			t.join.Or(t.there)
			g.tell(r, t)
		}
	}
}

// repeat beats, and sends reports again, until the bench ends.
func (g *gateway) repeat() {
	for pause.For(g.ctx, repeatEvery) {
		b := handoff.Beat{Inc: g.inc}
		g.mu.Lock()
		for _, p := range g.reports {
			g.report([]*handoff.Report{p})
		}
		for r, t := range g.ranges {
			if t.seq > 0 {
				b.Ranges = append(b.Ranges, handoff.Announced{Range: r, Round: t.round, Seq: t.seq})
			}
		}
		g.mu.Unlock()
		if err := g.bus.Publish(handoff.BeatTo, b.Bytes()); err != nil {
			g.errors.Add(1)
		}
	}
}
