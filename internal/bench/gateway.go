package bench

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"crier/internal/bus"
	"crier/internal/idset"
	"crier/job"
	"crier/presence/handoff"
)

// Gateway is a simulated gateway: it speaks the hand-off protocol, acknowledges
// for its recipients at once, and checks each against who should get the job.
type Gateway struct {
	Population
	Index  int
	Many   bool // more than one job comes: whom it got is kept by job, and compared by who asks
	Inc    job.Incarnation
	Bus    bus.Bus
	Worker string // home to every range

	mu struct {
		sync.Mutex
		due     map[job.Range]*idset.Set // should get it and has not yet
		seen    map[job.Range]*idset.Set // has got it
		known   map[job.Ref]bool         // reserves taken
		result  GatewayResult
		reports map[job.Ref]*handoff.Report // not recorded yet
	}
}

// GatewayResult is what a simulated gateway saw. Nothing in it comes from the server.
type GatewayResult struct {
	Received uint64 `json:"received"` // recipients, each the first time
	Twice    uint64 `json:"twice"`
	Strange  uint64 `json:"strange"` // should not have got it
	Missing  uint64 `json:"missing"` // should have and did not
	Errors   uint64 `json:"errors"`  // sending failed
	// Jobs is who was received, by job, if there are many; then nobody is twice or missing.
	Jobs map[string]Tally `json:"jobs,omitempty"`
}

// repeatReports is how often a report that was not recorded is sent again.
const repeatReports = time.Second

// Prepare works out who should get the job here, subscribes, and announces who is
// online.
func (g *Gateway) Prepare(ctx context.Context) error {
	g.mu.due, g.mu.seen = map[job.Range]*idset.Set{}, map[job.Range]*idset.Set{}
	g.mu.known = map[job.Ref]bool{}
	g.mu.result.Jobs = map[string]Tally{}
	g.mu.reports = map[job.Ref]*handoff.Report{}
	var ranges []job.Range
	err := g.Ranges(func(pkg *idset.Set) error {
		s := pkg.Clone()
		s.And(g.At(pkg.Range, g.Index))
		s.And(g.Followers(pkg.Range))
		s.AndNot(g.Suppressed(pkg.Range))
		g.mu.due[pkg.Range], g.mu.seen[pkg.Range] = s, idset.New(pkg.Range)
		ranges = append(ranges, pkg.Range)
		return nil
	})
	if err != nil {
		return err
	}
	for subject, fn := range map[string]func(bus.Msg){
		handoff.HandoffTo(g.Inc.Gateway):  g.handOff,
		handoff.RecordedTo(g.Inc.Gateway): g.recorded,
	} {
		if _, err := g.Bus.Subscribe(subject, fn); err != nil {
			return fmt.Errorf("subscribing: %w", err)
		}
	}
	beaten := time.Now()
	for _, r := range ranges {
		if time.Since(beaten) >= repeatReports {
			beaten = time.Now()
			if err := g.beat(); err != nil {
				return fmt.Errorf("beating: %w", err)
			}
		}
		a := handoff.Announce{Inc: g.Inc, Round: 1, Seq: 1, Range: r, Join: g.At(r, g.Index)}
		if err := g.announce(ctx, a); err != nil {
			return fmt.Errorf("announcing range %s: %w", r, err)
		}
	}
	return nil
}

func (g *Gateway) announce(ctx context.Context, a handoff.Announce) error {
	for {
		if err := g.Bus.Publish(handoff.WantTo, (&handoff.Want{Ranges: []job.Range{a.Range}}).Bytes()); err != nil {
			return err
		}
		try, cancel := context.WithTimeout(ctx, 5*time.Second)
		answer, err := g.Bus.Request(try, handoff.AnnounceTo(g.Worker), a.Bytes())
		cancel()
		if err == nil {
			got, err := handoff.ParseReception(answer)
			if err != nil || got == handoff.TakenIn {
				return err
			}
		}
		if err != nil && !errors.Is(err, bus.ErrNoResponders) && !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// handOff accepts a hand-off and reports, in a message of its own, that all of its
// recipients acknowledged.
func (g *Gateway) handOff(m bus.Msg) {
	all, err := handoff.ParseHandoffs(m.Data)
	if err != nil {
		return
	}
	var answers []byte
	for _, h := range all {
		a := handoff.Answer{Kind: handoff.Stranger}
		if h.To == g.Inc {
			a = handoff.Answer{Kind: handoff.Accepted, Reports: []handoff.Report{{Ref: h.Ref, Inc: h.To, Job: h.Job, Version: 1}}}
		}
		answers = append(answers, a.Bytes()...)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := m.Respond(answers); err != nil {
		g.mu.result.Errors++
	}
	for _, h := range all {
		if h.To == g.Inc {
			g.take(h)
		}
	}
}

// take takes a hand-off, the first time, and reports on it. It is sent again if it gets lost.
func (g *Gateway) take(h *handoff.Handoff) {
	if g.mu.known[h.Ref] {
		return
	}
	g.mu.known[h.Ref] = true
	if g.Many {
		g.count(h.Job, h.Targets)
	} else {
		g.check(h.Targets)
	}
	p := &handoff.Report{Ref: h.Ref, Inc: g.Inc, Job: h.Job, Version: 2, Rest: handoff.RestAcked}
	g.mu.reports[h.Ref] = p
	g.report(p)
}

func (g *Gateway) report(p *handoff.Report) {
	if err := g.Bus.Publish(handoff.ReportTo(p.Ref.Journal), p.Bytes()); err != nil {
		g.mu.result.Errors++
	}
}

// check takes recipients off the list of those who are due.
func (g *Gateway) check(got *idset.Set) {
	due, seen := g.mu.due[got.Range], g.mu.seen[got.Range]
	if due == nil {
		g.mu.result.Strange += uint64(got.Card())
		return
	}
	all := got.Card()
	got.AndNot(seen)
	first := got.Card()
	got.And(due)
	fine := got.Card()
	g.mu.result.Received += uint64(fine)
	g.mu.result.Twice += uint64(all - first)
	g.mu.result.Strange += uint64(first - fine)
	due.AndNot(got)
	seen.Or(got)
	got.Release()
}

func (g *Gateway) recorded(m bus.Msg) {
	all, err := handoff.ParseRecorded(m.Data)
	if err != nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range all {
		if r.Version >= 2 {
			delete(g.mu.reports, r.Ref)
		}
	}
}

// Run repeats reports until ctx ends.
func (g *Gateway) Run(ctx context.Context) {
	t := time.NewTicker(repeatReports)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		g.mu.Lock()
		for _, p := range g.mu.reports {
			g.report(p)
		}
		g.mu.Unlock()
		if err := g.beat(); err != nil {
			return // the server is gone, and the bench with it
		}
	}
}

// beat says that the gateway is there, and how far its announcements are.
func (g *Gateway) beat() error {
	b := handoff.Beat{Inc: g.Inc}
	for r := range g.mu.seen {
		b.Ranges = append(b.Ranges, handoff.Announced{Range: r, Round: 1, Seq: 1})
	}
	return g.Bus.Publish(handoff.BeatTo, b.Bytes())
}

// Result tells what the gateway has seen so far.
func (g *Gateway) Result() GatewayResult {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := g.mu.result
	if g.Many {
		r.Jobs = maps.Clone(r.Jobs)
		return r
	}
	for _, s := range g.mu.due {
		r.Missing += uint64(s.Card())
	}
	return r
}
