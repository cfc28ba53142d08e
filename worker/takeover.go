package worker

import (
	"context"
	"errors"
	"fmt"

	"crier/internal/pause"
	"crier/internal/work"
	"crier/job"
	"crier/state/ledger"
	"crier/state/parked/feed"
	"crier/worker/block"
	"crier/worker/outbound"
)

// takeOver makes this process the successor of the worker's former incarnations:
// it seals their journals, which the lock on the data directory allows at once
// (rule 5), reads the ledger up to the seals, and gives what they left open.
func (w *Worker) takeOver(ctx context.Context) ([]outbound.Inherited, error) {
	subjects, err := w.cfg.Log.Subjects(ctx, ledger.AllJournals)
	if err != nil {
		return nil, fmt.Errorf("listing the journals: %w", err)
	}
	w.journal = job.Journal{Worker: w.cfg.Name, Incarnation: max(1, w.cfg.Start)}
	for subject := range subjects {
		j, err := ledger.JournalOf(subject)
		if err != nil {
			return nil, err
		}
		if j.Worker == w.cfg.Name {
			w.former = append(w.former, j)
			w.journal.Incarnation = max(w.journal.Incarnation, j.Incarnation+1)
		}
	}
	for _, j := range w.former {
		if err := w.seal(ctx, j); err != nil {
			return nil, fmt.Errorf("sealing journal %s: %w", j, err)
		}
	}
	if err := feed.CatchUp(ctx, w.cfg.Index, w.cfg.Log); err != nil {
		return nil, err
	}
	return w.inherit(ctx)
}

// seal ends a journal; sealing a sealed one changes nothing. One without a record is
// sealed by its first: its owner claimed by it and died before it was opened, and what it
// claimed would have an owner for ever.
func (w *Worker) seal(ctx context.Context, j job.Journal) error {
	subject := ledger.JournalSubject(j)
	for {
		st, err := w.cfg.Log.Last(ctx, subject)
		if err != nil && !errors.Is(err, ledger.ErrNoRecord) {
			return err
		}
		rec, sealed, err := ledger.SealAfter(j, st, w.journal, nonce())
		if err != nil || sealed {
			return err
		}
		_, err = w.cfg.Log.Append(ctx, subject, st.Seq, rec.Bytes())
		if err == nil {
			w.log.Info("journal sealed", "journal", j.String(), "records", rec.N)
			return nil
		}
		if errors.Is(err, ledger.ErrFull) {
			return &job.Error{Code: job.CodeFull, Message: "the ledger is full, so that nothing can be taken over; start with a larger limits.ledger", Err: err}
		}
		w.log.Warn("sealing a journal: reading back what happened", "journal", j.String(), "error", err)
		if !pause.For(ctx, ledgerRetry) {
			return err
		}
	}
}

// inherit claims what this worker's former journals left open (rule 12), unless another
// worker sealed them and closes it already.
func (w *Worker) inherit(ctx context.Context) ([]outbound.Inherited, error) {
	var out []outbound.Inherited
	for _, j := range w.former {
		open := w.openOf(j)
		if len(open) == 0 {
			w.closed = append(w.closed, j)
			continue
		}
		c, err := ledger.Take(ctx, w.cfg.Log, ledger.JournalThing(j), w.taker())
		if errors.Is(err, ledger.ErrHeld) {
			continue
		}
		if err != nil {
			return nil, err
		}
		w.inherited, w.closed = append(w.inherited, c), append(w.closed, j)
		out = append(out, open...)
	}
	if len(out) > 0 {
		w.log.Info("open reserves of former starts taken over", "reserves", len(out))
	}
	return out, nil
}

// takeOffer claims a slice and gives its open spans to the lanes. It is
// idempotent: a slice that the lanes have is being sent, one without open spans
// is sent.
func (w *Worker) takeOffer(ctx context.Context, o work.Offer) (work.Reply, error) {
	j, err := w.cfg.Jobs.Get(ctx, o.Job)
	if err != nil {
		return work.Reply{}, err
	}
	// Who holds a slice is the only one it is offered to: what cannot be read is left to
	// others.
	pkg, err := w.cfg.Content.Package(ctx, j.Spec)
	if err != nil {
		return work.Reply{}, fmt.Errorf("opening the package of %s: %w", o.Job, err)
	}
	epoch, err := w.slices.Claim(ctx, ledger.SliceThing(o.Job, o.Number))
	if err != nil {
		return work.Reply{}, err
	}
	answer := make(chan job.SliceState, 1)
	w.post(ctx, whereIs{sliceKey{o.Job, o.Number}, answer})
	select {
	case state := <-answer:
		if state != job.SliceClaimed {
			return work.Reply{State: state}, nil
		}
	case <-ctx.Done():
		return work.Reply{}, ctx.Err()
	}
	todo, err := w.todo(pkg, o)
	if err != nil {
		return work.Reply{}, err
	}
	if len(todo) == 0 {
		return work.Reply{State: job.SliceSent}, nil
	}
	w.blocks.WantHomes(todo)
	w.post(ctx, assign{o, epoch, todo})
	return work.Reply{State: job.SliceSending}, nil
}

// todo lists what of a slice's span no reserve covers, range by range.
func (w *Worker) todo(pkg block.Package, o work.Offer) ([]job.Span, error) {
	var todo []job.Span
	for r := range pkg.Ranges() {
		s := job.Span{Lo: max(o.Span.Lo, uint64(r.Lo())), Hi: min(o.Span.Hi, uint64(r.Lo())+1<<job.RangeBits)}
		if s.IsEmpty() {
			continue
		}
		reserved, err := w.cfg.Index.Reserved(r, o.Job)
		if err != nil {
			return nil, err
		}
		todo = append(todo, reserved.Gaps(s)...)
	}
	return todo, nil
}
