package sim

import (
	"slices"
	"time"

	"crier/job"
	"crier/presence/gateway"
	"crier/presence/handoff"
	"crier/state/ledger"
)

// gatewayHost is one gateway: its accepted-files, which survive the process and not the
// machine, and the incarnation that runs, if any.
type gatewayHost struct {
	w       *World
	p       *proc
	name    string
	window  int
	inc     job.Incarnation
	state   *gateway.State
	started time.Duration
	file    []*gateway.Record // of the running incarnation, in the order of their appends
	history gateway.History
	conns   map[gateway.Conn]*pipe
	next    gateway.Conn
	tokens  gateway.Token
	replies map[gateway.Token]func([]byte)
	homes   map[job.Range]string
	follow  []gateway.Event
	ticking bool
	pumping bool
	fenced  map[job.Journal]bool // by an answer to a fence
	from    map[job.Ref]bool     // accepted by this incarnation
	seen    map[blockKey]bool    // for a planted bug
}

type blockKey struct {
	id jobID
	r  job.Range
}

func (w *World) gateway(name string) *gatewayHost {
	for _, g := range w.gateways {
		if g.name == name {
			return g
		}
	}
	return nil
}

// settleWithin has clients forget as early as they may, which leaves the least to drop a
// repeat by.
const settleWithin = time.Nanosecond

// boot starts the next incarnation.
func (g *gatewayHost) boot() {
	w := g.w
	w.start(g.p)
	g.inc = job.Incarnation{Gateway: g.name, Start: g.inc.Start + 1}
	g.history.First = 1
	state, err := gateway.New(gateway.Config{Incarnation: g.inc, Window: g.window, SettleWithin: settleWithin,
		History: gateway.History{First: 1, Ended: slices.Clone(g.history.Ended)}})
	if err != nil {
		panic(err)
	}
	g.state, g.started = state, w.now
	g.file, g.conns, g.replies = nil, map[gateway.Conn]*pipe{}, map[gateway.Token]func([]byte){}
	g.homes, g.follow, g.ticking, g.pumping = map[job.Range]string{}, nil, false, false
	g.fenced, g.from, g.seen = map[job.Journal]bool{}, map[job.Ref]bool{}, map[blockKey]bool{}
	w.trace("%s begins", g.inc)
	w.follow(g.p, w.ledger, ofClaim, 1, func(st ledger.Stored) {
		c := parsed(ledger.ParseClaim(st))
		if c.Kind == ledger.ClaimRange {
			g.homes[parsed(job.ParseRange(c.ID))] = c.Journal.Worker
		}
	}, nil)
	g.step(gateway.Tick{})
}

// kill ends the process; if the machine stops, too, what it noted counts for nothing.
func (g *gatewayHost) kill(machine bool) {
	w := g.w
	if !g.p.up {
		return
	}
	w.kill(g.p)
	e := gateway.Ended{Start: g.inc.Start, Unreadable: machine}
	if !machine {
		for _, r := range g.file {
			e.Records = append(e.Records, *r)
		}
	}
	if machine {
		w.counts.Unreadable++
		w.trace("%s cannot be read", g.inc)
		for i := range g.history.Ended { // older files are of the machine's last start, too
			g.history.Ended[i] = gateway.Ended{Start: g.history.Ended[i].Start, Unreadable: true}
		}
	}
	if len(e.Records) > 0 || machine {
		g.history.Ended = append(g.history.Ended, e)
	}
	for n := gateway.Conn(1); n <= g.next; n++ {
		if p := g.conns[n]; p != nil {
			p.reset(w.upTo(2 * time.Second))
		}
	}
	g.conns = map[gateway.Conn]*pipe{}
}

// step feeds the core and carries out what it says, and then what comes of that.
func (g *gatewayHost) step(ev gateway.Event) {
	g.follow = append(g.follow, ev)
	if len(g.follow) > 1 {
		return // an effect's answer: its turn comes
	}
	for len(g.follow) > 0 {
		for _, e := range slices.Clone(g.state.Step(g.w.now-g.started, g.follow[0])) {
			g.carryOut(e)
		}
		g.follow = g.follow[1:]
	}
	g.follow = nil
	if !g.ticking {
		g.ticking = true
		g.w.timer(g.p, max(time.Millisecond, g.state.Next()-(g.w.now-g.started)), func() { g.ticking = false; g.step(gateway.Tick{}) })
	}
	if g.state.Pending() && !g.pumping {
		g.pumping = true
		g.w.timer(g.p, g.w.upTo(time.Millisecond), func() { g.pumping = false; g.step(gateway.Pump{}) })
	}
}

func (g *gatewayHost) carryOut(e gateway.Effect) {
	w := g.w
	switch e := e.(type) {
	case gateway.Append:
		g.append(e.Record)
	case gateway.Mark:
		for _, r := range g.file {
			if r.Ref == e.Ref {
				r.Acked.Set(int(e.Rank))
			}
		}
	case gateway.Free:
		g.free(e)
	case gateway.Reply:
		answer := g.replies[e.Token]
		delete(g.replies, e.Token)
		answer(e.Answer.Bytes())
	case gateway.Publish:
		if x := w.worker(e.To.Worker); x != nil {
			b := e.Report.Bytes()
			w.send(g.p, x.p, toReport, func() { x.onReport(b) })
		}
	case gateway.Deliver:
		for _, n := range e.Conns {
			if p := g.conns[n]; p != nil {
				p.write(frame{id: e.Job})
			}
		}
	case gateway.SendSettled:
		if p := g.conns[e.Conn]; p != nil {
			for _, id := range e.IDs {
				p.write(frame{id, true})
			}
		}
	case gateway.Close:
		if p := g.conns[e.Conn]; p != nil {
			p.closeByGateway()
		}
	case gateway.Announce:
		g.announce(e.Message.Range, e.Flight, e.Message.Bytes(), w.now+time.Second, 10*time.Millisecond)
	case gateway.Beat:
		b := e.Message.Bytes()
		for _, x := range w.workers {
			w.send(g.p, x.p, toBeat, func() { x.onBeat(b) })
		}
	}
}

// append notes a reserve in the accepted-file, before anything of it leaves (rule 10).
func (g *gatewayHost) append(r gateway.Record) {
	w := g.w
	if g.fenced[r.Ref.Journal] {
		w.fail("I6", "%s accepts %s of a journal that it has fenced", g.inc, r.Ref)
	}
	if g.from[r.Ref] {
		w.fail("I3", "%s accepts %s a second time", g.inc, r.Ref)
	}
	if w.bad(0.01) && !w.rules.FileAfterSocket { // the disk is full
		g.step(gateway.Written{Ref: r.Ref})
		return
	}
	g.from[r.Ref] = true
	if w.rules.FileAfterSocket {
		w.timer(g.p, w.upTo(2*time.Second), func() { g.file = append(g.file, &r) })
	} else {
		g.file = append(g.file, &r)
	}
	g.step(gateway.Written{Ref: r.Ref, OK: true})
}

func (g *gatewayHost) free(e gateway.Free) {
	if e.Start == g.inc.Start {
		g.file = slices.DeleteFunc(g.file, func(r *gateway.Record) bool { return r.Ref == e.Ref })
		return
	}
	for i, x := range g.history.Ended {
		if x.Start == e.Start {
			g.history.Ended[i].Records = slices.DeleteFunc(slices.Clone(x.Records), func(r gateway.Record) bool { return r.Ref == e.Ref })
		}
	}
}

// announce asks the home of a range, waking one if there is none.
func (g *gatewayHost) announce(r job.Range, flight uint64, b []byte, until, wait time.Duration) {
	w := g.w
	again := func() {
		want := handoff.Want{Ranges: []job.Range{r}}
		w.publishWant(g.p, &want)
		w.timer(g.p, wait, func() { g.announce(r, flight, b, until, min(2*wait, 200*time.Millisecond)) })
	}
	x := w.worker(g.homes[r])
	switch {
	case w.now >= until:
	case x == nil || !x.p.up:
		again()
	default:
		w.ask(g.p, x.p, toAnnounce, max(time.Millisecond, until-w.now), func(answer func([]byte)) { x.onAnnounce(b, answer) }, func(b []byte, ok bool) {
			if !ok {
				return
			}
			if got := parsed(handoff.ParseReception(b)); got == handoff.NotHome {
				again()
			} else {
				g.step(gateway.Announced{Range: r, Flight: flight, Again: got == handoff.WantsAnew})
			}
		})
	}
}

// What comes from workers.

func (g *gatewayHost) token(answer func([]byte)) gateway.Token {
	g.tokens++
	g.replies[g.tokens] = answer
	return g.tokens
}

func (g *gatewayHost) onHandoff(b []byte, by job.Journal, answer func([]byte)) {
	h := only(handoff.ParseHandoffs(b))
	zombie := g.w.fold.Sealed(h.Ref.Journal) && by == h.Ref.Journal
	if g.w.rules.SeenByBlock && g.seenBlock(h, answer) {
		return
	}
	g.step(gateway.HandedOff{Request: h, Token: g.token(func(b []byte) {
		if a := only(handoff.ParseAnswers(b)); zombie && a.Kind == handoff.Fenced {
			g.w.counts.ZombieRefused++
		}
		answer(b)
	})})
}

func (g *gatewayHost) onFence(b []byte, answer func([]byte)) {
	f := parsed(handoff.ParseFence(b))
	inc := g.inc
	reply := func(b []byte) {
		if a := only(handoff.ParseAnswers(b)); a.Kind == handoff.Fenced && f.To == inc {
			g.fenced[f.Journal] = true
		}
		answer(b)
	}
	g.step(gateway.Fenced{Request: *f, Token: g.token(reply)})
}

func (g *gatewayHost) onRecorded(b []byte) {
	g.step(gateway.Recorded{Recorded: *only(handoff.ParseRecorded(b))})
}

func (g *gatewayHost) onSettle(b []byte) {
	g.step(gateway.Settled{Settle: *parsed(handoff.ParseSettle(b))})
}

func (g *gatewayHost) onAnew(inc job.Incarnation, ranges []job.Range) {
	if inc == g.inc {
		g.step(gateway.Anew{Ranges: ranges})
	}
}
