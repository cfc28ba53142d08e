package worker

import (
	"context"
	"encoding/json"
	"fmt"

	"crier/internal/bus"
	"crier/internal/idset"
	"crier/internal/work"
	"crier/job"
	"crier/presence/handoff"
	"crier/worker/home"
	"crier/worker/outbound"
	"crier/worker/tenure"
)

// listen takes what others send, until ctx ends.
func (w *Worker) listen(ctx context.Context) error {
	select {
	case <-w.ready:
	case <-ctx.Done():
		return ctx.Err()
	}
	subs := map[string]func(bus.Msg){
		handoff.ReportToAny(w.cfg.Name): func(m bus.Msg) {
			p, err := handoff.ParseReport(m.Data)
			if err != nil {
				w.log.Error("a report that cannot be read", "error", err)
				return
			}
			w.post(ctx, outbound.Reported{Report: p})
		},
		handoff.AnnounceTo(w.cfg.Name): func(m bus.Msg) { w.announced(ctx, m) },
		handoff.BeatTo:                 w.beat,
		handoff.WantTo:                 func(m bus.Msg) { w.wanted(ctx, m) },
		blockTo(w.cfg.Name):            func(m bus.Msg) { go w.asked(ctx, m) },
		work.OfferTo(w.cfg.Name):       func(m bus.Msg) { go w.offered(ctx, m) },
	}
	for subject, fn := range subs {
		sub, err := w.cfg.Bus.Subscribe(subject, fn)
		if err != nil {
			return fmt.Errorf("subscribing to %s: %w", subject, err)
		}
		defer sub.Unsubscribe()
	}
	<-ctx.Done()
	return ctx.Err()
}

func (w *Worker) offered(ctx context.Context, m bus.Msg) {
	var o work.Offer
	var reply work.Reply
	err := json.Unmarshal(m.Data, &o)
	if err == nil {
		reply, err = w.takeOffer(ctx, o)
	}
	if err != nil {
		reply = work.Reply{State: job.SlicePlanned, Why: err.Error()}
		w.log.Warn("a slice was not taken", "job", o.Job.String(), "slice", o.Number, "error", err)
	}
	b, err := json.Marshal(reply)
	if err == nil && ctx.Err() == nil {
		err = m.Respond(b)
	}
	if err != nil {
		w.log.Debug("answering an offer", "error", err)
	}
}

// wanted tells the loop that somebody needs the home of ranges.
func (w *Worker) wanted(ctx context.Context, m bus.Msg) {
	want, err := handoff.ParseWant(m.Data)
	if err != nil {
		w.log.Error("a wish for a home that cannot be read", "error", err)
		return
	}
	for _, r := range want.Ranges {
		if !w.holds.has(r) {
			w.post(ctx, tenure.Wanted{Range: r})
		}
	}
}

// announced takes an announcement in: presence first, then the home looks for what
// waits (rule 20), then the gateway is answered.
func (w *Worker) announced(ctx context.Context, m bus.Msg) {
	ann, err := handoff.ParseAnnounce(m.Data)
	if err != nil {
		w.log.Error("an announcement that cannot be read", "error", err)
		return
	}
	got, err := w.takeIn(ann)
	if err != nil {
		w.log.Error("an announcement that presence refused", "gateway", ann.Inc.String(), "error", err)
		return
	}
	if got == handoff.TakenIn {
		w.wake(ctx, ann)
	}
	if err := m.Respond(got.Bytes()); err != nil {
		w.log.Debug("answering an announcement", "error", err)
	}
}

// takeIn makes an announcement known to presence, unless that lacks the ones before.
func (w *Worker) takeIn(ann *handoff.Announce) (handoff.Reception, error) {
	if !w.holds.has(ann.Range) {
		return handoff.NotHome, nil
	}
	lost, got, err := w.arrivals.TakeIn(ann)
	w.redirect(lost)
	return got, err
}

// wake lets the home look for what waits for those who came.
func (w *Worker) wake(ctx context.Context, ann *handoff.Announce) {
	if ann.Join.IsEmpty() && len(ann.Hellos) == 0 {
		return
	}
	logins := make([]home.Login, len(ann.Hellos))
	for i, h := range ann.Hellos {
		logins[i] = home.Login{Hello: h, Inc: ann.Inc}
	}
	who := ann.Join
	if who.IsEmpty() {
		who = idset.New(ann.Range)
	}
	w.post(ctx, home.Wanted{Who: who, Logins: logins})
}
