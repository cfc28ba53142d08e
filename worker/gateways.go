package worker

import (
	"context"
	"errors"
	"time"

	"crier/internal/bus"
	"crier/internal/idset"
	"crier/job"
	"crier/presence/handoff"
	"crier/state/ledger"
	"crier/worker/arrivals"
	"crier/worker/home"
	"crier/worker/outbound"
	"crier/worker/tenure"
)

// lookEvery is how often silent gateways are looked for.
const lookEvery = time.Second

// redirectLooks is after how many looks those who are still at two gateways are
// redirected again.
const redirectLooks = 5

// beat asks an incarnation for everything where something that it told got lost.
func (w *Worker) beat(ctx context.Context, m bus.Msg) {
	b, err := handoff.ParseBeat(m.Data)
	if err != nil {
		w.log.Error("a beat that cannot be read", "error", err)
		return
	}
	anew, first := w.arrivals.Compare(b, time.Now(), w.holds.Has)
	if first { // older incarnations of the gateway are over
		m, err := w.arrivals.Places.Join(b.Inc, idset.New(0))
		if err != nil {
			w.log.Error("a gateway that presence refused", "gateway", b.Inc.String(), "error", err)
		}
		w.wakeBack(ctx, m.Back)
	}
	if len(anew) > 0 {
		w.publish(handoff.AnewTo(b.Inc.Gateway), (&handoff.Anew{Inc: b.Inc, Ranges: anew}).Bytes())
	}
}

// claimed is told each claim in the order of the ledger.
func (w *Worker) claimed(c ledger.Claim) {
	inc, ok := ledger.GatewayOf(c.Thing())
	if !ok {
		w.postSoon(tenure.Claimed{Claim: c})
		return
	}
	w.log.Warn("a gateway is over, as the ledger has it", "gateway", inc.String())
	for _, who := range w.arrivals.Over(inc) {
		w.postSoon(home.Wanted{Who: who})
	}
	w.postSoon(outbound.Over{Inc: inc})
}

// ended lists the incarnations that are over, as the ledger has it.
func (w *Worker) ended() (all []job.Incarnation) {
	w.cfg.Claims.All(ledger.ClaimGateway, func(c ledger.Claim) {
		if inc, ok := ledger.GatewayOf(c.Thing()); ok {
			all = append(all, inc)
		}
	})
	for _, inc := range all {
		w.arrivals.Over(inc)
	}
	return all
}

// Silent lists the incarnations at which this worker has something open and which are
// not heard. They may be over.
func (w *Worker) Silent() (all []job.Incarnation) {
	for _, inc := range *w.open.Load() {
		if !w.arrivals.Heard(inc) {
			all = append(all, inc)
		}
	}
	return all
}

// EndGateway says in the ledger that an incarnation is over (rule 24). Idempotent.
func (w *Worker) EndGateway(ctx context.Context, inc job.Incarnation) error {
	open := func(job.Journal) bool { return false } // who said it first has said it
	_, err := ledger.Take(ctx, w.cfg.Log, ledger.GatewayThing(inc), ledger.Taker{Journal: w.journal, Sealed: open})
	if errors.Is(err, ledger.ErrHeld) {
		return nil
	}
	return err
}

// watchGateways takes those offline whose gateway is silent, until ctx ends.
func (w *Worker) watchGateways(ctx context.Context) error {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	before, looks := time.Now(), 0
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
		now := time.Now()
		paused := now.Sub(before) > 3*lookEvery
		before = now
		gone, back := w.arrivals.Silent(now, paused)
		for _, inc := range gone {
			w.log.Warn("a gateway is silent; its recipients are taken for offline", "gateway", inc.String())
		}
		w.wakeBack(ctx, back)
		if looks++; looks%redirectLooks == 0 {
			w.redirect(w.arrivals.Places.Lost())
		}
	}
}

// redirect tells gateways whose sockets belong elsewhere: of a recipient whose devices
// are at several gateways only one is told what there is (rule 23).
func (w *Worker) redirect(lost []arrivals.Lost) {
	for _, l := range lost {
		if to := w.arrivals.URL(l.Now); to != "" {
			w.publish(handoff.RedirectTo(l.At.Gateway), (&handoff.Redirect{Inc: l.At, To: to, Who: l.Who}).Bytes())
		}
		l.Who.Release()
	}
}
