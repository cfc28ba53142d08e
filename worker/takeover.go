package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"crier/internal/work"
	"crier/job"
	"crier/state/ledger"
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
	w.journal = job.Journal{Worker: w.cfg.Name, Incarnation: 1}
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
	err = ledger.ReadAll(ctx, w.cfg.Log, w.cfg.Index.Watermark(), ledger.AllJournals, func(st ledger.Stored) error {
		_, err := w.cfg.Index.Apply(ctx, st)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the ledger: %w", err)
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
		if !wait(ctx, ledgerRetry) {
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

// sliceClaims remembers which slices this incarnation has claimed.
type sliceClaims struct {
	sync.Mutex
	held map[ledger.Thing]*claimed
}

type claimed struct {
	sync.Mutex
	done bool
}

// claimSlice makes this journal the sender of a slice (rule 4).
func (w *Worker) claimSlice(ctx context.Context, thing ledger.Thing) error {
	w.slices.Lock()
	c := w.slices.held[thing]
	if c == nil {
		c = &claimed{}
		w.slices.held[thing] = c
	}
	w.slices.Unlock()
	if !c.TryLock() { // the ledger is slow, and offers are repeated
		return errors.New("it is being claimed")
	}
	defer c.Unlock()
	if c.done {
		return nil
	}
	if w.cfg.Ring().Frozen() {
		return errors.New("this worker cannot tell who else is there and takes nothing new")
	}
	_, err := ledger.Take(ctx, w.cfg.Log, thing, w.taker())
	c.done = err == nil
	return err
}

// forgetSlices drops the claims on slices of jobs that are over.
func (w *Worker) forgetSlices() {
	w.slices.Lock()
	defer w.slices.Unlock()
	for thing := range w.slices.held {
		if id, _, ok := ledger.SliceOf(thing); ok && !w.cfg.Jobs.IsLive(id) {
			delete(w.slices.held, thing)
		}
	}
}

// takeOffer claims a slice and gives its open spans to the lanes. It is
// idempotent: a slice that the lanes have is being sent, one without open spans
// is sent.
func (w *Worker) takeOffer(ctx context.Context, o work.Offer) (work.Reply, error) {
	j, err := w.cfg.Jobs.Get(ctx, o.Job)
	if err != nil {
		return work.Reply{}, err
	}
	if err := w.claimSlice(ctx, ledger.SliceThing(o.Job, o.Number)); err != nil {
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
	todo, err := w.todo(ctx, j.Spec, o.Span)
	if err != nil {
		return work.Reply{}, err
	}
	if len(todo) == 0 {
		return work.Reply{State: job.SliceSent}, nil
	}
	w.wantHomes(todo)
	w.post(ctx, assign{o, j, todo})
	return work.Reply{State: job.SliceSending}, nil
}

// todo lists what of a slice's span no reserve covers, range by range.
func (w *Worker) todo(ctx context.Context, spec job.Spec, span job.Span) ([]job.Span, error) {
	pkg, err := w.cfg.Content.Package(ctx, spec)
	if err != nil {
		return nil, fmt.Errorf("opening the package of %s: %w", spec.ID, err)
	}
	var todo []job.Span
	for r := range pkg.Ranges() {
		s := job.Span{Lo: max(span.Lo, uint64(r.Lo())), Hi: min(span.Hi, uint64(r.Lo())+1<<job.RangeBits)}
		if s.IsEmpty() {
			continue
		}
		cell, err := w.cfg.Index.Cell(r, spec.ID)
		if err != nil {
			return nil, err
		}
		todo = append(todo, cell.Gaps(s)...)
	}
	return todo, nil
}
