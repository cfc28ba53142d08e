package sim

import (
	"cmp"
	"slices"
	"time"

	"crier/job"
	"crier/presence/gateway"
)

// device is one of a recipient's devices.
type device struct {
	w      *World
	n      int
	client uint64
	who    uint32
	speaks bool
	deaf   bool             // acknowledges nothing
	have   map[jobID]int    // what a speaking device keeps until it is settled; the order they came in
	shown  map[jobID]int    // by this installation
	acked  map[jobID]bool   // by any installation
	ever   map[jobID]bool   // shown by any installation
	at     map[jobID]string // where it was shown first
	pipe   *pipe            // as the device sees it
	came   int
	still  time.Duration // connected, undisturbed, since
}

type frame struct {
	id      jobID
	settled bool
}

// pipe is a connection. Its two ends learn of its end at different times.
type pipe struct {
	w       *World
	g       *gatewayHost
	gen     uint64
	d       *device
	num     gateway.Conn
	queue   []frame // in the gateway, no byte written
	cut     bool    // what is written goes nowhere
	over    bool    // the gateway knows that it has ended
	stalled bool    // the device reads nothing
	last    time.Duration
}

// connect opens a connection and says hello.
func (d *device) connect(g *gatewayHost) {
	w := d.w
	if !g.p.up || g.p.paused {
		return
	}
	p := &pipe{w: w, g: g, gen: g.p.gen, d: d}
	d.pipe, d.still = p, w.now
	ev := gateway.Connected{Recipient: job.Recipient(d.who), Client: d.client, Speaks: d.speaks, Have: d.haves()}
	w.trace("device %d of %d connects to %s", d.n, d.who, g.inc)
	w.at(w.flight(), func() {
		w.do(event{p: g.p, gen: p.gen, fn: func() {
			g.next++
			p.num, ev.Conn = g.next, g.next
			g.conns[p.num] = p
			g.step(ev)
			if p.cut { // it had gone again
				p.endSoon(5 * time.Second)
			}
		}})
	})
}

func (d *device) haves() []jobID {
	var ids []jobID
	for id := range d.have {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b jobID) int { return cmp.Or(cmp.Compare(d.have[a], d.have[b]), slices.Compare(a[:], b[:])) })
	return ids
}

// leave drops the connection; the gateway learns it later.
func (d *device) leave(within time.Duration) {
	p := d.pipe
	if p == nil {
		return
	}
	d.pipe = nil
	p.cut = true
	p.endSoon(within)
}

// endSoon lets the gateway notice the end.
func (p *pipe) endSoon(within time.Duration) {
	w := p.w
	w.at(w.upTo(within)+time.Millisecond, func() {
		w.do(event{p: p.g.p, gen: p.gen, fn: p.end})
	})
}

// end tells the gateway: what is in its queue was never written.
func (p *pipe) end() {
	if p.over || p.num == 0 {
		return
	}
	p.over = true
	delete(p.g.conns, p.num)
	ev := gateway.Disconnected{Conn: p.num}
	for _, f := range p.queue {
		if !f.settled {
			ev.Unwritten = append(ev.Unwritten, f.id)
		}
	}
	p.queue = nil
	p.g.step(ev)
}

// closeByGateway ends the connection from the gateway's side.
func (p *pipe) closeByGateway() {
	p.reset(p.w.flight())
	p.endSoon(500 * time.Millisecond)
}

// reset lets the device notice, some time later, that the connection has ended; what is
// on the wire until then arrives.
func (p *pipe) reset(within time.Duration) {
	p.w.at(within, func() {
		p.cut = true
		if p.d.pipe == p {
			p.d.pipe = nil
		}
	})
}

// write queues a frame at the gateway; it leaves unless the socket is full.
func (p *pipe) write(f frame) {
	p.queue = append(p.queue, f)
	if !p.stalled {
		p.w.timer(p.g.p, p.w.upTo(2*time.Millisecond), p.flush)
	}
}

// flush writes what is queued to the socket. A copy of every frame is on its way then:
// it arrives if the device is still there.
func (p *pipe) flush() {
	if p.stalled || p.over {
		return
	}
	w := p.w
	for _, f := range p.queue {
		p.last = max(p.last, w.now+w.flight())
		w.push(event{at: p.last, fn: func() {
			if !p.cut && p.d.pipe == p {
				p.d.take(p, f)
			}
		}})
	}
	p.queue = nil
}

// take is the client: it shows what it does not have, keeps it until it is settled, and
// acknowledges (rule 14).
func (d *device) take(p *pipe, f frame) {
	w := d.w
	if f.settled {
		delete(d.have, f.id)
		return
	}
	if _, has := d.have[f.id]; !has {
		d.show(f.id, p)
	}
	if d.speaks {
		d.came++
		d.have[f.id] = d.came
		if w.rules.FixedWindow && len(d.have) > 2 {
			delete(d.have, d.haves()[0])
		}
	}
	if d.deaf {
		return
	}
	w.at(w.upTo(300*time.Millisecond), func() {
		if p.cut || d.pipe != p {
			return
		}
		d.acked[f.id] = true
		w.push(event{at: w.now + w.flight(), fn: func() {
			w.do(event{p: p.g.p, gen: p.gen, fn: func() {
				if !p.over {
					p.g.step(gateway.Acked{Conn: p.num, IDs: []jobID{f.id}})
				}
			}})
		}})
	})
}

// show is what counts: what the recipient saw.
func (d *device) show(id jobID, p *pipe) {
	w := d.w
	d.shown[id]++
	d.ever[id] = true
	w.counts.Shown++
	j := w.byID[id]
	where := p.g.inc.String()
	w.trace("device %d of %d shows job %d from %s", d.n, d.who, j.n, where)
	if d.shown[id] > 1 && (d.speaks || j.spec.OnUnknown == job.Hold && !w.resent[id]) {
		w.fail("I3", "device %d of %d shows job %d %d times (it speaks: %v): at %s, then at %s", d.n, d.who, j.n, d.shown[id], d.speaks, d.at[id], where)
	}
	d.at[id] = where
	w.judgeShown(j, d)
}

// reinstall forgets everything: it is another client.
func (d *device) reinstall() {
	d.w.devicesMade++
	d.client = uint64(d.w.devicesMade)
	clear(d.have)
	clear(d.shown)
}
