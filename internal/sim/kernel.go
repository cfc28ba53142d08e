package sim

import (
	"container/heap"
	"fmt"
	"hash/fnv"
	"io"
	"time"
)

// event is something that happens at a moment. It belongs to a start of a process, or to
// the world itself.
type event struct {
	at  time.Duration
	n   uint64
	p   *proc
	gen uint64
	fn  func()
}

type agenda []event

func (a agenda) Len() int { return len(a) }
func (a agenda) Less(i, j int) bool {
	return a[i].at < a[j].at || a[i].at == a[j].at && a[i].n < a[j].n
}
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }

// Push implements heap.Interface.
func (a *agenda) Push(x any) { *a = append(*a, x.(event)) }

// Pop implements heap.Interface.
func (a *agenda) Pop() any {
	last := len(*a) - 1
	x := (*a)[last]
	(*a)[last] = event{}
	*a = (*a)[:last]
	return x
}

// proc is a process: it is killed and started again, and paused, as by SIGSTOP, when its
// timers do not run and what comes for it waits.
type proc struct {
	name    string
	n       int // its place in the table of cuts
	up      bool
	gen     uint64 // of starts
	paused  bool
	backlog []event
	skew    time.Duration // of its wall clock
	well    time.Duration // since when nothing is wrong with it and its way to the stores
}

func (w *World) newProc(name string) *proc {
	p := &proc{name: name, n: len(w.procs)}
	w.procs = append(w.procs, p)
	return p
}

// at is the world's own doing.
func (w *World) at(after time.Duration, fn func()) { w.push(event{at: w.now + after, fn: fn}) }

// timer runs in a process; it dies with it and waits while it is paused.
func (w *World) timer(p *proc, after time.Duration, fn func()) {
	w.push(event{at: w.now + after, p: p, gen: p.gen, fn: fn})
}

func (w *World) push(e event) {
	w.events++
	e.n = w.events
	heap.Push(&w.agenda, e)
}

// every runs in a process again and again; the first time after a part of the period.
func (w *World) every(p *proc, period time.Duration, fn func()) {
	var again func()
	again = func() {
		w.timer(p, period, again)
		fn()
	}
	w.timer(p, w.upTo(period), again)
}

// run lets time pass until a moment.
func (w *World) run(until time.Duration) {
	for len(w.agenda) > 0 && w.agenda[0].at <= until && w.broken == "" {
		e := heap.Pop(&w.agenda).(event)
		w.now = e.at
		w.do(e)
	}
	w.now = max(w.now, until)
}

func (w *World) do(e event) {
	switch p := e.p; {
	case p == nil:
		e.fn()
	case !p.up || p.gen != e.gen:
	case p.paused:
		p.backlog = append(p.backlog, e)
	default:
		e.fn()
	}
}

func (w *World) start(p *proc) {
	p.up, p.gen, p.paused, p.backlog = true, p.gen+1, false, nil
	p.well = w.now
}

func (w *World) kill(p *proc) {
	p.up, p.backlog = false, nil
	w.trace("%s is killed", p.name)
}

func (w *World) pause(p *proc, d time.Duration) {
	if !p.up || p.paused {
		return
	}
	p.paused = true
	gen := p.gen
	w.trace("%s is paused for %s", p.name, d)
	w.at(d, func() {
		if p.gen == gen && p.up {
			w.resume(p)
		}
	})
}

// resume lets a process go on: what waited for it comes in the order in which it was due.
func (w *World) resume(p *proc) {
	if !p.paused {
		return
	}
	p.paused, p.well = false, w.now
	w.trace("%s goes on", p.name)
	for _, e := range p.backlog {
		e.at = w.now
		w.push(e)
	}
	p.backlog = nil
}

// wall is the time on a process's own clock.
func (w *World) wall(p *proc) time.Time { return epoch.Add(w.now + p.skew) }

// mono is time for what only measures.
func (w *World) mono() time.Time { return epoch.Add(w.now) }

var epoch = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

// Chance.

func (w *World) n(n int) int        { return w.rng.IntN(n) }
func (w *World) of(p float64) bool  { return w.rng.Float64() < p }
func (w *World) bad(p float64) bool { return !w.calm && w.rng.Float64() < p }
func (w *World) nonce() (n [16]byte) {
	w.nonces++
	n[0], n[1], n[2], n[3] = byte(w.nonces), byte(w.nonces>>8), byte(w.nonces>>16), 1
	return n
}

// upTo is a time from 0 to d.
func (w *World) upTo(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return time.Duration(w.rng.Int64N(int64(d)))
}

// The trace: its hash says whether two runs were the same, its end what happened last.

const traceKept = 400

func (w *World) trace(format string, a ...any) {
	line := fmt.Sprintf("%10.3f ", w.now.Seconds()) + fmt.Sprintf(format, a...)
	h := fnv.New64a()
	fmt.Fprintf(h, "%016x", w.hash)
	io.WriteString(h, line)
	w.hash = h.Sum64()
	if w.opts.Trace != nil {
		fmt.Fprintln(w.opts.Trace, line)
	}
	if len(w.lines) == traceKept {
		w.lines = append(w.lines[:0], w.lines[traceKept/2:]...)
	}
	w.lines = append(w.lines, line)
}

// fail notes what was found wrong. It goes on, for more may be learnt, but not for long.
func (w *World) fail(invariant, format string, a ...any) {
	what := invariant + ": " + fmt.Sprintf(format, a...)
	w.trace("WRONG: %s", what)
	if len(w.failures) < 20 {
		w.failures = append(w.failures, what)
	}
}
