// Package ws is the gateway's shell: connections by WebSocket at /v1/connect and by
// server-sent events at /v1/stream, the bus, the accepted-file and the clock around the
// pure core in presence/gateway.
//
// One goroutine owns the core and carries out its effects in their order; everything
// else sends it functions to run. A connection costs one goroutine that reads; one
// that writes lives only while there is something to write. A reader that is slow
// delays nobody: its queue is bounded (maxQueue frames, shared with all others who
// get the same message), and a message that it does not acknowledge within 30 s ends
// it.
package ws

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"crier/internal/bus"
	"crier/job"
	"crier/presence/gateway"
	"crier/presence/handoff"
)

// Gateway is one incarnation. It is an http.Handler for /v1/connect and what is below
// /v1/stream.
type Gateway struct {
	cfg     Config
	state   *gateway.State
	started time.Time
	inbox   chan func() // run by the goroutine that owns the state; closed never, see done
	done    chan struct{}
	ready   chan struct{} // closed by Run when it is subscribed

	// The rest up to mu belongs to that goroutine.
	conns    map[gateway.Conn]*conn
	reports  reports // to be published
	replies  map[gateway.Token]func([]byte) error
	tokens   gateway.Token
	order    uint64          // of pieces sent
	follow   []gateway.Event // answers to effects
	fileErr  bool            // the last append did not work
	lastTold queued          // the last frame of settled ids
	queued   []*conn         // have frames that a step queued, to be flushed at its end

	mu struct {
		sync.Mutex
		sockets  map[*conn]struct{} // every open connection, also before its hello
		upgrades int                // admitted, not yet among them
		next     gateway.Conn
		state    int // starting, running, stopping
	}
	counters counters
	stats    atomic.Pointer[Stats]
}

const (
	starting = iota
	running
	stopping
)

// New makes a gateway that does nothing until Run.
func New(cfg Config) (*Gateway, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	state, err := gateway.New(cfg.Core)
	if err != nil {
		return nil, err
	}
	g := &Gateway{
		cfg: cfg, state: state,
		inbox: make(chan func(), 1024), done: make(chan struct{}), ready: make(chan struct{}),
		conns: map[gateway.Conn]*conn{}, replies: map[gateway.Token]func([]byte) error{},
	}
	g.mu.sockets = map[*conn]struct{}{}
	g.stats.Store(&Stats{})
	return g, nil
}

// Run serves until ctx ends, then closes the connections with 1001, tells homes and
// owners what came of them as far as they answer within a second, and returns. It
// runs once.
func (g *Gateway) Run(ctx context.Context) error {
	if !g.enter(running) {
		return errors.New("running a gateway: it has run already")
	}
	g.started = time.Now()
	subs, err := g.subscribe()
	if err != nil {
		g.enter(stopping)
		close(g.done)
		return err
	}
	close(g.ready)
	var helpers sync.WaitGroup
	pings, stopPings := context.WithCancel(ctx)
	defer stopPings()
	helpers.Go(func() { g.ping(pings) })
	g.loop(ctx.Done(), nil)
	g.enter(stopping)
	stopPings()
	g.stop(subs)
	close(g.done)
	helpers.Wait()
	return nil
}

// Ready is closed when hand-offs reach the gateway; never, if Run ends with an error before.
func (g *Gateway) Ready() <-chan struct{} { return g.ready }

// enter moves to a later phase; false if it was reached before.
func (g *Gateway) enter(phase int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mu.state >= phase {
		return false
	}
	g.mu.state = phase
	return true
}

// loop owns the state until end is closed or until says so after an event.
func (g *Gateway) loop(end <-chan struct{}, until func() bool) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for goOn := true; goOn && (until == nil || !until()); {
		goOn = g.turn(timer, end)
		g.reports.publish(g)
	}
}

// turn does what is next; false if end is closed.
func (g *Gateway) turn(timer *time.Timer, end <-chan struct{}) bool {
	if g.state.Pending() {
		g.takeSome()
		g.step(gateway.Pump{})
		if g.now() >= g.state.Next() {
			g.tick()
		}
		select {
		case <-end:
			return false
		default:
			return true
		}
	}
	timer.Reset(max(0, g.state.Next()-g.now()))
	select {
	case fn := <-g.inbox:
		fn()
		g.takeSome()
	case <-timer.C:
		g.tick()
	case <-end:
		return false
	}
	return true
}

// takeSome runs what has arrived, so that it goes before the next piece, and what it reports
// together; no more than would hold these up for long.
func (g *Gateway) takeSome() {
	for range 64 {
		select {
		case fn := <-g.inbox:
			fn()
		default:
			return
		}
	}
}

func (g *Gateway) now() time.Duration { return time.Since(g.started) }

// post gives the owner of the state something to do; it waits while there is much,
// and drops it after the end.
func (g *Gateway) post(fn func()) {
	select {
	case g.inbox <- fn:
	case <-g.done:
	}
}

func (g *Gateway) tick() {
	g.step(gateway.Tick{})
	g.publishStats()
}

// step feeds the core and carries out what it says, and then what comes of that.
func (g *Gateway) step(ev gateway.Event) {
	for _, e := range g.state.Step(g.now(), ev) {
		g.carryOut(e)
	}
	for len(g.follow) > 0 {
		next := g.follow[0]
		g.follow = g.follow[1:]
		for _, e := range g.state.Step(g.now(), next) {
			g.carryOut(e)
		}
	}
	g.follow = nil
	for _, c := range g.queued {
		c.flush()
	}
	clear(g.queued)
	g.queued = g.queued[:0]
}

// queue queues a frame that leaves at the end of the step, with what else the step has for
// the same connection.
func (g *Gateway) queue(c *conn, q queued) {
	if c.enqueue(q) {
		g.queued = append(g.queued, c)
	}
}

// stop ends all connections and says goodbye.
func (g *Gateway) stop(subs []bus.Subscription) {
	g.loop(nil, func() bool { return !g.state.Pending() }) // what was accepted leaves
	var closing sync.WaitGroup
	for _, c := range g.sockets() {
		closing.Go(func() { c.close(codeGoingAway, "the gateway is stopping") })
	}
	deadline := time.AfterFunc(g.cfg.StopWait, func() {
		for _, c := range g.sockets() {
			c.cut()
		}
	})
	g.loop(nil, func() bool { return len(g.sockets()) == 0 })
	deadline.Stop()
	patience := make(chan struct{})
	goodbye := time.AfterFunc(time.Second, func() { close(patience) })
	g.loop(patience, g.state.Quiet)
	goodbye.Stop()
	for _, s := range subs {
		if err := s.Unsubscribe(); err != nil {
			g.cfg.Log.Warn("ending a subscription of the gateway", "err", err)
		}
	}
	closing.Wait()
	g.publishStats()
}

func (g *Gateway) sockets() []*conn {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := make([]*conn, 0, len(g.mu.sockets))
	for c := range g.mu.sockets {
		all = append(all, c)
	}
	return all
}

// subscribe takes hand-offs, fences, and words of owners and homes.
func (g *Gateway) subscribe() ([]bus.Subscription, error) {
	name := g.cfg.Core.Incarnation.Gateway
	var subs []bus.Subscription
	for _, x := range []struct {
		subject string
		fn      func(bus.Msg)
	}{
		{handoff.HandoffTo(name), g.onHandoff},
		{handoff.FenceTo(name), g.onFence},
		{handoff.RecordedTo(name), g.onRecorded},
		{handoff.SettleTo(name), g.onSettle},
		{handoff.AnewTo(name), g.onAnew},
		{handoff.RedirectTo(name), g.onRedirect},
	} {
		s, err := g.cfg.Bus.Subscribe(x.subject, x.fn)
		if err != nil {
			for _, s := range subs {
				err = errors.Join(err, s.Unsubscribe())
			}
			return nil, fmt.Errorf("starting gateway %s: %w", g.cfg.Core.Incarnation, err)
		}
		subs = append(subs, s)
	}
	return subs, nil
}

// askAll registers one who waits for so many answers, which go back together when the last is
// there, in the order of the tokens.
func (g *Gateway) askAll(m bus.Msg, n int) []gateway.Token {
	tokens, answers, left := make([]gateway.Token, n), make([][]byte, n), n
	for i := range tokens {
		g.tokens++
		tokens[i] = g.tokens
		g.replies[g.tokens] = func(data []byte) error {
			answers[i], left = data, left-1
			if left > 0 {
				return nil
			}
			return m.Respond(bytes.Join(answers, nil))
		}
	}
	return tokens
}

func (g *Gateway) onHandoff(m bus.Msg) {
	all, err := handoff.ParseHandoffs(m.Data)
	if err != nil {
		g.malformed(m, err)
		return
	}
	for _, h := range all {
		if h.Message != nil {
			h.Message.Body = bytes.Clone(h.Message.Body) // it is kept, the rest of the data is not
		}
	}
	g.post(func() {
		if g.stopped() || !g.cfg.May() {
			return // no answer: it is asked again, and answered by the next incarnation
		}
		tokens := g.askAll(m, len(all))
		for i, h := range all {
			g.step(gateway.HandedOff{Request: h, Token: tokens[i]})
			h.Targets.Release()
		}
	})
}

func (g *Gateway) onFence(m bus.Msg) {
	f, err := handoff.ParseFence(m.Data)
	if err != nil {
		g.malformed(m, err)
		return
	}
	g.post(func() { g.step(gateway.Fenced{Request: *f, Token: g.askAll(m, 1)[0]}) })
}

func (g *Gateway) onRecorded(m bus.Msg) {
	all, err := handoff.ParseRecorded(m.Data)
	if err != nil {
		g.malformed(m, err)
		return
	}
	g.post(func() {
		for _, r := range all {
			g.step(gateway.Recorded{Recorded: *r})
		}
	})
}

func (g *Gateway) onSettle(m bus.Msg) {
	s, err := handoff.ParseSettle(m.Data)
	if err != nil {
		g.malformed(m, err)
		return
	}
	g.post(func() { g.step(gateway.Settled{Settle: *s}) })
}

func (g *Gateway) onAnew(m bus.Msg) {
	a, err := handoff.ParseAnew(m.Data)
	if err != nil {
		g.malformed(m, err)
		return
	}
	if a.Inc == g.cfg.Core.Incarnation {
		g.post(func() { g.step(gateway.Anew{Ranges: a.Ranges}) })
	}
}

func (g *Gateway) onRedirect(m bus.Msg) {
	r, err := handoff.ParseRedirect(m.Data)
	if err != nil {
		g.malformed(m, err)
		return
	}
	if r.Inc != g.cfg.Core.Incarnation {
		return
	}
	ev := gateway.Redirected{To: r.To}
	for id := range r.Who.All() {
		ev.Who = append(ev.Who, job.Recipient(id))
	}
	g.post(func() { g.step(ev) })
}

// malformed drops a message that no version of ours has sent.
func (g *Gateway) malformed(m bus.Msg, err error) {
	g.counters.malformedMessages.Add(1)
	g.cfg.Log.Warn("dropping a message to the gateway", "subject", m.Subject, "err", err)
}

func (g *Gateway) stopped() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.mu.state == stopping
}

// greeting says to a client that from now on it is connected.
func (g *Gateway) greeting(c *conn) helloFrame {
	return helloFrame{Type: typeHello, Gateway: g.cfg.Core.Incarnation.String(), Recipient: c.who, Window: g.state.Window(), Ack: c.ack, ServerTime: serverTime()}
}
