package worker

import (
	"context"
	"errors"
	"time"

	"crier/internal/pause"
	"crier/job"
	"crier/presence/handoff"
	"crier/state/ledger"
	"crier/worker/home"
	"crier/worker/outbound"
	"crier/worker/tenure"
)

// doTenure carries out what the core of tenure says.
func (l *loop) doTenure(effects []tenure.Effect) {
	for _, e := range effects {
		switch e := e.(type) {
		case tenure.Take:
			l.w.beside.Go(func() { l.w.take(l.ctx, e.Thing) })
		case tenure.Seal:
			l.w.beside.Go(func() { l.w.sealFor(l.ctx, e.Journal) })
		case tenure.Begin:
			l.begin(e)
		case tenure.Inherit:
			open := l.w.openOf(e.Journal)
			l.w.log.Info("open reserves taken over", "journal", e.Journal.String(), "reserves", len(open))
			for _, in := range open {
				l.doOutbound(l.outbound.Step(time.Now(), in))
			}
		case tenure.End:
			l.w.holds.End(e.Range)
			l.doHome(l.home.Step(home.End{Range: e.Range}))
			if stop := l.looks[e.Range]; stop != nil {
				stop() // what it finds would not be decided on
			}
		case tenure.Give:
			l.w.beside.Go(func() { l.w.give(l.ctx, e) })
		}
	}
}

// begin makes this worker home to a range. Gateways tell it who is there: what presence
// has of an earlier time may be over.
func (l *loop) begin(e tenure.Begin) {
	l.w.forget(e.Range)
	l.doHome(l.home.Step(home.Begin{Range: e.Range}))
	l.w.holds.Begin(e.Range, e.First)
}

// quiet goes on when the home has nothing of a range under way any more. Whoever takes
// the range has to have read all that this worker has: what an owner before it appended
// about the range, too.
func (l *loop) quiet(e home.Quiet) {
	l.w.forget(e.Range)
	after := max(e.After, l.w.cfg.Index.Watermark()-1)
	l.doTenure(l.tenure.Step(time.Now(), tenure.Quiet{Range: e.Range, After: after}))
}

// forget drops all that is known of who is in a range; nothing of it comes in meanwhile.
func (w *Worker) forget(r job.Range) {
	w.arrivals.Leave(r, func() { w.cfg.Presence.Forget(r) })
}

// taker is how this worker claims.
func (w *Worker) taker() ledger.Taker {
	return ledger.Taker{Journal: w.journal, Sealed: w.cfg.Index.Sealed, Read: w.cfg.Index.Watermark}
}

// mayTake says why this worker takes nothing new, if that is so.
func (w *Worker) mayTake() error {
	switch {
	case w.cfg.Silent():
		return errors.New("this worker is silent")
	case w.cfg.Ring().Frozen():
		return errors.New("this worker cannot tell who else is there and takes nothing new")
	}
	return nil
}

// takeWait bounds the tries to claim something; the core tries again.
const takeWait = 5 * time.Second

// take claims a thing and tells the core.
func (w *Worker) take(ctx context.Context, thing ledger.Thing) {
	select {
	case w.taking <- struct{}{}:
		defer func() { <-w.taking }()
	case <-ctx.Done():
		return
	}
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
	if err := w.seal(try, j); err != nil {
		w.log.Warn("sealing the journal of a worker that is gone; it is tried again", "journal", j.String(), "error", err)
	} else {
		w.hearOf(ctx, j)
	}
	w.post(ctx, tenure.NotSealed{Journal: j}) // if it is, the index tells
}

// hearTries is how often a gateway is asked to report of a sealed journal.
const hearTries = 10

// hearOf lets all gateways report to this worker, too, what they have of a sealed journal.
// Where something is open, its claimant fences them; but its owner may have closed the
// rest before they heard so, and they would keep that for ever (rule 14).
func (w *Worker) hearOf(ctx context.Context, j job.Journal) {
	for _, inc := range w.arrivals.AllHeard() {
		w.beside.Go(func() {
			fence := handoff.Fence{Journal: j, To: inc, By: w.journal}
			for range hearTries {
				a, err := w.ask(ctx, handoff.FenceTo(inc.Gateway), fence.Bytes())
				if err == nil && a.Kind != handoff.InProgress || !pause.For(ctx, time.Second) {
					return
				}
			}
		})
	}
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
// claim on a range, a journal or a slice.
func (w *Worker) known() []tenure.Event {
	var out []tenure.Event
	for _, c := range w.inherited {
		out = append(out, tenure.Has{Claim: c})
	}
	for j, sealed := range w.cfg.Index.Journals() {
		if sealed {
			out = append(out, tenure.Sealed{Journal: j, Open: w.cfg.Index.HasOpen(j)})
		} else if j != w.journal {
			out = append(out, tenure.Seen{Journal: j})
		}
	}
	for _, kind := range []ledger.ClaimKind{ledger.ClaimRange, ledger.ClaimJournal, ledger.ClaimSlice} {
		w.cfg.Claims.All(kind, func(c ledger.Claim) { out = append(out, tenure.Claimed{Claim: c}) })
	}
	return out
}

// wantHome asks whoever should be home to ranges to be so.
func (w *Worker) wantHome(ranges ...job.Range) {
	w.publish(handoff.WantTo, (&handoff.Want{Ranges: ranges}).Bytes())
}
