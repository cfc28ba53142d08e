package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

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

// seal ends a journal; sealing a sealed one changes nothing.
func (w *Worker) seal(ctx context.Context, j job.Journal) error {
	subject := ledger.JournalSubject(j)
	for {
		st, err := w.cfg.Log.Last(ctx, subject)
		if err != nil {
			return err
		}
		last, err := ledger.ParseRecord(st.Data)
		if err != nil {
			return err
		}
		if last.Sealed() {
			return nil
		}
		rec := ledger.Record{Journal: j, N: last.N + 1, Nonce: nonce(), Prev: ledger.HashOf(st.Data), Entries: []ledger.Entry{ledger.Seal{By: w.journal}}}
		_, err = w.cfg.Log.Append(ctx, subject, st.Seq, rec.Bytes())
		if err == nil {
			w.log.Info("journal sealed", "journal", j.String(), "records", last.N+1)
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

// inherit claims the sealed journals of this worker that have open reserves
// (rule 12) and lists these.
func (w *Worker) inherit(ctx context.Context) ([]outbound.Inherited, error) {
	open := w.cfg.Index.OpenReserves(func(j job.Journal) bool { return j.Worker == w.cfg.Name && w.cfg.Index.Sealed(j) })
	var out []outbound.Inherited
	for _, o := range open {
		if err := w.claim(ctx, ledger.ClaimJournal, o.Ref.Journal.String()); err != nil {
			return nil, err
		}
		out = append(out, outbound.Inherited{Key: outbound.Key{Ref: o.Ref, Inc: o.Inc}, Job: o.Job, Range: o.Range, Open: o.Set.Clone(), Doubted: o.Doubted})
	}
	if len(out) > 0 {
		w.log.Info("open reserves taken over", "reserves", len(out))
	}
	return out, nil
}

// claims remembers what this incarnation holds.
type claims struct {
	sync.Mutex
	held map[string]*claimed
}

type claimed struct {
	sync.Mutex
	done bool
}

// claim makes this journal the holder of something (rule 4). It is called for
// what no living worker holds.
func (w *Worker) claim(ctx context.Context, kind ledger.ClaimKind, id string) error {
	subject := ledger.ClaimSubject(kind, id)
	w.claims.Lock()
	c := w.claims.held[subject]
	if c == nil {
		c = &claimed{}
		w.claims.held[subject] = c
	}
	w.claims.Unlock()
	c.Lock()
	defer c.Unlock()
	if c.done {
		return nil
	}
	mine := ledger.Claim{Kind: kind, ID: id, Journal: w.journal, At: time.Now().UTC()}
	_, err := ledger.Take(ctx, w.cfg.Log, mine, w.cfg.Index.Sealed)
	c.done = err == nil
	return err
}

// takeOffer claims a slice and gives its open spans to the lanes. It is
// idempotent: a slice that the lanes have is being sent, one without open spans
// is sent.
func (w *Worker) takeOffer(ctx context.Context, o work.Offer) (work.Reply, error) {
	j, err := w.cfg.Jobs.Get(ctx, o.Job)
	if err != nil {
		return work.Reply{}, err
	}
	if err := w.claim(ctx, ledger.ClaimSlice, fmt.Sprintf("%s-%d", o.Job, o.Number)); err != nil {
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
