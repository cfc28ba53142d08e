package block

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"crier/filters"
	"crier/internal/idset"
	"crier/job"
	"crier/state/ledger"
)

// Charges is what the homes know of who was charged what; charge.Book has it.
type Charges interface {
	// Verdict gives what of a span is not charged yet, and whom a charge dropped.
	Verdict(id job.ID, span job.Span) (gaps []job.Span, dropped []ledger.Drop, err error)
	// Marked gives whoever got what is sent once and may not be sent to in an hour.
	Marked(r job.Range, key job.OnceKey, hour uint32) (*idset.Set, error)
	// AtLeast gives whoever was charged so many messages of a day, of one account or of all.
	AtLeast(r job.Range, day uint32, account ledger.AccountOf, n int) (*idset.Set, error)
}

// takeRefused takes out of ids, the package in a block, whom a charge dropped, and first lets
// everybody be charged who is not yet. The verdict of a charge stands: whoever asks again
// for any of its recipients, however the block is cut, gets it (rule 7).
func (m *Maker) takeRefused(ctx context.Context, spec job.Spec, lists filters.Lists, span job.Span, ids *idset.Set) error {
	gaps, dropped, err := m.cfg.Charges.Verdict(spec.ID, span)
	if err != nil {
		return fmt.Errorf("reading who is charged: %w", err)
	}
	if _, charged := m.cfg.Policy.terms(spec, m.cfg.Now()); charged && holdsAny(ids, gaps) {
		if err := m.charge(ctx, spec, lists, span, ids); err != nil {
			return err
		}
		if gaps, dropped, err = m.cfg.Charges.Verdict(spec.ID, span); err != nil {
			return fmt.Errorf("reading who is charged: %w", err)
		}
		if holdsAny(ids, gaps) {
			return errReserved
		}
	}
	for _, d := range dropped {
		ids.AndNot(d.Set)
		d.Set.Release()
	}
	return nil
}

var errReserved = errors.New("some of its recipients are reserved already")

// holdsAny reports whether somebody of a set lies in one of some spans.
func holdsAny(ids *idset.Set, spans []job.Span) bool {
	for _, s := range spans {
		part := ids.Clone()
		part.KeepSpan(s)
		empty := part.IsEmpty()
		if part.Release(); !empty {
			return true
		}
	}
	return false
}

// charge has everybody of a block charged who is not yet. One charge of a range follows
// the other: each sees what those before it did.
func (m *Maker) charge(ctx context.Context, spec job.Spec, lists filters.Lists, span job.Span, ids *idset.Set) error {
	r := ids.Range
	leave, err := m.charging.enter(ctx, r)
	if err != nil {
		return fmt.Errorf("waiting to charge in range %s: %w", r, err)
	}
	defer leave()
	gaps, dropped, err := m.cfg.Charges.Verdict(spec.ID, span)
	if err != nil {
		return fmt.Errorf("reading who is charged: %w", err)
	}
	for _, d := range dropped {
		d.Set.Release()
	}
	for _, gap := range gaps {
		part := ids.Clone()
		if part.KeepSpan(gap); part.IsEmpty() {
			part.Release()
			continue
		}
		e, err := m.judge(ctx, spec, lists, gap, part)
		if err != nil {
			return err
		}
		if err := m.cfg.Charge(ctx, e); err != nil {
			return fmt.Errorf("charging block %s of %s: %w", gap, spec.ID, err)
		}
	}
	return nil
}

// judge works out a charge of the ids of a span, which become its own.
func (m *Maker) judge(ctx context.Context, spec job.Spec, lists filters.Lists, span job.Span, ids *idset.Set) (*ledger.Charge, error) {
	done, err := m.turn(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	now := m.cfg.Now()
	e := &ledger.Charge{Job: spec.ID, Span: span, IDs: uint32(ids.Card())}
	e.Terms, _ = m.cfg.Policy.terms(spec, now)
	book := m.cfg.Charges
	if !e.Terms.Once.IsZero() {
		lists.Marked = setFunc(func(r job.Range) (*idset.Set, error) { return book.Marked(r, e.Terms.Once, hourOf(now)) })
	}
	full := func(account ledger.AccountOf, most int) filters.Set {
		return setFunc(func(r job.Range) (*idset.Set, error) {
			if most == 0 {
				s := idset.New(r)
				s.AddSpan(r.Span())
				return s, nil
			}
			return book.AtLeast(r, e.Terms.Day, account, most)
		})
	}
	if e.Terms.All {
		lists.Full = append(lists.Full, full(0, m.cfg.Policy.released(now)))
	}
	if e.Terms.Account != 0 {
		lists.Full = append(lists.Full, full(e.Terms.Account, m.cfg.Policy.AccountCap))
	}
	batch, err := m.cfg.Filters(lists).Run(ctx, ids)
	if err != nil {
		return nil, err
	}
	batch.Keep.Release()
	for _, d := range batch.Dropped {
		e.Dropped = append(e.Dropped, ledger.Drop{Reason: d.Reason, Set: d.Set})
	}
	return e, nil
}

// setFunc makes a filters.Set of what reads it.
type setFunc func(job.Range) (*idset.Set, error)

// Range implements filters.Set.
func (f setFunc) Range(r job.Range) (*idset.Set, error) { return f(r) }

// turnstile lets one at a time into each range.
type turnstile struct {
	mu   sync.Mutex
	busy map[job.Range]chan struct{} // closed by whoever leaves
}

// enter waits for the range to be free.
func (t *turnstile) enter(ctx context.Context, r job.Range) (leave func(), err error) {
	for {
		t.mu.Lock()
		other := t.busy[r]
		if other == nil {
			mine := make(chan struct{})
			if t.busy == nil {
				t.busy = map[job.Range]chan struct{}{}
			}
			t.busy[r] = mine
			t.mu.Unlock()
			return func() {
				t.mu.Lock()
				defer t.mu.Unlock()
				delete(t.busy, r)
				close(mine)
			}, nil
		}
		t.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
