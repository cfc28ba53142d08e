package sim

import (
	"time"

	"crier/job"
	"crier/scheduler/apta"
	"crier/worker/tenure"
)

// weather is how often what goes wrong.
type weather struct {
	loss, copies, slow, lag float64
	restart                 time.Duration
	strike                  float64 // of the strikes below, as a factor
	kinds                   [strikes]bool
}

const (
	strikeKillWorker = iota
	strikeKillGateway
	strikeCut
	strikePause
	strikeClock
	strikeCoord
	strikeLedger
	strikeMistake
	strikeSilence
	strikePurge
	strikes
)

func (w *World) forecast() weather {
	pick := func(of ...float64) float64 { return of[w.n(len(of))] }
	f := weather{loss: pick(0, 0.01, 0.05), copies: pick(0, 0.02, 0.1), slow: pick(0, 0.002, 0.02), lag: pick(0, 0.02, 0.2),
		restart: time.Duration(pick(0.5, 2, 8) * float64(time.Second)), strike: pick(0.3, 1, 2)}
	for k := range f.kinds {
		f.kinds[k] = w.of(0.6)
	}
	return f
}

const stormStep = 50 * time.Millisecond

// rage is the storm.
func (w *World) rage() {
	lasts := 20*time.Second + w.upTo(30*time.Second)
	if w.opts.Storm > 0 {
		lasts = w.opts.Storm
	}
	end := w.now + lasts
	w.healed = end
	want := 2 + w.n(4)
	w.at(2*time.Second+w.upTo(time.Second), w.submit)
	for range want - 1 {
		w.at(2*time.Second+w.upTo(lasts-2*time.Second), w.submit)
	}
	var step func()
	step = func() {
		if w.now >= end {
			return
		}
		w.at(stormStep, step)
		for _, d := range w.devices {
			d.live()
		}
		w.strike()
		w.operate()
		w.check()
	}
	w.at(0, step)
	w.run(end)
}

// live lets a device come and go, and read or not.
func (d *device) live() {
	w := d.w
	switch {
	case d.pipe == nil:
		if w.of(0.025) {
			d.connect(w.gateways[w.n(len(w.gateways))])
		}
	case w.of(0.005):
		d.leave([]time.Duration{50 * time.Millisecond, 2 * time.Second, 20 * time.Second}[w.n(3)])
		if w.of(0.5) { // it moves
			d.connect(w.gateways[w.n(len(w.gateways))])
		}
	case w.of(0.003):
		p := d.pipe
		if p.stalled = !p.stalled; !p.stalled {
			w.do(event{p: p.g.p, gen: p.gen, fn: p.flush})
		}
	}
	if w.of(0.002) {
		d.deaf = !d.deaf
	}
	if d.pipe == nil && w.of(0.001) {
		d.reinstall()
	}
}

// strike breaks something.
func (w *World) strike() {
	f := w.weather
	hit := func(kind int, p float64) bool { return f.kinds[kind] && w.of(p*f.strike) }
	if hit(strikeKillWorker, 0.004) {
		w.killWorker(w.workers[w.n(len(w.workers))])
	}
	if hit(strikeKillGateway, 0.004) {
		g := w.gateways[w.n(len(w.gateways))]
		if g.p.up {
			w.counts.Kills++
			g.kill(w.of(0.3))
			down := w.upTo(3 * time.Second)
			if w.of(0.2) {
				down = w.upTo(45 * time.Second)
			}
			w.at(down, func() { g.bootIfDown() })
		}
	}
	if hit(strikeCut, 0.006) {
		w.cut()
	}
	if hit(strikePause, 0.006) {
		p := w.procs[2+w.n(len(w.procs)-2)]
		w.counts.Pauses++
		w.pause(p, []time.Duration{w.upTo(time.Second), w.upTo(12 * time.Second), w.upTo(40 * time.Second)}[w.n(3)])
	}
	if hit(strikeClock, 0.004) {
		p := w.procs[2+w.n(len(w.procs)-2)]
		p.skew, p.well = w.upTo(10*time.Minute)-5*time.Minute, w.now
		w.trace("the clock of %s is off by %s", p.name, p.skew)
	}
	if hit(strikeCoord, 0.001) {
		w.pause(w.coordHost, w.upTo(15*time.Second))
	}
	if hit(strikeLedger, 0.001) {
		w.pause(w.ledgerHost, w.upTo(8*time.Second))
	}
	if hit(strikeMistake, 0.002) {
		w.mistake()
	}
	if hit(strikeSilence, 0.001) {
		x := w.workers[w.n(len(w.workers))]
		x.silence(true)
		w.at(w.upTo(15*time.Second), func() { x.silence(false) })
	}
	if hit(strikePurge, 0.002) {
		w.purge()
	}
}

func (g *gatewayHost) bootIfDown() {
	if !g.p.up {
		g.boot()
	}
}

// killWorker ends a worker; with its machine, the index loses what was not synced.
func (w *World) killWorker(x *worker) {
	if !x.p.up {
		return
	}
	w.counts.Kills++
	w.kill(x.p)
	if w.of(0.3) && len(x.disk.log) > 0 {
		x.boot_++
		keep := len(x.disk.log) - w.n(min(len(x.disk.log), 40)+1)
		w.trace("the machine of %s stops: %d of %d rows are left", x.name, keep, len(x.disk.log))
		x.disk = x.disk.after(keep)
	}
	w.at(w.upTo(w.weather.restart), x.bootIfDown)
}

// cut parts two processes, in one direction or both.
func (w *World) cut() {
	a, b := w.procs[w.n(len(w.procs))], w.procs[w.n(len(w.procs))]
	if a == b {
		return
	}
	w.counts.Cuts++
	both := w.of(0.5)
	d := []time.Duration{w.upTo(2 * time.Second), w.upTo(20 * time.Second)}[w.n(2)]
	w.trace("%s does not reach %s for %s (both ways: %v)", a.name, b.name, d, both)
	set := func(on bool) {
		for _, k := range [][2]int{{a.n, b.n}, {b.n, a.n}} {
			if on {
				w.cuts[k] = true
			} else {
				delete(w.cuts, k)
			}
			if !both {
				break
			}
		}
		a.well, b.well = w.now, w.now
	}
	set(true)
	w.at(d, func() { set(false) })
}

// mistake makes a member believe that another is gone: views may be wrong.
func (w *World) mistake() {
	a, b := w.workers[w.n(len(w.workers))], w.workers[w.n(len(w.workers))]
	if a == b || a.run == nil || b.run == nil {
		return
	}
	w.trace("%s takes %s for gone", a.name, b.run.mine)
	a.run.members.wrong[b.run.mine] = w.now + 3*time.Second
}

func (x *worker) silence(on bool) {
	x.silent = on
	action := apta.Resume
	if on {
		action = apta.GoSilent
	}
	if s := x.run; s != nil && s.ready && x.p.up {
		x.w.do(event{p: x.p, gen: x.p.gen, fn: func() {
			if s.member != nil {
				s.member.tell(apta.Operate{Action: action})
			}
			s.doTenure(s.tenure.Step(s.now(), tenure.Silence{On: on}))
		}})
	}
}

// operate gives orders.
func (w *World) operate() {
	if len(w.jobs) == 0 {
		return
	}
	j := w.jobs[w.n(len(w.jobs))]
	switch {
	case w.of(0.002):
		paused := w.of(0.5)
		w.order(j, job.Control{Pause: &paused})
	case w.of(0.001):
		w.order(j, job.Control{Cancel: j.n%2 == 0, Recall: j.n%2 == 1})
	case w.of(0.001):
		rate := uint32(w.n(30))
		w.order(j, job.Control{Rate: &rate})
	case w.of(0.0005):
		d := []job.Decision{job.DecideResend, job.DecideDrop}[w.n(2)]
		w.resent[j.spec.ID] = w.resent[j.spec.ID] || d == job.DecideResend
		w.order(j, job.Control{Doubt: &d})
	}
}

// heal ends all faults and lets everything come to its end.
func (w *World) heal() {
	w.calm = true
	w.trace("everything heals")
	clear(w.cuts)
	for _, p := range w.procs {
		w.resume(p)
		p.skew, p.well = 0, w.now
	}
	for _, x := range w.workers {
		x.bootIfDown()
		x.silence(false)
		if x.run != nil {
			clear(x.run.members.wrong)
		}
	}
	for _, g := range w.gateways {
		g.bootIfDown()
	}
	for _, j := range w.jobs {
		resume := false
		rate := uint32(0)
		w.order(j, job.Control{Pause: &resume, Rate: &rate})
	}
	w.healed = w.now
	w.visit(110 * time.Second)
	if len(w.failures) == 0 { // what could not be forgotten at a hello is at the next one
		w.visit(30 * time.Second)
	}
}

// visit lets all devices come anew and stay, all of a recipient's at one gateway, until
// nothing is left to do.
func (w *World) visit(atMost time.Duration) {
	for _, d := range w.devices {
		d.deaf = false
		d.leave(2 * time.Second)
	}
	end := w.now + atMost
	first := w.now + 4*time.Second
	for w.now < end && w.broken == "" && len(w.failures) == 0 {
		w.run(w.now + 500*time.Millisecond)
		for _, d := range w.devices {
			if d.pipe == nil && w.of(0.5) {
				d.connect(w.gateways[int(d.who)%len(w.gateways)])
			}
		}
		w.check()
		if w.now > first && w.quiescent() == "" {
			return
		}
	}
}
