package parked

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"crier/internal/idset"
	"crier/job"
	"crier/state/ledger"
	"crier/state/parked/kv"
	"crier/state/parked/numbers"
	"crier/state/parked/opens"
	"crier/state/parked/page"
	"crier/state/parked/row"
)

// Apply takes in records of journals and erasures, which readers see together. They must come in
// the order of the ledger; one that was applied before changes nothing. An error leaves the index as it was after
// the last whole entry, or one before it; what changed until then is given. If it is the store's,
// nothing more is taken in: nobody knows what the store has until the index is opened again.
func (x *Index) Apply(ctx context.Context, records ...ledger.Stored) ([]Change, error) {
	if x.failed != nil {
		return nil, x.failed
	}
	ahead := newAhead(x)
	for _, st := range records {
		if err := ahead.record(ctx, st); err != nil {
			ahead.pages = page.Kept{} // half of an entry may be in what it keeps
			return ahead.changes, errors.Join(err, ahead.flush())
		}
	}
	return ahead.changes, ahead.flush()
}

// record takes in one record.
func (a *ahead) record(ctx context.Context, st ledger.Stored) error {
	if st.Seq < a.mark.Seq {
		return nil
	}
	if ledger.IsErasure(st.Subject) {
		return a.erasure(st)
	}
	rec, err := ledger.ParseRecord(st.Data)
	if err != nil {
		return fmt.Errorf("record %d: %w", st.Seq, err)
	}
	js := a.journal(rec.Journal)
	resumed := st.Seq == a.mark.Seq && a.mark.Entry > 0
	if !js.sealed && !resumed && rec.N != js.next {
		return fmt.Errorf("%w: record %d is %s/%d, want number %d", ErrLedger, st.Seq, rec.Journal, rec.N, js.next)
	}
	if len(rec.Entries) == 0 {
		return fmt.Errorf("%w: record %d (%s/%d) has no entries", ErrLedger, st.Seq, rec.Journal, rec.N)
	}
	from := 0
	if st.Seq == a.mark.Seq {
		from = int(a.mark.Entry)
	}
	a.expect(rec.Entries[from:])
	t := &txn{x: a.x, ahead: a}
	for i := from; i < len(rec.Entries); i++ {
		t.begin(Number{st.Seq, uint16(i)}, job.Ref{Journal: rec.Journal, N: rec.N, Entry: uint16(i)}, a.journal(rec.Journal))
		t.js.next = rec.N + 1
		if !t.js.sealed { // rule 3: whatever follows a seal is void
			if err := t.entry(ctx, rec.Entries[i]); err != nil {
				return fmt.Errorf("entry %d of record %d (%s/%d): %w", i, st.Seq, rec.Journal, rec.N, err)
			}
		}
		next := Number{st.Seq, uint16(i) + 1}
		if i == len(rec.Entries)-1 {
			next = Number{st.Seq + 1, 0}
		}
		if err := a.take(t, next); err != nil {
			return err
		}
	}
	return nil
}

// erasure takes in that a recipient asked to be forgotten.
func (a *ahead) erasure(st ledger.Stored) error {
	e, err := ledger.ParseErasure(st)
	if err != nil {
		return err
	}
	t := &txn{x: a.x, ahead: a}
	if err := t.charges().Erase(&t.b, e.Recipient); err != nil {
		return fmt.Errorf("erasing what recipient %s was charged, record %d: %w", e.Recipient, st.Seq, err)
	}
	return a.take(t, Number{Seq: st.Seq + 1})
}

// txn is the work of one entry: all of it or nothing.
type txn struct {
	x       *Index
	ahead   *ahead // what entries see that follow it
	b       kv.Batch
	at      Number
	ref     job.Ref
	js      journal
	opened  []*opens.Open
	closed  []opens.Name
	late    []*opens.Open // new states of doubted reserves; without a set: gone
	parked  []*idset.Set  // copies
	fresh   Change        // if anybody is in it
	counted bool          // the total of a job is another
	job     job.ID        // which
	total   Tally         // of it, after the entry
}

// begin makes it the work of another entry, in the memory of the one before, which is taken.
func (t *txn) begin(at Number, ref job.Ref, js journal) {
	*t = txn{x: t.x, ahead: t.ahead, at: at, ref: ref, js: js, b: kv.Batch{Ops: t.b.Ops[:0]},
		opened: t.opened[:0], closed: t.closed[:0], late: t.late[:0], parked: t.parked[:0]}
}

func (t *txn) entry(ctx context.Context, e ledger.Entry) error {
	switch e := e.(type) {
	case ledger.Open:
		return nil
	case *ledger.Charge:
		return t.charge(ctx, e)
	case *ledger.Reserve:
		return t.reserve(ctx, e)
	case *ledger.Drain:
		return t.drain(e)
	case *ledger.Done:
		return t.done(e)
	case *ledger.Doubt:
		return t.doubt(e)
	case *ledger.Decide:
		return t.decide(e)
	case *ledger.Outcome:
		return t.outcome(e)
	case ledger.Seal:
		t.js.sealed = true
		return nil
	}
	return fmt.Errorf("%w: an entry of type %T", ErrLedger, e)
}

// count applies a difference to the job's total, once an entry. A tally is unsigned
// and wraps, so that a difference may hold negative numbers.
func (t *txn) count(id job.ID, d *Tally) (err error) {
	t.counted, t.job = true, id
	if t.total, err = t.ahead.total(id); err == nil {
		t.total.Add(d)
	}
	return err
}

// block gives the ids of a job's package in a span, of which an entry says how many
// there are.
func (t *txn) block(ctx context.Context, id job.ID, span job.Span, says uint32) (*idset.Set, error) {
	r := job.Range(span.Lo >> job.RangeBits)
	if span.IsEmpty() || (span.Hi-1)>>job.RangeBits != uint64(r) {
		return nil, fmt.Errorf("%w: block %s leaves its range", ErrLedger, span)
	}
	ids, err := t.x.packages.PackageRange(ctx, id, r)
	if err != nil {
		return nil, fmt.Errorf("reading the package of %s: %w", id, err)
	}
	ids.KeepSpan(span)
	if n := ids.Card(); n != int(says) {
		return nil, fmt.Errorf("%w: block %s of %s has %d ids, the ledger says %d", ErrLedger, span, id, n, says)
	}
	return ids, nil
}

// drop takes out of a block's rest whom filters dropped, and counts them.
func drop(d *Tally, rest *idset.Set, drops ...[]ledger.Drop) error {
	for _, drop := range slices.Concat(drops...) {
		if !reasonOf(job.Dropped, drop.Reason) {
			return fmt.Errorf("%w: it drops for reason %s", ErrLedger, drop.Reason)
		}
		if err := takeOut(rest, drop.Set); err != nil {
			return fmt.Errorf("dropping for %s: %w", drop.Reason, err)
		}
		d.Gain(job.Dropped, drop.Reason, uint64(drop.Set.Card()))
	}
	return nil
}

// charge charges recipients. What is reserved by then is not charged any more.
func (t *txn) charge(ctx context.Context, e *ledger.Charge) error {
	ids, err := t.block(ctx, e.Job, e.Span, e.IDs)
	if err != nil {
		return err
	}
	reserved, err := t.reserved(e.Range(), e.Job)
	if err != nil {
		return err
	}
	if err := t.charges().Apply(&t.b, e, ids, reserved.Gaps(e.Span)); err != nil {
		return fmt.Errorf("%w: charging block %s of %s: %w", ErrLedger, e.Span, e.Job, err)
	}
	return nil
}

func (t *txn) reserve(ctx context.Context, e *ledger.Reserve) error {
	r := e.Range()
	switch e.Rest {
	case job.Parked, job.Cancelled, job.Expired, job.Recalled:
	default:
		return fmt.Errorf("%w: block %s of %s leaves its rest %s", ErrLedger, e.Span, e.Job, e.Rest)
	}
	rest, err := t.block(ctx, e.Job, e.Span, e.IDs)
	if err != nil {
		return err
	}
	d := Tally{Reserved: uint64(e.IDs)}
	verdicts, err := t.verdicts(e)
	if err != nil {
		return err
	}
	if err := drop(&d, rest, verdicts, e.Dropped); err != nil {
		return fmt.Errorf("block %s of %s: %w", e.Span, e.Job, err)
	}
	refund := idset.New(r)
	for _, drop := range e.Dropped {
		refund.Or(drop.Set)
	}
	for _, s := range e.Targets.Sets {
		if err := takeOut(rest, s); err != nil {
			return fmt.Errorf("targets of block %s of %s: %w", e.Span, e.Job, err)
		}
	}
	if d.HandedOff, err = t.openTargets(e.Job, r, e.Targets); err != nil {
		return err
	}
	d.Gain(e.Rest, job.NoReason, uint64(rest.Card()))
	if e.Rest != job.Parked {
		refund.Or(rest)
	}
	if err := t.charges().Refund(&t.b, e.Job, refund); err != nil {
		return err
	}
	if e.Rest != job.Parked {
		rest.Release()
	} else if err := t.park(r, e.Job, rest, false); err != nil {
		return err
	} else if !rest.IsEmpty() {
		t.fresh = Change{e.Job, r, rest}
	}
	if err := t.cover(r, e.Job, e.Span); err != nil {
		return err
	}
	return t.count(e.Job, &d)
}

// cover notes that a block is reserved.
func (t *txn) cover(r job.Range, id job.ID, s job.Span) error {
	reserved, err := t.reserved(r, id)
	if err != nil {
		return err
	}
	if !reserved.Add(s) {
		return fmt.Errorf("%w: block %s of %s is reserved already", ErrLedger, s, id)
	}
	t.b.Put(reservedKey(r, id), reserved.Bytes())
	return nil
}

// verdicts ends the charges of a block that are wholly reserved with it, and gives whom
// they dropped of it.
func (t *txn) verdicts(e *ledger.Reserve) ([]ledger.Drop, error) {
	if charged, err := t.charges().Has(e.Range(), e.Job); err != nil || !charged {
		return nil, err
	}
	reserved, err := t.reserved(e.Range(), e.Job)
	if err != nil {
		return nil, err
	}
	reserved.Add(e.Span) // cover refuses one that is reserved
	return t.charges().Reserved(&t.b, e.Job, e.Span, func(s job.Span) bool { return len(reserved.Gaps(s)) == 0 })
}

// takeOut takes a set out of what is left of a block; all of it must be there.
func takeOut(rest, s *idset.Set) error {
	if s.IsEmpty() {
		return nil
	}
	before := rest.Card()
	if s.Range == rest.Range {
		rest.AndNot(s)
	}
	if n := s.Card() - (before - rest.Card()); n != 0 {
		return fmt.Errorf("%w: %d ids are not in the block, or twice", ErrLedger, n)
	}
	return nil
}

// reasonOf reports whether a reason goes with an outcome.
func reasonOf(o job.Outcome, r job.Reason) bool {
	switch o {
	case job.Dropped:
		return job.NoReason < r && r <= job.SuppressedParked
	case job.Failed:
		return job.ReasonRefused <= r && r <= job.ReasonUnknown
	}
	return r == job.NoReason
}

// openTargets opens the targets at each incarnation and counts them.
func (t *txn) openTargets(id job.ID, r job.Range, targets ledger.Targets) (uint64, error) {
	var n uint64
	seen := make(map[job.Incarnation]bool, len(targets.Incs))
	for i, inc := range targets.Incs {
		s := targets.Sets[i]
		if s.IsEmpty() {
			continue
		}
		if s.Range != r || seen[inc] {
			return 0, fmt.Errorf("%w: targets of range %s at %s in a block of range %s (twice: %v)", ErrLedger, s.Range, inc, r, seen[inc])
		}
		seen[inc] = true
		n += uint64(s.Card())
		t.opened = append(t.opened, &opens.Open{Name: opens.Name{Range: r, Job: id, Ref: t.ref, Inc: inc}, Set: s, Seq: t.at.Seq})
	}
	return n, nil
}

func (t *txn) drain(e *ledger.Drain) error {
	if !inRange(e.Range, e.Targets.Sets...) {
		return fmt.Errorf("%w: a drain of %s leaves range %s", ErrLedger, e.Job, e.Range)
	}
	union := e.Targets.Union(e.Range)
	defer union.Release()
	if err := t.unpark(e.Range, e.Job, union); err != nil {
		return err
	}
	n, err := t.openTargets(e.Job, e.Range, e.Targets)
	if err != nil {
		return err
	}
	return t.count(e.Job, &Tally{Parked: -n, HandedOff: n})
}

func (t *txn) outcome(e *ledger.Outcome) error {
	if !e.Outcome.Terminal() || e.Outcome == job.Delivered || !reasonOf(e.Outcome, e.Reason) || !inRange(e.Range, e.Set) {
		return fmt.Errorf("%w: parked recipients of %s become %s (%s)", ErrLedger, e.Job, e.Outcome, e.Reason)
	}
	if err := t.unpark(e.Range, e.Job, e.Set); err != nil {
		return err
	}
	if err := t.charges().Refund(&t.b, e.Job, e.Set); err != nil {
		return err
	}
	n := uint64(e.Set.Card())
	d := Tally{Parked: -n}
	d.Gain(e.Outcome, e.Reason, n)
	return t.count(e.Job, &d)
}

// inRange reports whether all of the sets that have ids are of a range.
func inRange(r job.Range, sets ...*idset.Set) bool {
	for _, s := range sets {
		if !s.IsEmpty() && s.Range != r {
			return false
		}
	}
	return true
}

// park writes the rows of newly parked recipients; the set is kept by the caller. Those
// who are flagged may have seen the message: what they were charged is never refunded.
func (t *txn) park(r job.Range, id job.ID, s *idset.Set, flagged bool) error {
	if flagged {
		if err := t.charges().Seen(&t.b, id, s); err != nil {
			return err
		}
	}
	if s.IsEmpty() {
		return nil
	}
	t.parked = append(t.parked, s.Clone())
	of, err := t.numbers().Give(&t.b, id)
	if err != nil {
		return err
	}
	for n, words := range page.All(s) {
		p := page.Page(words)
		t.b.Create(parkedKey(r, n, of, t.at, flagged), p.Bytes())
		t.ahead.pages.Forget(page.ID{Range: r, Number: n})
	}
	return nil
}

// unpark takes recipients out of their rows. Each must be parked for the job.
func (t *txn) unpark(r job.Range, id job.ID, s *idset.Set) error {
	want, found := s.Card(), 0
	_, few := s.Few()
	of, err := t.numbers().Of(id)
	if err != nil {
		return err
	}
	for n, words := range page.All(s) {
		err := t.scanPage(r, n, of, few, func(v []byte) ([]byte, error) {
			var p, gone page.Page
			if err := page.Parse(v, &p); err != nil {
				return v, err
			}
			for i, w := range words {
				gone[i] = p[i] & w
				p[i] &^= w
			}
			found += gone.Card()
			switch {
			case gone.IsEmpty():
				return v, nil
			case p.IsEmpty():
				return nil, nil
			}
			return p.Bytes(), nil
		})
		if err != nil {
			return err
		}
		t.ahead.pages.Took(page.ID{Range: r, Number: n}, words)
	}
	if found != want {
		return fmt.Errorf("%w: %d recipients of %s leave the park of range %s, %d are there", ErrLedger, want, id, r, found)
	}
	return nil
}

// scanPage calls fn with the rows of a job in a page; it gives the row's new value, nil if it goes,
// or the old one. few says that the entry is about a handful of ids.
func (t *txn) scanPage(r job.Range, n int, of numbers.Number, few bool, fn func(value []byte) ([]byte, error)) error {
	prefix := page.JobPrefix(r, n, of)
	change := func(k, v []byte) ([]byte, error) {
		after, err := fn(v)
		switch {
		case err != nil:
		case after == nil:
			t.b.Delete(k)
		case !bytes.Equal(after, v):
			t.b.Put(k, after)
		}
		return after, err
	}
	scan := func(prefix []byte, fn func(k, v []byte) error) error {
		return t.ahead.rows.Scan(prefix, row.After(prefix), fn)
	}
	kept, err := t.ahead.pages.Has(page.ID{Range: r, Number: n}), error(nil)
	if kept == nil && few {
		kept, err = t.ahead.pages.Rows(page.ID{Range: r, Number: n}, func(fn func(k, v []byte) error) error { return scan(page.Prefix(r, n), fn) })
	}
	if err != nil {
		return err
	}
	if kept == nil {
		return scan(prefix, func(k, v []byte) error {
			_, err := change(k, v)
			return err
		})
	}
	for _, x := range page.With(kept, prefix) {
		if x.Value, err = change(x.Key, x.Value); err != nil {
			return err
		}
	}
	return nil
}
