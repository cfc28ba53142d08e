package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"crier/internal/bus"
	"crier/internal/idset"
	"crier/internal/work"
	"crier/job"
	"crier/presence/handoff"
	"crier/worker/home"
	"crier/worker/outbound"
)

// listen takes what others send, until ctx ends.
func (w *Worker) listen(ctx context.Context) error {
	select {
	case <-w.ready:
	case <-ctx.Done():
		return ctx.Err()
	}
	a := arrivals{last: map[arrivalKey]uint64{}}
	subs := map[string]func(bus.Msg){
		handoff.ReportToAny(w.cfg.Name): func(m bus.Msg) {
			p, err := handoff.ParseReport(m.Data)
			if err != nil {
				w.log.Error("a report that cannot be read", "error", err)
				return
			}
			w.post(ctx, outbound.Reported{Report: p})
		},
		handoff.AnnounceToAny: func(m bus.Msg) { w.announced(ctx, &a, m) },
		work.OfferTo:          func(m bus.Msg) { go w.offered(ctx, m) },
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

// again is the answer to an announcement by which a home asks for all of an
// incarnation's, from 1 on.
var again = []byte{1}

// arrivals remembers the last announcement of each incarnation to each range.
type arrivals struct {
	sync.Mutex
	last map[arrivalKey]uint64
}

type arrivalKey struct {
	inc job.Incarnation
	r   job.Range
}

// announced takes an announcement in: presence first, then the home looks for what
// waits (rule 20), then the gateway is answered.
func (w *Worker) announced(ctx context.Context, a *arrivals, m bus.Msg) {
	ann, err := handoff.ParseAnnounce(m.Data)
	if err != nil {
		w.log.Error("an announcement that cannot be read", "error", err)
		return
	}
	respond := func(b []byte) {
		if err := m.Respond(b); err != nil {
			w.log.Debug("answering an announcement", "error", err)
		}
	}
	a.Lock()
	defer a.Unlock()
	key := arrivalKey{ann.Inc, ann.Range}
	// This home is new and needs what came before, too; or it is a late copy from
	// before everything was told anew, and nobody waits for the answer.
	if ann.Seq > a.last[key]+1 {
		respond(again)
		return
	}
	if ann.Seq > a.last[key] {
		if err := w.cfg.Presence.Join(ann.Inc, ann.Join); err != nil {
			w.log.Error("an announcement that presence refused", "gateway", ann.Inc.String(), "error", err)
			return
		}
		w.cfg.Presence.Leave(ann.Inc, ann.Leave)
		w.hellos.take(ann)
		a.last[key] = ann.Seq
	}
	logins := make([]home.Login, len(ann.Hellos))
	for i, h := range ann.Hellos {
		logins[i] = home.Login{Hello: h, Inc: ann.Inc}
	}
	if !ann.Join.IsEmpty() || len(logins) > 0 {
		who := ann.Join
		if who.IsEmpty() {
			who = idset.New(ann.Range)
		}
		w.post(ctx, home.Wanted{Who: who, Logins: logins})
	}
	respond(nil)
}
