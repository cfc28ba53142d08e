package worker

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"crier/internal/bus"
	"crier/internal/pause"
	"crier/job"
	"crier/presence/gateway"
	"crier/presence/handoff"
	"crier/presence/lease"
	"crier/state/ledger"
)

// redirect passes a home's word on.
func (h *host) redirect(r *handoff.Redirect) {
	ev := gateway.Redirected{To: r.To}
	for id := range r.Who.All() {
		ev.Who = append(ev.Who, job.Recipient(id))
	}
	h.post(ev)
}

func (h *host) unlessCut(fn func(bus.Msg)) func(bus.Msg) {
	return func(m bus.Msg) {
		if !h.cut.Load() {
			fn(m)
		}
	}
}

// swallows reports whether what a gateway says gets lost because it is cut off.
func (h *host) swallows(e gateway.Effect) bool {
	if !h.cut.Load() {
		return false
	}
	switch e := e.(type) {
	case gateway.Reply:
		delete(h.tokens, e.Token)
		return true
	case gateway.Publish, gateway.Announce, gateway.Beat:
		return true
	}
	return false
}

// second adds a gateway to a world.
func (w *world) second(name string) *host {
	h := &host{w: w, name: name, clients: map[job.Recipient]*client{}}
	h.start(1, gateway.History{})
	return h
}

// passes lets time pass.
func (w *world) passes(d time.Duration) {
	until := time.Now().Add(d)
	w.until("time passes", func() bool { return !time.Now().Before(until) })
}

// endGateway has somebody say in the ledger that an incarnation is over.
func (w *world) endGateway(inc job.Incarnation) {
	if err := w.worker.EndGateway(context.Background(), inc); err != nil {
		w.t.Fatal(err)
	}
}

// findSilent calls gateways over that were silent for long enough, as somebody does who
// watches their leases.
func (s *storm) findSilent() {
	now := time.Now()
	worker := s.worker
	if s.fleet != nil {
		worker = s.fleet.members[s.c.n(len(s.fleet.members))].worker
	}
	silent := worker.Silent()
	for inc := range s.silent {
		if s.fleet == nil && !slices.Contains(silent, inc) {
			delete(s.silent, inc)
		}
	}
	for _, inc := range silent {
		since, ok := s.silent[inc]
		if !ok {
			s.silent[inc] = now
		} else if now.Sub(since) >= lease.TTL {
			delete(s.silent, inc)
			s.ended++
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), 4*time.Second)
				defer cancel()
				_ = worker.EndGateway(ctx, inc) // if it did not work, it is silent still
			}()
		}
	}
}

// cutOff leaves a gateway alone with its devices for some time.
func (s *storm) cutOff(g *place) {
	g.cut.Store(true)
	time.AfterFunc(s.c.upTo(45*time.Second), func() { g.cut.Store(false) })
}

// comeAgain connects a device that was redirected.
func (s *storm) comeAgain(d *device) {
	for _, g := range s.gws {
		if d.next == "ws://"+g.name {
			s.moved++
			d.connect(g)
		}
	}
	d.next = ""
}

// A recipient has a device at each of two gateways. When those at the place of it leave,
// or their gateway falls silent, it is at the other one, and what is sent gets there.
func TestDevicesAtTwoGateways(t *testing.T) {
	inWorld(t, 31, func(w *world) {
		pkg := people{7: true, 8: true}
		w.content.followers = pkg
		g2 := w.second("g2")
		defer g2.end()
		at := func(inc job.Incarnation, who ...job.Recipient) func() bool {
			return func() bool {
				for _, id := range who {
					if got, _ := w.planes.Lookup(id); got != inc {
						return false
					}
				}
				return true
			}
		}
		w.gw.connect(true, 7, 8)
		w.until("they are at the first", at(w.gw.inc, 7, 8))
		g2.connect(true, 7, 8)
		w.until("they are at the second", at(g2.inc, 7, 8))
		g2.with(func() { g2.disconnect(g2.clients[7]) })
		w.until("who left the second is at the first", at(w.gw.inc, 7))
		first := w.submit(pkg, nil)
		w.send(first)
		w.until("both are delivered", func() bool { return w.counts(first).Delivered == 2 })
		if n, m := w.gw.shown(first)[7], g2.shown(first)[8]; n != 1 || m != 1 {
			t.Fatalf("shown %v and %v", w.gw.shown(first), g2.shown(first))
		}
		g2.cut.Store(true)
		w.until("the silent one's are at the first", at(w.gw.inc, 7, 8))
		second := w.submit(pkg, nil)
		w.send(second)
		w.until("both are delivered", func() bool { return w.counts(second).Delivered == 2 })
		w.checkShown(second, pkg)
		w.reconcile(second)
	})
}

// Sockets that are no longer at their recipient's place are redirected, and once only.
func TestSocketsFollowTheirRecipient(t *testing.T) {
	inWorld(t, 32, func(w *world) {
		g2 := w.second("g2")
		defer g2.end()
		var moved []string
		w.gw.sink = func(e gateway.Effect) bool {
			if c, ok := e.(gateway.Close); ok && c.Why == gateway.Moved {
				moved = append(moved, c.To)
			}
			return false
		}
		w.gw.connect(true, 7)
		w.gw.connect(false, 8) // does not speak the protocol
		w.until("they are online", func() bool { return w.planes.Count() == 2 })
		w.passes(11 * time.Second)
		g2.connect(true, 7)
		g2.connect(false, 8)
		w.until("one is redirected", func() bool {
			n := 0
			w.gw.with(func() { n = len(moved) })
			return n == 1
		})
		w.passes(20 * time.Second)
		w.gw.with(func() {
			if len(moved) != 1 || moved[0] != "ws://g2" || w.gw.clients[7].conn != 0 || w.gw.clients[8].conn == 0 {
				t.Errorf("redirected %v; connected %d, %d", moved, w.gw.clients[7].conn, w.gw.clients[8].conn)
			}
		})
		if got, _ := w.planes.Lookup(7); got != g2.inc {
			t.Errorf("it is at %s", got)
		}
	})
}

// A machine is lost for good with what it had taken, and nobody ever answers for it.
// Those who come elsewhere get what they lack, once, when it is over.
func TestAMachineThatIsLost(t *testing.T) {
	inWorld(t, 33, func(w *world) {
		pkg := people{7: true, 8: true, 9: true}
		w.content.followers = pkg
		g2 := w.second("g2")
		lost := g2.inc
		g2.connect(true, 7, 8, 9)
		w.until("they are online", func() bool { return w.planes.Count() == 3 })
		g2.with(func() {
			for _, c := range g2.clients {
				c.deaf = true
			}
		})
		id := w.submit(pkg, nil)
		w.send(id)
		g2.end()
		g2.with(func() { // 7 never got it; 8 has it
			c := g2.clients[7]
			delete(c.have, id)
			delete(c.shown, id)
			for _, who := range []job.Recipient{7, 8} {
				w.gw.clients[who] = g2.clients[who]
				w.gw.clients[who].deaf = false
				delete(g2.clients, who)
			}
		})
		w.gw.connect(true, 7, 8)
		w.until("the worker finds it silent", func() bool { return len(w.worker.Silent()) == 1 && w.worker.Silent()[0] == lost })
		w.passes(lease.TTL)
		if c := w.counts(id); c.HandedOff != 3 {
			t.Fatalf("before it is over: %+v", c)
		}
		w.endGateway(lost)
		w.endGateway(lost)
		said := time.Now()
		w.until("both who are elsewhere have it", func() bool { return w.counts(id).Delivered == 2 })
		if took := time.Since(said); took < lease.Grace || took > lease.Grace+5*time.Second {
			t.Errorf("it took %v", took)
		}
		w.checkShown(id, people{7: true, 8: true})
		if c := w.counts(id); c.InDoubt != 1 {
			t.Fatalf("who is nowhere: %+v", c)
		}
		w.restart()
		w.gw.with(func() {
			w.gw.clients[9] = g2.clients[9]
			w.gw.clients[9].deaf = false
			delete(g2.clients, 9)
		})
		w.gw.connect(true, 9)
		w.until("the last one has it", func() bool { return w.counts(id).Delivered == 3 })
		w.checkShown(id, pkg)
		w.reconcile(id)
		w.sameWhenRebuilt()
		w.until("all may forget it", func() bool { return w.gw.remembered() == 0 })
	})
}

// A client acknowledged at a gateway that was killed before its owner heard of it, and is at
// another one when that is known: it must be told there that it may forget the message, or
// it would have no room for others as long as it is connected.
func TestWhoHasItElsewhereMayForgetIt(t *testing.T) {
	inWorld(t, 35, func(w *world) {
		pkg := people{7: true}
		w.content.followers = pkg
		g2 := &host{w: w, name: "g2", clients: map[job.Recipient]*client{}, window: 1}
		g2.start(1, gateway.History{})
		defer g2.end()
		w.gw.connect(true, 7)
		w.until("it is online", func() bool { return w.planes.Count() == 1 })
		c := w.gw.clients[7]
		w.gw.with(func() { c.deaf = true })
		id := w.submit(pkg, nil)
		w.send(id)
		w.until("it is shown", func() bool { return w.gw.shown(id)[7] == 1 })
		w.gw.lets(true, false)
		w.gw.post(gateway.Acked{Conn: c.conn, IDs: []job.ID{id}})
		left := w.gw.end()
		g2.clients[7] = c
		g2.connect(true, 7)
		w.passes(2 * time.Second)
		w.gw.start(2, gateway.History{First: 1, Ended: []gateway.Ended{left}})
		w.gw.lets(true, true)
		w.until("it is delivered", func() bool { return w.counts(id).Delivered == 1 })
		g2.with(func() { c.deaf = false })
		next := w.submit(pkg, nil)
		w.send(next)
		w.until("the next one is delivered", func() bool { return w.counts(next).Delivered == 1 })
		w.until("it may forget both", func() bool { return g2.remembered() == 0 })
		w.gw.clients[7] = c
		w.checkShown(id, pkg)
		w.checkShown(next, pkg)
	})
}

// A gateway is cut off from everybody but its devices. It is called over; a device goes
// elsewhere, gets the message there, may forget it, and comes back: a copy of the hand-off
// that reaches the gateway then must not be taken, and what it reports is not believed.
func TestAGatewayThatIsOverAndLives(t *testing.T) {
	inWorld(t, 34, func(w *world) {
		pkg := people{7: true, 8: true}
		w.content.followers = pkg
		g2 := w.second("g2")
		defer g2.end()
		defer g2.licensed(w.log, func() {})()
		w.until("it may take hand-offs", g2.mayTake)
		g2.connect(true, 7, 8)
		w.until("they are online", func() bool { return w.planes.Count() == 2 })
		var mu sync.Mutex
		var heard []bus.Msg
		copied := func() []bus.Msg {
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(heard)
		}
		sub, err := w.bus.Subscribe(handoff.HandoffTo("g2"), func(m bus.Msg) {
			mu.Lock()
			defer mu.Unlock()
			heard = append(heard, m)
		})
		if err != nil {
			t.Fatal(err)
		}
		defer sub.Unsubscribe()
		stays := g2.clients[8]
		g2.with(func() { stays.deaf = true })
		early := w.submit(people{8: true}, nil)
		w.send(early)
		w.until("it is shown", func() bool { return g2.shown(early)[8] == 1 })
		g2.cut.Store(true)
		g2.post(gateway.Acked{Conn: stays.conn, IDs: []job.ID{early}}) // no report of it arrives
		late := w.submit(people{7: true}, nil)
		w.send(late)
		w.until("it is asked", func() bool { return len(copied()) > 1 })
		w.until("it is silent", func() bool { return len(w.worker.Silent()) == 1 })
		w.endGateway(g2.inc)
		goes := g2.clients[7]
		g2.with(func() { g2.disconnect(goes) })
		w.gw.clients[7] = goes
		w.gw.connect(true, 7)
		w.until("it gets it elsewhere", func() bool { return w.counts(late).Delivered == 1 })
		w.until("it may forget it", func() bool { return w.gw.remembered() == 0 })
		w.gw.with(func() { w.gw.disconnect(goes) })
		delete(w.gw.clients, 7)
		g2.clients[7] = goes
		g2.connect(true, 7)
		g2.cut.Store(false)
		for _, m := range copied() {
			all, err := handoff.ParseHandoffs(m.Data)
			if err != nil {
				t.Fatal(err)
			}
			for _, h := range all {
				h.Message = &handoff.Message{Body: []byte("late")}
				w.bus.Publish(m.Subject, h.Bytes())
			}
		}
		w.passes(5 * time.Second) // it reports, again and again
		g2.with(func() {
			if goes.shown[late] != 1 || !stays.have[early] {
				t.Errorf("shown %d times; the other remembers what it acknowledged: %v", goes.shown[late], stays.have[early])
			}
			g2.disconnect(stays)
			stays.deaf = false
		})
		w.gw.clients[8] = stays
		w.gw.connect(true, 8)
		w.until("it has it, as it says", func() bool { return w.counts(early).Delivered == 1 })
		w.until("it may forget it", func() bool { return w.gw.remembered() == 0 })
		if n := w.gw.shown(early)[8]; n != 1 {
			t.Errorf("shown %d times", n)
		}
		w.reconcile(early)
		w.reconcile(late)
	})
}

// licensed lets a gateway take hand-offs only as long as the ledger does not call it
// over, as it knows; that is told, once. What it gives ends the asking.
func (h *host) licensed(log ledger.Log, over func()) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	var l lease.Licence
	began, inc := time.Now(), h.inc
	may := func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return l.May(time.Since(began))
	}
	h.may.Store(&may)
	go func() {
		defer close(done)
		for ok := true; ok; ok = pause.For(ctx, lease.Ask) {
			sent := time.Since(began)
			c, err := ledger.LastClaim(context.Background(), log, ledger.GatewayThing(inc))
			if err != nil || h.cut.Load() {
				continue
			}
			if c.Epoch > 0 {
				over()
				return
			}
			h.with(func() { l.Confirmed(sent) })
		}
	}()
	return func() { cancel(); <-done }
}
