package worker

import (
	"context"
	"time"

	"crier/internal/bus"
	"crier/presence/handoff"
)

// lookEvery is how often silent gateways are looked for.
const lookEvery = time.Second

// beat asks an incarnation for everything where something that it told got lost.
func (w *Worker) beat(ctx context.Context, m bus.Msg) {
	b, err := handoff.ParseBeat(m.Data)
	if err != nil {
		w.log.Error("a beat that cannot be read", "error", err)
		return
	}
	anew, first := w.arrivals.Compare(b, time.Now(), w.holds.Has)
	if first { // older incarnations of the gateway are over
		back, err := w.arrivals.Places.Begin(b.Inc)
		if err != nil {
			w.log.Error("a gateway that presence refused", "gateway", b.Inc.String(), "error", err)
		}
		w.wakeBack(ctx, back)
	}
	if len(anew) > 0 {
		w.publish(handoff.AnewTo(b.Inc.Gateway), (&handoff.Anew{Inc: b.Inc, Ranges: anew}).Bytes())
	}
}

// watchGateways takes those offline whose gateway is silent, until ctx ends.
func (w *Worker) watchGateways(ctx context.Context) error {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	before := time.Now()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
		now := time.Now()
		paused := now.Sub(before) > 3*lookEvery
		before = now
		for _, inc := range w.arrivals.Silent(now, paused) {
			w.log.Warn("a gateway is silent; its recipients are taken for offline", "gateway", inc.String())
			w.wakeBack(ctx, w.arrivals.Gone(inc))
		}
	}
}
