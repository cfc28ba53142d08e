package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"crier/internal/bus"
	"crier/internal/guard"
	"crier/internal/idset"
	"crier/internal/work"
	"crier/job"
	"crier/presence/handoff"
	"crier/worker/block"
	"crier/worker/home"
	"crier/worker/outbound"
	"crier/worker/tenure"
	"crier/worker/tries"
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
			reports, err := handoff.ParseReports(m.Data)
			if err != nil {
				w.log.Error("a report that cannot be read", "error", err)
				return
			}
			for _, p := range reports {
				w.post(ctx, outbound.Reported{Report: p})
			}
		},
		handoff.AnnounceTo(w.cfg.Name): func(m bus.Msg) { w.announced(ctx, m) },
		handoff.BeatTo:                 func(m bus.Msg) { w.beat(ctx, m) },
		handoff.WantTo:                 func(m bus.Msg) { w.wanted(ctx, m) },
		block.To(w.cfg.Name):           func(m bus.Msg) { w.beside.Go(func() { w.blocks.Answer(ctx, m) }) },
		work.OfferTo(w.cfg.Name):       func(m bus.Msg) { w.beside.Go(func() { w.offered(ctx, m) }) },
		work.LanesTo(w.cfg.Name):       func(m bus.Msg) { w.post(ctx, lanesAsked(m)) },
	}
	for subject, fn := range subs {
		sub, err := w.cfg.Bus.Subscribe(subject, func(m bus.Msg) { w.beside.Do(func() { fn(m) }) })
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
		err = guard.Run(func() (err error) {
			reply, err = w.takeOffer(ctx, o)
			return err
		})
	}
	at := tries.Place{Job: o.Job, Slice: o.Number, Lo: tries.Offer}
	if err != nil {
		reply = work.Reply{State: job.SlicePlanned, Why: err.Error()}
		w.log.Warn("a slice was not taken", "job", o.Job.String(), "slice", o.Number, "error", err)
		w.noteBroken(at, err)
	} else {
		w.tries.Fine(at)
	}
	j, _ := w.cfg.Jobs.Current(o.Job)
	reply.Again = j.Controls.Again
	if n, why := w.tries.Of(o.Job, o.Number, reply.Again); n > 0 {
		reply.Tries, reply.Why = n, why
	}
	if ctx.Err() == nil {
		w.respond(m, reply)
	}
}

// respond answers with a value; nobody waits for it for long.
func (w *Worker) respond(m bus.Msg, answer any) {
	b, err := json.Marshal(answer)
	if err == nil {
		err = m.Respond(b)
	}
	if err != nil {
		w.log.Debug("answering", "subject", m.Subject, "error", err)
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
		if w.holds.Wants(r) {
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
	got, moved, err := w.arrivals.TakeIn(ann, time.Now(), w.holds.Has)
	if err != nil {
		w.log.Error("an announcement that presence refused", "gateway", ann.Inc.String(), "error", err)
		return
	}
	if got == handoff.TakenIn {
		w.wake(ctx, ann)
		w.wakeBack(ctx, moved.Back)
		w.redirect(moved.Lost)
	}
	if err := m.Respond(got.Bytes()); err != nil {
		w.log.Debug("answering an announcement", "error", err)
	}
}

// wakeBack lets the home look for what waits for those who are shown at another gateway
// than before: while nobody was shown, something may have been parked.
func (w *Worker) wakeBack(ctx context.Context, back []*idset.Set) {
	for _, who := range back {
		w.post(ctx, home.Wanted{Who: who})
	}
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
