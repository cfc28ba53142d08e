package proof_test

import (
	"context"
	"errors"
	"iter"
	"strings"
	"testing"

	"crier/internal/idset"
	"crier/job"
	"crier/state/ledger"
	"crier/state/proof"
)

// What valid ledgers mean is tested beside the parked index, against the naive
// history there. Here are ledgers that cannot be true.

var (
	id      = job.ID{1}
	journal = job.Journal{Worker: "w", Incarnation: 1}
	inc     = job.Incarnation{Gateway: "g", Start: 1}
	other   = job.Incarnation{Gateway: "h", Start: 1}
)

// hundred is a package of the ids 0 to 99.
type hundred struct{}

// Ranges implements proof.Package.
func (hundred) Ranges() iter.Seq2[job.Range, int] {
	return func(yield func(job.Range, int) bool) { yield(0, 100) }
}

// Range implements proof.Package.
func (hundred) Range(r job.Range) (*idset.Set, error) {
	if r != 0 {
		return idset.New(r), nil
	}
	return set(0, 100), nil
}

// Cardinality implements proof.Package.
func (hundred) Cardinality() uint64 { return 100 }

func set(lo, hi uint64) *idset.Set {
	s := idset.New(0)
	s.AddSpan(job.Span{Lo: lo, Hi: hi})
	return s
}

// reserve takes [lo, hi): its first ten are dropped, the next ten handed off.
func reserve(lo, hi uint64) *ledger.Reserve {
	return &ledger.Reserve{Job: id, Span: job.Span{Lo: lo, Hi: hi}, IDs: uint32(hi - lo), Rest: job.Parked,
		Dropped: []ledger.Drop{{Reason: job.ReasonRelation, Set: set(lo, lo+10)}},
		Targets: ledger.Targets{Incs: []job.Incarnation{inc}, Sets: []*idset.Set{set(lo+10, lo+20)}}}
}

func changed[E any](e E, change func(E)) E { change(e); return e }

func done(n uint64, change func(*ledger.Done)) *ledger.Done {
	d := &ledger.Done{Job: id, Of: job.Ref{Journal: journal, N: n}, Inc: inc}
	if change != nil {
		change(d)
	}
	return d
}

// reconcile stores one entry a record, and reconciles.
func reconcile(t *testing.T, sent bool, entries ...ledger.Entry) proof.Result {
	t.Helper()
	return reconcileFiltered(t, nil, sent, entries...)
}

func reconcileFiltered(t *testing.T, filters []proof.Filter, sent bool, entries ...ledger.Entry) proof.Result {
	t.Helper()
	ctx := context.Background()
	log := ledger.NewMemory(ledger.MemoryConfig{})
	if _, err := log.Append(ctx, ledger.JobSubject(id), 0, nil); err != nil {
		t.Fatal(err)
	}
	var seq uint64
	var err error
	for n, e := range entries {
		rec := ledger.Record{Journal: journal, N: uint64(n), Entries: []ledger.Entry{e}}
		if seq, err = log.Append(ctx, ledger.JournalSubject(journal), seq, rec.Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	res, err := (&proof.Prover{Log: log}).Reconcile(ctx, id, hundred{}, sent, filters...)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func TestWhatIsTrueIsConserved(t *testing.T) {
	res := reconcile(t, true, reserve(0, 100), done(0, func(d *ledger.Done) { d.NotHere = set(15, 20) }),
		&ledger.Outcome{Job: id, Outcome: job.Expired, Set: set(90, 100)})
	c := res.Counts
	if !res.Conserved() || c.Package != 100 || c.Dropped[job.ReasonRelation] != 10 || c.Delivered != 5 || c.Parked != 75 || c.Expired != 10 {
		t.Fatalf("%+v, %v", c, res.Violations)
	}
}

func TestWhatCannotBeTrueIsNotConserved(t *testing.T) {
	for _, c := range []struct {
		name    string
		entries []ledger.Entry
		says    string
	}{
		{"nothing is reserved of a sent job", nil, "100 recipients are pending"},
		{"a block is missing", []ledger.Entry{reserve(0, 60)}, "40 recipients are pending"},
		{"a block is reserved twice", []ledger.Entry{reserve(0, 60), reserve(40, 100)}, "were reserved before"},
		{"a block says another size", []ledger.Entry{changed(reserve(0, 100), func(r *ledger.Reserve) { r.IDs = 99 })}, "the package has 100 there"},
		{"a drop outside of the block", []ledger.Entry{changed(reserve(0, 100), func(r *ledger.Reserve) { r.Dropped[0].Set = set(95, 105) })}, "not where"},
		{"two drops of one", []ledger.Entry{changed(reserve(0, 100), func(r *ledger.Reserve) {
			r.Dropped = append(r.Dropped, ledger.Drop{Reason: job.ReasonSuppressed, Set: set(9, 10)})
		})}, "not where"},
		{"a target who is dropped", []ledger.Entry{changed(reserve(0, 100), func(r *ledger.Reserve) { r.Targets.Sets[0] = set(5, 20) })}, "not where"},
		{"a done of no reserve", []ledger.Entry{reserve(0, 100), done(7, nil)}, "there is no such reserve"},
		{"a done at another gateway", []ledger.Entry{reserve(0, 100), done(0, func(d *ledger.Done) { d.Inc = other })}, "there is no such reserve"},
		{"a done about others", []ledger.Entry{reserve(0, 100), done(0, func(d *ledger.Done) { d.NotHere = set(30, 31) })}, "outside its reserve"},
		{"a done keeps others waiting", []ledger.Entry{reserve(0, 100), done(0, func(d *ledger.Done) { d.Waiting = set(0, 20) })}, "outside its reserve"},
		{"a drain of who is delivered", []ledger.Entry{reserve(0, 100), done(0, nil),
			&ledger.Drain{Job: id, Targets: ledger.Targets{Incs: []job.Incarnation{inc}, Sets: []*idset.Set{set(12, 13)}}}}, "not where"},
		{"who is handed off expires", []ledger.Entry{reserve(0, 100), &ledger.Outcome{Job: id, Outcome: job.Expired, Set: set(12, 13)}}, "not where"},
		{"who is in no package expires", []ledger.Entry{reserve(0, 100), &ledger.Outcome{Job: id, Outcome: job.Expired, Set: set(200, 201)}}, "not where"},
		{"a range without anybody", []ledger.Entry{reserve(0, 100), &ledger.Outcome{Job: id, Range: 7, Outcome: job.Expired, Set: idset.New(7)}}, "has nobody there"},
	} {
		t.Run(c.name, func(t *testing.T) {
			res := reconcile(t, true, c.entries...)
			if res.Conserved() || !strings.Contains(strings.Join(res.Violations, "; "), c.says) {
				t.Fatalf("conserved %v: %v; want %q", res.Conserved(), res.Violations, c.says)
			}
		})
	}
}

// filter drops some of the hundred for a reason.
type filter struct {
	reason job.Reason
	drops  *idset.Set
	err    error
}

func (f filter) Reason() job.Reason { return f.reason }

func (f filter) Refuse(_ context.Context, keep *idset.Set) (*idset.Set, error) {
	if f.err != nil {
		return nil, f.err
	}
	out := f.drops.Clone()
	out.And(keep)
	return out, nil
}

// What filters did is done again by the lists that the job recorded. In these ledgers 0 to
// 9 are dropped for the relation, 10 to 19 for targeting, and 20 to 29 for the control
// group; 30 to 39 are delivered, and the rest is parked, in doubt, expired or failed.
func TestFiltersAreAskedAgain(t *testing.T) {
	ledgerOf := []ledger.Entry{
		&ledger.Reserve{Job: id, Span: job.Span{Lo: 0, Hi: 90}, IDs: 90, Rest: job.Parked,
			Dropped: []ledger.Drop{{Reason: job.ReasonRelation, Set: set(0, 10)}, {Reason: job.ReasonTargeting, Set: set(10, 20)}, {Reason: job.ReasonControl, Set: set(20, 30)}},
			Targets: ledger.Targets{Incs: []job.Incarnation{inc, other}, Sets: []*idset.Set{set(30, 50), set(50, 60)}}},
		done(0, func(d *ledger.Done) { d.Refused = set(40, 50) }),
		&ledger.Doubt{Job: id, Of: job.Ref{Journal: journal}, Inc: other},
		&ledger.Outcome{Job: id, Outcome: job.Dropped, Reason: job.ReasonParkCap, Set: set(60, 65)},
		&ledger.Outcome{Job: id, Outcome: job.Expired, Set: set(65, 70)},
		&ledger.Reserve{Job: id, Span: job.Span{Lo: 90, Hi: 100}, IDs: 10, Rest: job.Cancelled},
	}
	const relation, targeting, control = job.ReasonRelation, job.ReasonTargeting, job.ReasonControl
	for _, c := range []struct {
		name   string
		reason job.Reason
		drops  [][2]uint64
		says   string // "": nothing is wrong
	}{
		{"as it was", relation, [][2]uint64{{0, 10}}, ""},
		{"as it was", targeting, [][2]uint64{{10, 20}}, ""},
		{"as it was", control, [][2]uint64{{20, 30}}, ""},
		{"whom an earlier one dropped", control, [][2]uint64{{0, 30}}, ""},
		{"who was never filtered, or may not have been", targeting, [][2]uint64{{10, 20}, {65, 70}, {90, 100}}, ""},
		{"one was dropped who would not be", targeting, [][2]uint64{{10, 19}}, "1 recipients were dropped for targeting"},
		{"nobody would be", control, nil, "10 recipients were dropped for control_group"},
		{"a later one dropped him", relation, [][2]uint64{{0, 11}}, "1 recipients were not dropped for relation"},
		{"a later one dropped him", targeting, [][2]uint64{{10, 20}, {29, 30}}, "1 recipients were not dropped for targeting"},
		{"he got it", control, [][2]uint64{{20, 31}}, "1 recipients were not dropped for control_group"},
		{"it failed", control, [][2]uint64{{20, 30}, {40, 42}}, "2 recipients were not dropped"},
		{"he is in doubt", control, [][2]uint64{{20, 30}, {55, 56}}, "1 recipients were not dropped"},
		{"he was parked once", control, [][2]uint64{{20, 30}, {60, 61}}, "1 recipients were not dropped"},
		{"he is parked", control, [][2]uint64{{20, 30}, {80, 83}}, "3 recipients were not dropped"},
	} {
		drops := idset.New(0)
		for _, d := range c.drops {
			drops.Or(set(d[0], d[1]))
		}
		res := reconcileFiltered(t, []proof.Filter{filter{reason: c.reason, drops: drops}}, true, ledgerOf...)
		if res.Conserved() != (c.says == "") || !strings.Contains(strings.Join(res.Violations, "; "), c.says) {
			t.Errorf("%s, %s: %v; want %q", c.name, c.reason, res.Violations, c.says)
		}
	}
	log := ledger.NewMemory(ledger.MemoryConfig{})
	if _, err := log.Append(t.Context(), ledger.JobSubject(id), 0, nil); err != nil {
		t.Fatal(err)
	}
	gone := errors.New("the segment is gone")
	if _, err := (&proof.Prover{Log: log}).Reconcile(t.Context(), id, hundred{}, false, filter{err: gone}); !errors.Is(err, gone) {
		t.Errorf("a list that cannot be read: %v", err)
	}
}

func TestUnknownJobIsNotFound(t *testing.T) {
	_, err := (&proof.Prover{Log: ledger.NewMemory(ledger.MemoryConfig{})}).Reconcile(t.Context(), id, hundred{}, false)
	if job.CodeOf(err) != job.CodeNotFound {
		t.Fatalf("%v, want not found", err)
	}
}
