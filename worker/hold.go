package worker

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"crier/job"
	"crier/presence/handoff"
	"crier/state/ledger"
	"crier/worker/home"
	"crier/worker/outbound"
	"crier/worker/tenure"
)

// holdings is what other goroutines may know of the ranges that this worker is home
// to. The loop writes it.
type holdings struct {
	begun [job.Ranges]atomic.Int64 // when it became the home, in Unix nanoseconds; 0 if it is not
	fresh [job.Ranges]atomic.Bool  // nobody was home before, so that there is nothing to learn
	mu    struct {
		sync.Mutex
		changed chan struct{} // closed, and replaced, when anything changes
	}
}

func (h *holdings) init() { h.mu.changed = make(chan struct{}) }

// has reports whether this worker is home to a range.
func (h *holdings) has(r job.Range) bool { return h.begun[r].Load() != 0 }

func (h *holdings) set(r job.Range, at int64) {
	h.begun[r].Store(at)
	h.tell()
}

func (h *holdings) tell() {
	h.mu.Lock()
	defer h.mu.Unlock()
	close(h.mu.changed)
	h.mu.changed = make(chan struct{})
}

// changed is closed at the next change.
func (h *holdings) changed() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mu.changed
}

// doTenure carries out what the core of tenure says.
func (l *loop) doTenure(effects []tenure.Effect) {
	for _, e := range effects {
		switch e := e.(type) {
		case tenure.Take:
			go l.w.take(l.ctx, e.Thing)
		case tenure.Seal:
			go l.w.sealFor(l.ctx, e.Journal)
		case tenure.Begin:
			l.begin(e)
		case tenure.Inherit:
			open := l.w.openOf(e.Journal)
			l.w.log.Info("open reserves taken over", "journal", e.Journal.String(), "reserves", len(open))
			for _, in := range open {
				l.doOutbound(l.outbound.Step(time.Now(), in))
			}
		case tenure.End:
			l.w.holds.set(e.Range, 0)
			l.doHome(l.home.Step(home.End{Range: e.Range}))
		case tenure.Give:
			go l.w.give(l.ctx, e)
		}
	}
}

// begin makes this worker home to a range. Gateways tell it who is there.
func (l *loop) begin(e tenure.Begin) {
	l.doHome(l.home.Step(home.Begin{Range: e.Range}))
	l.w.holds.fresh[e.Range].Store(e.First)
	l.w.holds.set(e.Range, time.Now().UnixNano())
}

// quiet goes on when the home has nothing of a range under way any more.
func (l *loop) quiet(e home.Quiet) {
	l.w.arrivals.Forget(e.Range)
	l.doTenure(l.tenure.Step(time.Now(), tenure.Quiet{Range: e.Range, After: max(e.After, l.w.opened)}))
}

// taker is how this worker claims.
func (w *Worker) taker() ledger.Taker {
	return ledger.Taker{Journal: w.journal, Sealed: w.cfg.Index.Sealed, Read: w.cfg.Index.Watermark}
}

// takeWait bounds the tries to claim something; the core tries again.
const takeWait = 5 * time.Second

// take claims a thing and tells the core.
func (w *Worker) take(ctx context.Context, thing ledger.Thing) {
	w.taking <- struct{}{}
	defer func() { <-w.taking }()
	try, cancel := context.WithTimeout(ctx, takeWait)
	defer cancel()
	c, err := ledger.Take(try, w.cfg.Log, thing, w.taker())
	if err != nil {
		w.log.Debug("claiming", "what", thing.String(), "error", err)
		w.post(ctx, tenure.NotTaken{Thing: thing})
		return
	}
	w.post(ctx, tenure.Taken{Claim: c})
}

// give releases a range.
func (w *Worker) give(ctx context.Context, e tenure.Give) {
	if err := ledger.Give(ctx, w.cfg.Log, e.Claim, e.After); err != nil {
		w.log.Warn("releasing a range; it is tried again", "range", e.Range.String(), "error", err)
		w.post(ctx, tenure.NotGiven{Range: e.Range})
		return
	}
	w.post(ctx, tenure.Given{Range: e.Range})
}

// sealFor seals the journal of a worker that has lapsed (rule 5).
func (w *Worker) sealFor(ctx context.Context, j job.Journal) {
	try, cancel := context.WithTimeout(ctx, takeWait)
	defer cancel()
	if err := w.seal(try, j); err != nil && !errors.Is(err, ledger.ErrNoRecord) {
		w.log.Warn("sealing the journal of a worker that is gone; it is tried again", "journal", j.String(), "error", err)
	}
	w.post(ctx, tenure.NotSealed{Journal: j}) // if it is not
}

// openOf lists what a sealed journal left open, for this worker to close.
func (w *Worker) openOf(j job.Journal) []outbound.Inherited {
	var out []outbound.Inherited
	for _, o := range w.cfg.Index.OpenReserves(func(of job.Journal) bool { return of == j }) {
		out = append(out, outbound.Inherited{Key: outbound.Key{Ref: o.Ref, Inc: o.Inc}, Job: o.Job, Range: o.Range, Open: o.Set.Clone(), Doubted: o.Doubted})
	}
	return out
}

// known is what the core of tenure has to be told at the start: every journal, and every
// claim on a range or a journal.
func (w *Worker) known() []tenure.Event {
	var out []tenure.Event
	for j, sealed := range w.cfg.Index.Journals() {
		if sealed {
			out = append(out, tenure.Sealed{Journal: j, Open: len(w.openOf(j)) > 0})
		} else if j != w.journal {
			out = append(out, tenure.Seen{Journal: j})
		}
	}
	for _, kind := range []ledger.ClaimKind{ledger.ClaimRange, ledger.ClaimJournal} {
		w.cfg.Claims.All(kind, func(c ledger.Claim) { out = append(out, tenure.Claimed{Claim: c}) })
	}
	return out
}

// wantHome asks whoever should be home to ranges to be so.
func (w *Worker) wantHome(ranges ...job.Range) {
	w.publish(handoff.WantTo, (&handoff.Want{Ranges: ranges}).Bytes())
}
