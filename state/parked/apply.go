package parked

import (
	"context"
	"encoding/binary"
	"fmt"

	"crier/internal/bin"
	"crier/internal/idset"
	"crier/job"
	"crier/state/ledger"
)

// Apply takes in one journal record. Records must come in the order of the
// ledger; one that was applied before changes nothing. An error leaves the index
// as it was after the last whole entry.
func (x *Index) Apply(ctx context.Context, st ledger.Stored) ([]Change, error) {
	mark := x.mu.mark // written by this goroutine only
	if st.Seq < mark.Seq {
		return nil, nil
	}
	rec, err := ledger.ParseRecord(st.Data)
	if err != nil {
		return nil, fmt.Errorf("record %d: %w", st.Seq, err)
	}
	js := x.mu.journals[rec.Journal]
	resumed := st.Seq == mark.Seq && mark.Entry > 0
	if !js.sealed && !resumed && rec.N != js.next {
		return nil, fmt.Errorf("%w: record %d is %s/%d, want number %d", ErrLedger, st.Seq, rec.Journal, rec.N, js.next)
	}
	var changes []Change
	for i, e := range rec.Entries {
		at := Number{st.Seq, uint16(i)}
		if st.Seq == mark.Seq && at.Entry < mark.Entry {
			continue
		}
		t := &txn{x: x, at: at, ref: job.Ref{Journal: rec.Journal, N: rec.N, Entry: uint16(i)}, js: js}
		t.js.next = rec.N + 1
		if !js.sealed { // rule 3: whatever follows a seal is void
			if err := t.entry(ctx, e); err != nil {
				return changes, fmt.Errorf("entry %d of record %d (%s/%d): %w", i, st.Seq, rec.Journal, rec.N, err)
			}
		}
		if err := t.commit(i == len(rec.Entries)-1); err != nil {
			return changes, err
		}
		js = t.js
		changes = append(changes, t.changes...)
	}
	return changes, nil
}

// txn is the work of one entry: one atomic write.
type txn struct {
	x       *Index
	b       Batch
	at      Number
	ref     job.Ref
	js      journal
	opened  []*Open
	closed  []string
	changes []Change
}

func (t *txn) entry(ctx context.Context, e ledger.Entry) error {
	switch e := e.(type) {
	case ledger.Open:
		return nil
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
	case ledger.Release:
		t.b.Put(releaseKey(t.ref.Journal, e.Job, e.Slice), nil)
		return nil
	case ledger.Seal:
		t.js.sealed = true
		return nil
	}
	return fmt.Errorf("%w: an entry of type %T", ErrLedger, e)
}

func releaseKey(j job.Journal, id job.ID, slice uint32) []byte {
	return globalKey(rowRelease, journalBytes(j), id[:], binary.BigEndian.AppendUint32(nil, slice))
}

// commit writes the entry's changes and the watermark behind it.
func (t *txn) commit(last bool) error {
	next := Number{t.at.Seq, t.at.Entry + 1}
	if last {
		next = Number{t.at.Seq + 1, 0}
	}
	var w, j bin.Writer
	w.Uint(next.Seq)
	w.Uint(uint64(next.Entry))
	t.b.Put(globalKey(rowMark), w.B)
	j.Uint(t.js.next)
	j.Bool(t.js.sealed)
	t.b.Put(globalKey(rowJournal, journalBytes(t.ref.Journal)), j.B)
	mu := &t.x.mu
	mu.Lock() // Where must not see half of an entry
	defer mu.Unlock()
	if err := t.x.kv.Write(&t.b); err != nil {
		return fmt.Errorf("writing the parked index: %w", err)
	}
	mu.mark = next
	mu.journals[t.ref.Journal] = t.js
	for _, k := range t.closed {
		delete(mu.open, k)
	}
	for _, o := range t.opened {
		mu.open[string(openKey(o.Range, o.Job, o.Ref, o.Inc))] = o
	}
	return nil
}

// count applies a difference to the job's cell and total. A tally is unsigned
// and wraps, so that a difference may hold negative numbers.
func (t *txn) count(r job.Range, id job.ID, d *Tally, span *job.Span, parked *idset.Set) error {
	cell, err := t.x.Cell(r, id)
	if err != nil {
		return err
	}
	if span != nil && !cell.addSpan(*span) {
		return fmt.Errorf("%w: block %s of %s is reserved already", ErrLedger, *span, id)
	}
	total, err := t.x.Total(id)
	if err != nil {
		return err
	}
	cell.Counts.add(d, 1)
	total.add(d, 1)
	t.b.Put(cellKey(r, id), cell.bytes())
	var w bin.Writer
	total.write(&w)
	t.b.Put(globalKey(rowTotal, id[:]), w.B)
	t.changes = append(t.changes, Change{Job: id, Range: r, Parked: parked, Total: total})
	return nil
}

func (t *txn) reserve(ctx context.Context, e *ledger.Reserve) error {
	r := e.Range()
	if b, err := t.x.kv.Get(releaseKey(t.ref.Journal, e.Job, e.Slice)); err != nil || b != nil {
		return err // rule 3: a reserve after its slice's release is void
	}
	if e.Span.IsEmpty() || (e.Span.Hi-1)>>job.RangeBits != uint64(r) {
		return fmt.Errorf("%w: block %s leaves its range", ErrLedger, e.Span)
	}
	rest, err := t.x.packages.PackageRange(ctx, e.Job, r)
	if err != nil {
		return fmt.Errorf("reading the package of %s: %w", e.Job, err)
	}
	rest.KeepSpan(e.Span)
	d := Tally{Reserved: uint64(e.IDs)}
	left := uint64(e.IDs)
	for _, drop := range e.Dropped {
		n := uint64(drop.Set.Card())
		*d.at(job.Dropped, drop.Reason) += n
		left -= n
		rest.AndNot(drop.Set)
	}
	n, err := t.openTargets(e.Job, r, e.Targets, rest)
	if err != nil {
		return err
	}
	d.HandedOff += n
	left -= n
	if uint64(rest.Card()) != left {
		return fmt.Errorf("%w: block %s of %s: package, drops and targets leave %d ids, the reserve says %d", ErrLedger, e.Span, e.Job, rest.Card(), left)
	}
	*d.at(e.Rest, job.NoReason) += left
	if e.Rest != job.Parked {
		rest.Release()
		rest = nil
	} else if err := t.park(r, e.Job, rest, false); err != nil {
		return err
	}
	return t.count(r, e.Job, &d, &e.Span, rest)
}

// openTargets opens one row per incarnation, takes the targets out of from (if
// it is given) and counts them.
func (t *txn) openTargets(id job.ID, r job.Range, targets ledger.Targets, from *idset.Set) (uint64, error) {
	var n uint64
	for i, inc := range targets.Incs {
		s := targets.Sets[i]
		if s.IsEmpty() {
			continue
		}
		if s.Range != r {
			return 0, fmt.Errorf("%w: targets of range %s in a block of range %s", ErrLedger, s.Range, r)
		}
		n += uint64(s.Card())
		if from != nil {
			from.AndNot(s)
		}
		o := &Open{Ref: t.ref, At: t.at, Inc: inc, Job: id, Range: r, Set: s, whole: true}
		t.putOpen(o)
	}
	return n, nil
}

func (t *txn) putOpen(o *Open) {
	var w bin.Writer
	w.Uint(o.At.Seq)
	w.Uint(uint64(o.At.Entry))
	w.Bool(o.whole)
	if !o.whole {
		w.Set(o.Set)
	}
	t.b.Put(openKey(o.Range, o.Job, o.Ref, o.Inc), w.B)
	t.opened = append(t.opened, o)
}

func (t *txn) drain(e *ledger.Drain) error {
	union := e.Targets.Union(e.Range)
	defer union.Release()
	if err := t.unpark(e.Range, e.Job, union); err != nil {
		return err
	}
	n, err := t.openTargets(e.Job, e.Range, e.Targets, nil)
	if err != nil {
		return err
	}
	return t.count(e.Range, e.Job, &Tally{Parked: -n, HandedOff: n}, nil, nil)
}

func (t *txn) outcome(e *ledger.Outcome) error {
	if err := t.unpark(e.Range, e.Job, e.Set); err != nil {
		return err
	}
	n := uint64(e.Set.Card())
	d := Tally{Parked: -n}
	*d.at(e.Outcome, e.Reason) += n
	return t.count(e.Range, e.Job, &d, nil, nil)
}

// park writes the rows of newly parked recipients; the set is kept by the caller.
func (t *txn) park(r job.Range, id job.ID, s *idset.Set, flagged bool) error {
	for n := range pages {
		if words := pageOf(s, n); words != nil {
			p := page(words)
			t.b.Put(parkedKey(r, n, id, t.at, flagged), p.bytes())
		}
	}
	return nil
}

// unpark takes recipients out of their rows. Each must be parked for the job.
func (t *txn) unpark(r job.Range, id job.ID, s *idset.Set) error {
	want, found := s.Card(), 0
	for n := range pages {
		words := pageOf(s, n)
		if words == nil {
			continue
		}
		prefix := jobPagePrefix(r, n, id)
		err := t.x.kv.Scan(prefix, after(prefix), func(k, v []byte) error {
			var p, gone page
			if err := parsePage(v, &p); err != nil {
				return err
			}
			for i, w := range words {
				gone[i] = p[i] & w
				p[i] &^= w
			}
			found += gone.card()
			switch {
			case gone.isEmpty():
			case p.isEmpty():
				t.b.Delete(k)
			default:
				t.b.Put(k, p.bytes())
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if found != want {
		return fmt.Errorf("%w: %d recipients of %s leave the park of range %s, %d are there", ErrLedger, want, id, r, found)
	}
	return nil
}
