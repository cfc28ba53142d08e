package stream

import (
	"context"
	"errors"
	"testing"
	"time"

	"crier/state/ledger"
)

func TestConditionsAndPurges(t *testing.T) {
	s, ctx, now := New(), context.Background(), time.Unix(0, 0)
	for i, last := range []uint64{0, 1} {
		if seq, err := s.Store(now, "led.j.a.1", last, []byte{byte(i)}); err != nil || seq != uint64(i)+1 {
			t.Fatalf("append %d: %d, %v", i, seq, err)
		}
	}
	if _, err := s.Store(now, "led.j.a.1", 1, nil); !errors.Is(err, ledger.ErrConflict) {
		t.Errorf("a wrong condition: %v", err)
	}
	if _, err := s.Store(now, "led.j.a.1", Any, nil); err != nil {
		t.Errorf("without a condition: %v", err)
	}
	if err := s.Purge(ctx, "led.j.a.1", 100); err != nil || s.Tip("led.j.a.1") != 3 {
		t.Errorf("the purge took the last record: %v", err)
	}
	var seen []uint64
	err := ledger.ReadAll(ctx, s, 1, ledger.AllJournals, func(st ledger.Stored) error { seen = append(seen, st.Seq); return nil })
	if err != nil || len(seen) != 1 || seen[0] != 3 || len(s.All()) != 3 {
		t.Errorf("reads %v of %d, %v", seen, len(s.All()), err)
	}
	if s.Drop("led.j.a.1", 100); s.Tip("led.j.a.1") != 0 {
		t.Error("Drop leaves something")
	}
}
