package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"crier/internal/bus"
	"crier/internal/guard"
	"crier/internal/pause"
	"crier/internal/work"
	"crier/job"
	"crier/presence/handoff"
	"crier/state/ledger"
	"crier/worker/journal"
	"crier/worker/lane"
	"crier/worker/outbound"
	"crier/worker/tries"
)

const (
	handOffWait = 5 * time.Second
	ledgerRetry = 200 * time.Millisecond
)

// readLast reads the journal's last record until the ledger answers.
func (l *loop) readLast() {
	for {
		st, err := l.w.cfg.Log.Last(l.ctx, ledger.JournalSubject(l.w.journal))
		switch {
		case err == nil:
			l.w.post(l.ctx, journal.LastRecord{Stored: st})
			return
		case errors.Is(err, ledger.ErrNoRecord):
			l.w.post(l.ctx, journal.NoRecord{})
			return
		}
		l.w.log.Warn("reading the journal's last record", "error", err)
		if !pause.For(l.ctx, ledgerRetry) {
			return
		}
	}
}

// makeBlock works out a block and tells the lanes.
func (w *Worker) makeBlock(ctx context.Context, t lane.Task) {
	res, took, err := w.blocks.Make(ctx, t)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		w.log.Error("working out a block; it is tried again", "job", t.Job.String(), "span", t.Span.String(), "error", err)
		w.noteBroken(tries.Place{Job: t.Job, Slice: t.Slice, Lo: t.Span.Lo}, err)
		w.post(ctx, lane.Failed{Lane: t.Lane})
	default:
		w.tries.Fine(tries.Place{Job: t.Job, Slice: t.Slice, Lo: t.Span.Lo})
		w.post(ctx, lane.Prepared{Lane: t.Lane, Took: took, Reserve: res})
	}
}

// noteBroken counts a try, if it broke the work on it. The scheduler hears of it with the
// answer to its next offer.
func (w *Worker) noteBroken(at tries.Place, err error) {
	b := guard.Of(err)
	if b == nil {
		return
	}
	j, _ := w.cfg.Jobs.Current(at.Job)
	if n := w.tries.Broke(at, j.Controls.Again, err.Error()); n == 1 {
		w.log.Error("it broke the work on it", "job", at.Job.String(), "slice", at.Slice, "error", err, "stack", b.Stack)
	}
}

// hasNoRoom reports whether an incarnation has no room for another reserve of this worker.
func (w *Worker) hasNoRoom(inc job.Incarnation) bool { return (*w.full.Load())[inc] }

// sendHandOffs sends what is in the outbox until ctx ends. It waits for no answer.
func (w *Worker) sendHandOffs(ctx context.Context) error {
	for {
		queue, err := w.outbox.Take(ctx)
		if err != nil {
			return err
		}
		for len(queue) > 0 {
			var group []outbound.Send
			group, queue = outbound.Group(queue)
			w.handOff(ctx, group)
		}
	}
}

// bodyWait is how long hand-offs wait for the body of the one before them. Then they pass it:
// who has to be asked twice keeps no order, and the store of bodies may be slow.
const bodyWait = 100 * time.Millisecond

// handOff asks a gateway to take the targets of reserves; the answers come as events.
func (w *Worker) handOff(ctx context.Context, group []outbound.Send) {
	e := group[0]
	if !e.WithBody {
		w.askGateway(ctx, group)
		return
	}
	got := make(chan error, 1)
	w.beside.Go(func() { got <- w.attachBody(ctx, e) })
	later := func() { w.beside.Go(func() { w.askWithBody(ctx, e, <-got) }) }
	if _, slow := w.slow.Load(e.Handoff.Job); slow {
		later()
		return
	}
	t := time.NewTimer(bodyWait)
	defer t.Stop()
	select {
	case err := <-got:
		w.askWithBody(ctx, e, err)
	case <-t.C:
		w.slow.Store(e.Handoff.Job, true)
		later()
	case <-ctx.Done():
	}
}

// attachBody puts the message into a hand-off that is to bring it.
func (w *Worker) attachBody(ctx context.Context, e outbound.Send) error {
	spec, err := w.cfg.Jobs.Spec(ctx, e.Handoff.Job)
	if err != nil {
		return err
	}
	e.Handoff.Message, err = w.cfg.Content.Message(ctx, spec)
	return err
}

// askWithBody goes on when the body is there, or err says why not.
func (w *Worker) askWithBody(ctx context.Context, e outbound.Send, err error) {
	w.slow.Delete(e.Handoff.Job)
	if err != nil {
		w.lost(ctx, []outbound.Send{e}, err)
		return
	}
	w.askGateway(ctx, []outbound.Send{e})
}

// askGateway sends hand-offs to one gateway together; they are answered so.
func (w *Worker) askGateway(ctx context.Context, group []outbound.Send) {
	var data []byte
	for _, e := range group {
		data = append(data, e.Handoff.Bytes()...)
	}
	q := bus.Question{Subject: handoff.HandoffTo(group[0].Handoff.To.Gateway), Data: data, Patience: handOffWait}
	err := w.cfg.Bus.Ask(q, func(b []byte, err error) {
		var answers []*handoff.Answer
		if err == nil {
			answers, err = handoff.ParseAnswers(b)
		}
		if err == nil && len(answers) != len(group) {
			err = fmt.Errorf("%d answers to %d hand-offs", len(answers), len(group))
		}
		if err != nil {
			w.lost(ctx, group, err)
			return
		}
		for i, e := range group {
			w.post(ctx, outbound.Answered{Key: e.Key(), Answer: answers[i]})
		}
	})
	if err != nil {
		w.lost(ctx, group, err)
	}
}

// lost tells that hand-offs got no answer; they are asked again.
func (w *Worker) lost(ctx context.Context, group []outbound.Send, err error) {
	for _, e := range group {
		w.log.Debug("hand-off without an answer", "gateway", e.Handoff.To.String(), "reserve", e.Handoff.Ref.String(), "error", err)
		w.post(ctx, outbound.Lost{Key: e.Key()})
	}
}

func (w *Worker) fence(ctx context.Context, e outbound.SendFence) {
	a, err := w.ask(ctx, handoff.FenceTo(e.Fence.To.Gateway), e.Fence.Bytes())
	if err != nil {
		w.log.Debug("fence without an answer", "gateway", e.Fence.To.String(), "journal", e.Fence.Journal.String(), "error", err)
		w.post(ctx, outbound.Lost{Journal: e.Fence.Journal, Key: outbound.Key{Inc: e.Fence.To}})
		return
	}
	w.post(ctx, outbound.Fenced{Journal: e.Fence.Journal, Inc: e.Fence.To, Answer: a})
}

func (w *Worker) ask(ctx context.Context, subject string, data []byte) (*handoff.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, handOffWait)
	defer cancel()
	b, err := w.cfg.Bus.Request(ctx, subject, data)
	if err != nil {
		return nil, err
	}
	answers, err := handoff.ParseAnswers(b)
	if err != nil || len(answers) != 1 {
		return nil, errors.Join(err, fmt.Errorf("%d answers to one question", len(answers)))
	}
	return answers[0], nil
}

// publish sends what is repeated until it has its effect.
func (w *Worker) publish(subject string, data []byte) {
	if err := w.cfg.Bus.Publish(subject, data); err != nil {
		w.log.Debug("publishing", "subject", subject, "error", err)
	}
}

// tellSent hints that a slice is sent; who misses it asks by offering it again.
func (w *Worker) tellSent(id job.ID, number uint32) {
	b, err := json.Marshal(work.Offer{Job: id, Number: number})
	if err == nil {
		w.publish(work.SentTo, b)
	}
}
