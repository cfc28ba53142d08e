package charge_test

import (
	"testing"

	"crier/internal/idset"
	"crier/job"
	"crier/state/ledger"
	"crier/state/parked/charge"
	"crier/state/parked/kv"
)

// TestErase: what was charged before an erasure counts no longer, for nobody but who was erased,
// and is not refunded, neither below nothing nor out of what is charged later; that is.
func TestErase(t *testing.T) {
	const day, who, other = 20_500, 7, 8
	store := kv.NewMemory()
	book := charge.Book{Rows: store}
	do := func(fn func(charge.Writes) error) {
		t.Helper()
		var b kv.Batch
		if err := fn(&b); err != nil {
			t.Fatal(err)
		}
		if err := store.Write(&b); err != nil {
			t.Fatal(err)
		}
	}
	span := job.Span{Lo: who, Hi: other + 1}
	pay := func(n byte, once job.OnceKey) {
		t.Helper()
		e := &ledger.Charge{Job: job.ID{n}, Span: span, IDs: 2, Terms: ledger.Terms{Day: day, All: true, Account: ledger.OneAccount(3), Once: once, Until: 24*day + 70}}
		do(func(w charge.Writes) error { return book.Apply(w, e, idset.Of(who, other), []job.Span{span}) })
	}
	refund := func(n byte) {
		t.Helper()
		do(func(w charge.Writes) error { return book.Refund(w, job.ID{n}, idset.Of(who, other)) })
	}
	want := func(when string, mine, theirs int, marked ...uint32) {
		t.Helper()
		for r, want := range map[job.Recipient]int{who: mine, other: theirs} {
			for _, account := range []ledger.AccountOf{0, ledger.OneAccount(3)} {
				if n, err := book.Used(r, day, account); err != nil || n != want {
					t.Errorf("%s %s is charged %d of %d, %v; want %d", when, r, n, account, err, want)
				}
			}
		}
		if s, err := book.Marked(0, job.OnceKey{1}, 24*day); err != nil || !s.Equal(idset.Of(marked...)) {
			t.Errorf("%s got what is sent once, %v: %v; want %v", when, err, s, marked)
		}
	}
	pay(1, job.OnceKey{})
	pay(2, job.OnceKey{1})
	want("before", 2, 2, who, other)
	do(func(w charge.Writes) error { return book.Erase(w, who) })
	want("erased", 0, 2, other)
	refund(1)
	want("refunded", 0, 1, other)
	pay(3, job.OnceKey{1})
	want("charged again", 1, 2, who, other)
	refund(2)
	want("with a second refund", 1, 1, who, other)
	refund(3)
	want("with the last refund", 0, 0)
	do(func(w charge.Writes) error { return book.Erase(w, who) })
	want("erased again", 0, 0)
}
