package worker

import (
	"slices"
	"sync/atomic"
	"time"

	"crier/job"
	"crier/presence/gateway"
)

// device is one of a recipient's devices, with a pipe to a gateway or none. Only the
// storm's own goroutine uses it.
type device struct {
	n      uint64
	who    job.Recipient
	speaks bool
	deaf   bool            // acknowledges nothing
	have   map[job.ID]bool // what a speaking device keeps until it is settled
	shown  map[job.ID]int
	pipe   *pipe
	next   string // URL to which it was redirected
}

// pipe is a connection, and what was written to it and not read. Its gateway's mutex
// guards it.
type pipe struct {
	n      gateway.Conn
	at     *place
	frames []frame
	left   bool // the device has gone
	over   bool // the gateway knows that it has ended, or is dead
	moved  string
}

// frame is a message or, if settled, the word that it may be forgotten.
type frame struct {
	id      job.ID
	settled bool
}

// place is a gateway to which devices connect by pipes.
type place struct {
	*host
	c       *chance
	pipes   map[gateway.Conn]*pipe
	history gateway.History
	first   uint32 // start of its file
	licence func() // ends the asking for it
	down    atomic.Bool
}

// take carries out what a gateway does to devices and to its files.
func (g *place) take(e gateway.Effect) bool {
	switch e := e.(type) {
	case gateway.Deliver:
		for _, n := range e.Conns {
			if p := g.pipes[n]; p != nil {
				p.frames = append(p.frames, frame{id: e.Job})
			}
		}
	case gateway.SendSettled:
		if p := g.pipes[e.Conn]; p != nil {
			for _, id := range e.IDs {
				p.frames = append(p.frames, frame{id, true})
			}
		}
	case gateway.Close:
		if p := g.pipes[e.Conn]; p != nil {
			p.moved = e.To
			p.endWithin(2 * time.Second)
		}
	case gateway.Mark:
		if r := g.records[e.Ref]; r != nil {
			r.Acked.Set(int(e.Rank))
		}
	case gateway.Free:
		if e.Start == g.inc.Start {
			delete(g.records, e.Ref)
			break
		}
		for i, x := range g.history.Ended {
			if x.Start == e.Start {
				g.history.Ended[i].Records = slices.DeleteFunc(slices.Clone(x.Records), func(r gateway.Record) bool { return r.Ref == e.Ref })
			}
		}
	default:
		return false
	}
	return true
}

// endWithin lets the gateway notice some time later that a connection has ended. It
// may know then that what the device has not read was never written.
func (p *pipe) endWithin(d time.Duration) {
	g := p.at
	time.AfterFunc(g.c.upTo(d)+time.Millisecond, func() {
		var unwritten []job.ID
		g.mu.Lock()
		first := !p.over
		p.over = true
		if first && g.c.of(0.3) {
			for _, f := range p.frames {
				if !f.settled {
					unwritten = append(unwritten, f.id)
				}
			}
			p.frames = nil
		}
		delete(g.pipes, p.n)
		g.mu.Unlock()
		if first {
			g.post(gateway.Disconnected{Conn: p.n, Unwritten: unwritten})
		}
	})
}

func (d *device) connect(g *place) {
	if g.down.Load() {
		return
	}
	ev := gateway.Connected{Recipient: d.who, Client: d.n, Speaks: d.speaks}
	for id := range d.have {
		ev.Have = append(ev.Have, id)
	}
	g.mu.Lock()
	g.next++
	ev.Conn = g.next
	d.pipe = &pipe{n: g.next, at: g}
	g.pipes[g.next] = d.pipe
	g.mu.Unlock()
	g.post(ev)
}

// leave drops the connection.
func (d *device) leave() {
	p := d.pipe
	d.pipe = nil
	p.at.with(func() { p.left = true })
	p.endWithin(20 * time.Second)
}

// read shows what has arrived, and acknowledges it a little later.
func (d *device) read(most int) {
	p := d.pipe
	var read []frame
	var over bool
	p.at.with(func() {
		n := min(most, len(p.frames))
		read, p.frames, over = p.frames[:n:n], p.frames[n:], p.over
		d.next = p.moved
	})
	var acks []job.ID
	for _, f := range read {
		if f.settled {
			delete(d.have, f.id)
			continue
		}
		if !d.have[f.id] {
			d.shown[f.id]++
		}
		if d.speaks {
			d.have[f.id] = true
		}
		acks = append(acks, f.id)
	}
	if over {
		d.pipe = nil
	} else if len(acks) > 0 && !d.deaf {
		time.AfterFunc(p.at.c.upTo(300*time.Millisecond), func() { p.ack(acks) })
	}
}

func (p *pipe) ack(ids []job.ID) {
	var open bool
	p.at.with(func() { open = !p.over && !p.left })
	if open {
		p.at.post(gateway.Acked{Conn: p.n, IDs: ids})
	}
}

// kill ends the gateway as a crash would, or a power cut, after which what it has
// noted counts for nothing; it comes back later. Or its machine is lost, and there is
// another one of its name much later, which knows nothing.
func (g *place) kill(lost bool) {
	if g.down.Swap(true) {
		return
	}
	g.licence()
	e := g.end()
	g.with(func() {
		for _, p := range g.pipes {
			p.over = true
		}
		clear(g.pipes)
	})
	g.cut.Store(false)
	if lost {
		g.history, g.first = gateway.History{}, e.Start+1
	} else if g.c.of(0.4) {
		e.Unreadable, e.Records = true, nil
	}
	if !lost && (len(e.Records) > 0 || e.Unreadable) {
		g.history.Ended = append(g.history.Ended, e)
	}
	down := g.c.upTo(3 * time.Second)
	if lost || g.c.of(0.2) {
		down = g.c.upTo(45 * time.Second)
	}
	time.AfterFunc(down, func() { g.begin(e.Start + 1) })
}

func (g *place) begin(start uint32) {
	g.start(start, gateway.History{First: max(1, g.first), Ended: slices.Clone(g.history.Ended)})
	g.licence = g.licensed(g.w.log, func() { time.AfterFunc(time.Millisecond, func() { g.kill(false) }) })
	g.down.Store(false)
}
