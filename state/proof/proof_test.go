package proof_test

import (
	"context"
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
	res, err := (&proof.Prover{Log: log}).Reconcile(ctx, id, hundred{}, sent)
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

func TestUnknownJobIsNotFound(t *testing.T) {
	_, err := (&proof.Prover{Log: ledger.NewMemory(ledger.MemoryConfig{})}).Reconcile(t.Context(), id, hundred{}, false)
	if job.CodeOf(err) != job.CodeNotFound {
		t.Fatalf("%v, want not found", err)
	}
}
