package holds

import (
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"

	"crier/job"
	"crier/state/ledger"
)

// A slice that is given up is not had and not taken again before its release is in the
// ledger, whatever becomes of the answer; then anybody may take it.
func TestASliceIsGivenUpForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := ledger.NewMemory(ledger.MemoryConfig{})
		var refuse error
		of := func(worker string) *Slices {
			by := ledger.Taker{Journal: job.Journal{Worker: worker, Incarnation: 1}, Sealed: func(job.Journal) bool { return false }}
			return NewSlices(Config{Log: log, Taker: func() ledger.Taker { return by }, MayTake: func() error { return refuse }, Go: func(fn func()) { go fn() }, Logger: slog.New(slog.DiscardHandler)})
		}
		a, b, thing := of("a"), of("b"), ledger.SliceThing(job.ID{1}, 3)
		refuse = errors.New("silent")
		if n, err := a.Claim(t.Context(), thing); !errors.Is(err, refuse) || a.Has(thing, n) {
			t.Fatalf("claimed by who may take nothing: %v", err)
		}
		refuse = nil
		for range 2 {
			if n, err := a.Claim(t.Context(), thing); err != nil || n != 1 || !a.Has(thing, n) || a.Has(thing, n+1) {
				t.Fatalf("claimed: %d, %v, %v", n, err, a.Has(thing, n))
			}
		}
		if _, err := b.Claim(t.Context(), thing); !errors.Is(err, ledger.ErrHeld) {
			t.Fatalf("claimed by a second: %v", err)
		}
		release := log.Hold(ledger.AllClaims)
		a.Give(t.Context(), thing, 0)
		a.Give(t.Context(), thing, 0)
		synctest.Wait()
		if _, err := a.Claim(t.Context(), thing); err == nil || a.Has(thing, 1) {
			t.Fatalf("taken again while it is given up: %v, %v", err, a.Has(thing, 1))
		}
		release()
		synctest.Wait()
		if _, err := b.Claim(t.Context(), thing); err != nil {
			t.Fatalf("claimed after its release: %v", err)
		}
		if n, err := log.Subjects(t.Context(), ledger.AllClaims); err != nil || n[ledger.ClaimSubject(thing)] != 3 {
			t.Fatalf("%v records of claims, %v; want a claim, a release, a claim", n, err)
		}
	})
}

// What is held is what was claimed and is not being given up.
func TestHeldSlices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := ledger.NewMemory(ledger.MemoryConfig{})
		by := ledger.Taker{Journal: job.Journal{Worker: "a", Incarnation: 1}, Sealed: func(job.Journal) bool { return false }}
		s := NewSlices(Config{Log: log, Taker: func() ledger.Taker { return by }, MayTake: func() error { return nil }, Go: func(fn func()) { go fn() }, Logger: slog.New(slog.DiscardHandler)})
		first, second := ledger.SliceThing(job.ID{1}, 0), ledger.SliceThing(job.ID{1}, 1)
		release := log.Hold(ledger.AllClaims)
		go s.Claim(t.Context(), first)
		synctest.Wait()
		if got := s.Held(); len(got) != 0 {
			t.Fatalf("%v is held before its claim is in the ledger", got)
		}
		release()
		synctest.Wait()
		if _, err := s.Claim(t.Context(), second); err != nil {
			t.Fatal(err)
		}
		s.Give(t.Context(), first, 0)
		if got := s.Held(); len(got) != 1 || got[0] != second {
			t.Fatalf("%v is held, want %v", got, second)
		}
		synctest.Wait()
	})
}
