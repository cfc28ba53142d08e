package parked_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"crier/internal/badinput"
	"crier/state/ledger"
	"crier/state/parked"
	"crier/state/parked/kv"
)

// TestRecordsMutated applies mutants of the records that could come next: one is refused,
// and what is behind its first good entries changes nothing; or it is taken, and then every
// job still adds up.
func TestRecordsMutated(t *testing.T) {
	ctx := context.Background()
	refused, taken := 0, 0
	for seed := range uint64(4) {
		h := newHistory(seed)
		for range 25 {
			h.record()
		}
		before, next := h.records[:len(h.records)-1], h.records[len(h.records)-1]
		start := func() (*parked.Index, string) {
			x := newIndex(t, kv.NewMemory(), h)
			apply(t, x, before...)
			return x, dump(t, x)
		}
		x, was := start()
		for m := range badinput.Mutants(badinput.Number(t, next.Data)/12, next.Data, h.records[1].Data, h.records[len(h.records)/2].Data) {
			st := next
			st.Data = m.Bytes
			if _, err := x.Apply(ctx, st); err != nil {
				refused++
				if !errors.Is(err, parked.ErrLedger) && !errors.Is(err, ledger.ErrRecord) {
					t.Errorf("seed %d, %s: %v", seed, m, err)
				}
				if now := dump(t, x); now != was {
					if x.Watermark() > st.Seq || strings.Contains(err.Error(), "entry 0 of") {
						t.Fatalf("seed %d, %s: refused (%v), but the index changed", seed, m, err)
					}
					x, was = start() // the entries before the bad one were applied, and the mark says so
				}
				continue
			}
			taken++
			for id, members := range h.packages {
				total, err := x.Total(id)
				if c := total.Counts(uint64(len(members))); err != nil || c.Sum() != c.Package || c.Pending > c.Package {
					t.Fatalf("seed %d, %s: taken, and job %s does not add up: %+v, %v", seed, m, id, c, err)
				}
			}
			x, was = start()
		}
	}
	t.Logf("%d refused, %d taken", refused, taken)
	if refused < taken {
		t.Errorf("%d were refused, %d taken", refused, taken)
	}
}

// TestCheckpointsMutated: a blob is known by its digest, so that a mutant is never met; if
// it is, nobody is hurt, and no length in it is believed.
func TestCheckpointsMutated(t *testing.T) {
	h := newHistory(4)
	for range 30 {
		h.record()
	}
	x := newIndex(t, kv.NewMemory(), h)
	apply(t, x, h.records...)
	var b bytes.Buffer
	if _, err := x.WriteCheckpoint(&b); err != nil {
		t.Fatal(err)
	}
	limit := func(n int) uint64 { return 4<<20 + 64*uint64(n) }
	badinput.Feed(t, limit, func(m badinput.Mutant) bool {
		kv := kv.NewMemory()
		if err := parked.Restore(kv, bytes.NewReader(m.Bytes)); err != nil {
			if !errors.Is(err, parked.ErrCheckpoint) {
				t.Errorf("%s: %v", m, err)
			}
			return false
		}
		_, err := parked.New(context.Background(), kv, h, h)
		return err == nil
	}, b.Bytes())
}
