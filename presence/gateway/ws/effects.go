package ws

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/go-json-experiment/json"

	"crier/internal/bus"
	"crier/internal/idset"
	"crier/job"
	"crier/presence/gateway"
	"crier/presence/handoff"
)

// announceWait is how long a home may take to answer; the core asks again after it.
const announceWait = time.Second

// carryOut does what the core says. It runs on the goroutine that owns the state.
func (g *Gateway) carryOut(e gateway.Effect) {
	switch e := e.(type) {
	case gateway.Append:
		g.append(e.Record)
	case gateway.Mark:
		g.cfg.Accepted.Mark(e.Ref, e.Rank)
	case gateway.Free:
		if err := g.cfg.Accepted.Free(e.Start, e.Ref); err != nil {
			g.cfg.Log.Warn("freeing a reserve in the accepted-file", "reserve", e.Ref.String(), "err", err)
		}
	case gateway.Reply:
		g.reply(e)
	case gateway.Publish:
		g.reports.add(g, e.To, &e.Report)
		releaseReport(&e.Report)
	case gateway.Deliver:
		g.deliver(e)
	case gateway.SendSettled:
		if c := g.conns[e.Conn]; c != nil {
			g.settled(c, e.IDs)
		}
	case gateway.Close:
		if c := g.conns[e.Conn]; c != nil {
			c.closeFor(e)
		}
	case gateway.Announce:
		g.announce(e)
	case gateway.Beat:
		if err := g.cfg.Bus.Publish(handoff.BeatTo, e.Message.Bytes()); err != nil { // the next one comes
			g.cfg.Log.Debug("publishing a beat", "err", err)
		}
	}
}

func (c *conn) closeFor(e gateway.Close) {
	switch e.Why {
	case gateway.Moved:
		c.redirect(e.To)
	case gateway.Replaced:
		go c.close(codeReplaced, e.Why.String())
	default:
		go c.close(codeUnacknowledged, e.Why.String())
	}
}

func (g *Gateway) append(r gateway.Record) {
	err := g.cfg.Accepted.Append(r)
	if err != nil && !g.fileErr { // said once; hand-offs are put off until it works
		g.cfg.Log.Error("the accepted-file takes nothing; hand-offs wait until it does", "err", err)
	}
	g.fileErr = err != nil
	g.follow = append(g.follow, gateway.Written{Ref: r.Ref, OK: err == nil})
}

func (g *Gateway) reply(e gateway.Reply) {
	respond := g.replies[e.Token]
	delete(g.replies, e.Token)
	data := e.Answer.Bytes()
	for i := range e.Answer.Reports {
		releaseReport(&e.Answer.Reports[i])
	}
	if err := respond(data); err != nil { // asked again by the owner
		g.cfg.Log.Debug("answering a hand-off or a fence", "err", err)
	}
}

func releaseReport(p *handoff.Report) {
	for _, s := range []*idset.Set{p.Acked, p.Waiting, p.NotHere, p.Unacked, p.Mute, p.Refused} {
		s.Release()
	}
}

// settled queues what a client may forget. Most get the same list as the one before.
func (g *Gateway) settled(c *conn, ids []job.ID) {
	if !slices.Equal(ids, g.lastTold.settled) {
		b, err := json.Marshal(settledFrame{typeSettled, ids})
		if err != nil {
			g.cfg.Log.Error("writing a frame of settled ids", "err", err)
			return
		}
		g.lastTold = queued{kind: typeSettled, bytes: b, settled: ids}
	}
	g.queue(c, g.lastTold)
}

// deliver queues a message with connections. All of them share its bytes. The order
// grows from piece to piece, and so on every connection.
func (g *Gateway) deliver(e gateway.Deliver) {
	g.order++
	f := message(e.Job, e.Message, g.order)
	b, err := json.Marshal(f)
	if err != nil { // the core takes only what can be written
		g.cfg.Log.Error("writing a message frame", "job", e.Job.String(), "err", err)
		return
	}
	for _, n := range e.Conns {
		if c := g.conns[n]; c != nil {
			g.queue(c, queued{kind: f.kind(), bytes: b, job: e.Job})
		}
	}
}

// Waits for a home that is not known yet: the first, and the longest.
const (
	firstHomeWait = 10 * time.Millisecond
	lastHomeWait  = 200 * time.Millisecond
)

// announce asks a home. One request a range is under way at most, as the core has it.
func (g *Gateway) announce(e gateway.Announce) {
	data := e.Message.Bytes()
	rng := e.Message.Range
	e.Message.Join.Release()
	e.Message.Leave.Release()
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), announceWait)
		defer cancel()
		got, err := g.tellHome(ctx, rng, data)
		if err != nil { // nobody is home, or not fast enough: repeated by the core
			g.counters.announceRetries.Add(1)
			return
		}
		g.post(func() {
			g.step(gateway.Announced{Range: rng, Flight: e.Flight, Again: got == handoff.WantsAnew})
		})
	}()
}

// tellHome finds the home of a range, waking one if there is none, and asks it.
func (g *Gateway) tellHome(ctx context.Context, rng job.Range, data []byte) (handoff.Reception, error) {
	for wait := firstHomeWait; ; wait = min(2*wait, lastHomeWait) {
		if home := g.cfg.Homes.Home(rng); home != "" {
			answer, err := g.cfg.Bus.Request(ctx, handoff.AnnounceTo(home), data)
			if err == nil {
				got, err := handoff.ParseReception(answer)
				if err != nil || got != handoff.NotHome {
					return got, err
				}
			} else if !errors.Is(err, bus.ErrNoResponders) {
				return 0, err
			}
		}
		want := handoff.Want{Ranges: []job.Range{rng}}
		if err := g.cfg.Bus.Publish(handoff.WantTo, want.Bytes()); err != nil {
			return 0, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}
