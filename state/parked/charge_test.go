package parked_test

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"crier/internal/idset"
	"crier/job"
	"crier/state/ledger"
	"crier/state/parked"
)

// verdict is what a charge decided about one recipient of a job.
type verdict struct {
	refused  job.Reason // or, without one, it is charged
	terms    ledger.Terms
	seen     bool // perhaps
	refunded bool
	erased   bool // behind the charge
}

// counts reports whether a recipient was charged, and still is.
func (v *verdict) counts() bool { return v.refused == job.NoReason && !v.refunded && !v.erased }

// erase makes the erasure of somebody who is in a package: mostly of one who waits for what
// they were charged for, and might have it refunded.
func (h *history) erase() ledger.Stored {
	id, r := pick(h, testJobs), pick(h, testRanges)
	all := h.members(id, r, func(*status) bool { return true })
	waits := h.members(id, r, func(s *status) bool { return s != nil && s.outcome == job.Parked })
	waits = slices.DeleteFunc(waits, func(i uint32) bool { v := h.verdicts[who{id, i}]; return v == nil || !v.counts() })
	if len(waits) > 0 && h.rng.IntN(5) > 0 {
		all = waits
	}
	gone := pick(h, all)
	for k, v := range h.verdicts {
		v.erased = v.erased || k.who == gone
	}
	h.seq += 1 + h.rng.Uint64N(3)
	st := ledger.Stored{Seq: h.seq, Subject: ledger.ErasureSubject(job.Recipient(gone)), Data: ledger.Erasure{Recipient: job.Recipient(gone)}.Bytes()}
	h.records = append(h.records, st)
	return st
}

var onceKeys = []job.OnceKey{{}, {1}, {2}}

// charge makes a charge of a random span, which others may have charged or reserved.
func (h *history) charge(id job.ID, r job.Range) ledger.Entry {
	lo := uint64(r.Lo()) + h.rng.Uint64N(regionSize)
	hi := min(uint64(r.Lo())+regionSize, lo+1+h.rng.Uint64N(regionSize/3))
	e := &ledger.Charge{Job: id, Span: job.Span{Lo: lo, Hi: hi}}
	if h.rng.IntN(8) == 0 {
		h.day++
	}
	e.Terms = ledger.Terms{Day: h.day - h.rng.Uint32N(2), All: h.rng.IntN(4) > 0, Account: ledger.AccountOf(h.rng.Uint32N(3))}
	if e.Terms.Once = pick(h, onceKeys); !e.Terms.Once.IsZero() {
		e.Terms.Until = 24*h.day + 20 + h.rng.Uint32N(60)
	}
	rest := slices.DeleteFunc(h.members(id, r, func(*status) bool { return true }), func(i uint32) bool { return !e.Span.Has(job.Recipient(i)) })
	e.IDs = uint32(len(rest))
	refused := map[uint32]job.Reason{}
	for _, reason := range []job.Reason{job.ReasonSendOnce, job.ReasonFrequency} {
		part := slices.DeleteFunc(h.some(rest), func(i uint32) bool { return h.rng.IntN(3) > 0 })
		rest = slices.DeleteFunc(rest, func(i uint32) bool { return slices.Contains(part, i) })
		e.Dropped = append(e.Dropped, ledger.Drop{Reason: reason, Set: setOf(r, part...)})
		for _, i := range part {
			refused[i] = reason
		}
	}
	if h.judged[id] == nil {
		h.judged[id] = make([]bool, len(testRanges)*regionSize)
	}
	var fresh []uint32
	for i := lo; i < hi; i++ {
		at := placeOf(i)
		if h.judged[id][at] || h.spans[id][at] {
			continue
		}
		h.judged[id][at] = true
		h.last[r] = max(h.last[r], e.Terms.Day)
		fresh = append(fresh, uint32(i))
	}
	for _, i := range fresh {
		if h.packages[id][i] {
			h.verdicts[who{id, i}] = &verdict{refused: refused[i], terms: e.Terms}
		}
	}
	return e
}

// refused takes out of ids whom a charge refused, and gives their outcome.
func (h *history) refused(id job.ID, ids []uint32, states map[uint32]*status) []uint32 {
	return slices.DeleteFunc(slices.Clone(ids), func(i uint32) bool {
		v := h.verdicts[who{id, i}]
		if v == nil || v.refused == job.NoReason {
			return false
		}
		states[i] = &status{outcome: job.Dropped, reason: v.refused}
		return true
	})
}

func (h *history) refund(id job.ID, i uint32) {
	if v := h.verdicts[who{id, i}]; v != nil && v.refused == job.NoReason && !v.seen {
		v.refunded = true
	}
}

func (h *history) flag(id job.ID, i uint32) {
	if v := h.verdicts[who{id, i}]; v != nil {
		v.seen = true
	}
}

// checkCharges: counters, what is sent once, and verdicts are as if nobody had forgotten
// anything; but days before the last but one are.
func checkCharges(t fataler, x *parked.Index, h *history) {
	for _, r := range testRanges {
		for day := max(h.last[r], 1) - 1; day <= h.last[r]; day++ {
			for account := range ledger.AccountOf(3) {
				checkCounters(t, x, h, r, day, account)
			}
		}
		for _, key := range onceKeys[1:] {
			for _, hour := range []uint32{24 * h.day, 24*h.day + 30, 24*h.day + 60} {
				want := idset.New(r)
				for k, v := range h.verdicts {
					if v.counts() && v.terms.Once == key && v.terms.Until > hour && job.Recipient(k.who).Range() == r {
						want.Add(k.who)
					}
				}
				equal(t, fmt.Sprint("marked at ", hour, " in ", r), ids(must[*idset.Set](t)(x.Charges.Marked(r, key, hour))), ids(want))
			}
		}
		for _, id := range testJobs {
			checkVerdicts(t, x, h, id, r)
		}
	}
}

func checkCounters(t fataler, x *parked.Index, h *history, r job.Range, day uint32, account ledger.AccountOf) {
	counts := map[uint32]int{}
	for k, v := range h.verdicts {
		counted := account == 0 && v.terms.All || account != 0 && v.terms.Account == account
		if counted && v.counts() && v.terms.Day == day && job.Recipient(k.who).Range() == r {
			counts[k.who]++
		}
	}
	for n := 1; n <= 4; n++ {
		want := idset.New(r)
		for i, c := range counts {
			if c >= n {
				want.Add(i)
			}
		}
		if got := must[*idset.Set](t)(x.Charges.AtLeast(r, day, account, n)); !got.Equal(want) {
			t.Fatalf("%d messages of account %d on day %d in %s: %v, want %v", n, account, day, r, ids(got), ids(want))
		}
	}
	for i, want := range counts {
		if last, used, err := x.Charges.Day(job.Recipient(i)); err != nil || last != h.last[r] || last == day && used[account] != want {
			t.Fatalf("%d on the last day, %d (want %d): %v, want %d of account %d; %v", i, last, h.last[r], used, want, account, err)
		}
		if got := must[int](t)(x.Charges.Used(job.Recipient(i), day, account)); got != want {
			t.Fatalf("%d used %d messages of account %d on day %d, want %d", i, got, account, day, want)
		}
	}
}

func checkVerdicts(t fataler, x *parked.Index, h *history, id job.ID, r job.Range) {
	rng := rand.New(rand.NewPCG(h.seq, uint64(r))) // not the history's, which goes on
	span := job.Span{Lo: uint64(r.Lo()) + rng.Uint64N(regionSize/2)}
	span.Hi = span.Lo + 1 + rng.Uint64N(4096)
	gaps, dropped, err := x.Charges.Verdict(id, span)
	if err != nil {
		t.Fatal(err)
	}
	free := make([]bool, span.Hi-span.Lo)
	for _, g := range gaps {
		for i := g.Lo; i < g.Hi; i++ {
			free[i-span.Lo] = true
		}
	}
	for i := span.Lo; i < span.Hi; i++ {
		if judged := h.judged[id] != nil && h.judged[id][placeOf(i)]; free[i-span.Lo] == judged {
			t.Fatalf("%s of %s: %d is free: %v, it was charged: %v", span, id, i, !judged, judged)
		}
	}
	got := map[uint32]job.Reason{}
	for _, d := range dropped {
		for i := range d.Set.All() {
			got[i] = d.Reason
		}
	}
	for k, v := range h.verdicts {
		in := k.id == id && span.Has(job.Recipient(k.who))
		_, told := got[k.who]
		pending := !h.spans[id][placeOf(uint64(k.who))]
		if want := in && v.refused != job.NoReason; want && pending && got[k.who] != v.refused || in && told && got[k.who] != v.refused {
			t.Fatalf("%d of %s is dropped for %q, want %q", k.who, id, got[k.who], v.refused)
		}
	}
}
