package erased

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"crier/job"
	"crier/state/ledger"
)

var at = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// running runs a table until the test ends, and waits until it is ready.
func running(t *testing.T, l ledger.Log, told func(job.Recipient)) *Table {
	t.Helper()
	x := New(l)
	x.OnErased = told
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- x.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	<-x.Ready()
	return x
}

// written reads the last record of each recipient from the ledger by itself.
func written(t *testing.T, l ledger.Log) map[string]uint64 {
	t.Helper()
	last := map[string]uint64{}
	if err := ledger.ReadAll(t.Context(), l, 1, "led.erased.*", func(st ledger.Stored) error {
		last[st.Subject] = st.Seq
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return last
}

func (t *Table) after(seq uint64, r job.Range) (ids []uint32) {
	return slices.Collect(t.After(seq, r).All())
}

// Who erases has it in the ledger and in its own table at once; another process has it when it
// has followed, and one that begins later when it is ready.
func TestEveryTableHasIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ledger.NewMemory(ledger.MemoryConfig{})
		told := map[job.Recipient]int{}
		first, other := running(t, l, nil), running(t, l, func(who job.Recipient) { told[who]++ })
		var seqs []uint64
		for _, who := range []job.Recipient{7, 4294967295, 8, 7} {
			seq, err := first.Erase(t.Context(), who, "key", at)
			if err != nil || first.Last(who) != seq || written(t, l)[ledger.ErasureSubject(who)] != seq {
				t.Fatalf("erasing %d gave record %d, %v; the table has %d, the ledger %v", who, seq, err, first.Last(who), written(t, l))
			}
			seqs = append(seqs, seq)
		}
		synctest.Wait()
		if fmt.Sprint(told) != "map[7:2 8:1 4294967295:1]" {
			t.Errorf("another process was told of %v", told)
		}
		for name, x := range map[string]*Table{"who erased": first, "another": other, "one that begins": running(t, l, nil)} {
			if x.Last(7) != seqs[3] || x.Last(8) != seqs[2] || x.Last(4294967295) != seqs[1] || x.Last(9) != 0 {
				t.Errorf("%s has %d, %d, %d, and %d of who never was; want %v", name, x.Last(7), x.Last(8), x.Last(4294967295), x.Last(9), seqs)
			}
			if !x.Any(0) || !x.Any(4095) || x.Any(1) {
				t.Errorf("%s has anybody in %v, %v, and %v", name, x.Any(0), x.Any(4095), x.Any(1))
			}
			for after, want := range map[uint64][]uint32{0: {7, 8}, seqs[1]: {7, 8}, seqs[2]: {7}, seqs[3]: nil} {
				if got := x.after(after, 0); !slices.Equal(got, want) {
					t.Errorf("%s: behind record %d %v are erased, want %v", name, after, got, want)
				}
			}
		}
	})
}

// Whether or not the answer gets lost, and whoever is faster: without an error it is
// recorded, and when it is said to be unknown a repeat records it.
func TestAnswersThatAreLost(t *testing.T) {
	for _, faults := range [][]ledger.Fault{{ledger.FaultStored}, {ledger.FaultLost}, {ledger.FaultLost, ledger.FaultStored}} {
		synctest.Test(t, func(t *testing.T) {
			l := ledger.NewMemory(ledger.MemoryConfig{})
			x := running(t, l, nil)
			l.Inject("led.erased.*", faults...)
			var err error
			for range len(faults) + 1 {
				var seq uint64
				if seq, err = x.Erase(t.Context(), 7, "key", at); err == nil {
					if seq == 0 || x.Last(7) != seq || written(t, l)["led.erased.7"] != seq {
						t.Errorf("%v: record %d, the table has %d, the ledger %v", faults, seq, x.Last(7), written(t, l))
					}
					break
				}
				if job.CodeOf(err) != job.CodeUnavailable {
					t.Errorf("%v: %v", faults, err)
				}
			}
			if err != nil {
				t.Errorf("%v: at last %v", faults, err)
			}
		})
	}
}

// Two who erase the same recipient at once both do, by one record or by two.
func TestTwoAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ledger.NewMemory(ledger.MemoryConfig{})
		x, y := running(t, l, nil), running(t, l, nil)
		release := l.Hold("led.erased.*")
		answers := make(chan error, 2)
		for _, z := range []*Table{x, y} {
			go func() { _, err := z.Erase(t.Context(), 7, "key", at); answers <- err }()
		}
		synctest.Wait()
		release()
		for range 2 {
			if err := <-answers; err != nil {
				t.Error(err)
			}
		}
		synctest.Wait()
		if seq := written(t, l)["led.erased.7"]; seq == 0 || x.Last(7) != seq || y.Last(7) != seq {
			t.Errorf("the ledger has %d, the tables %d and %d", seq, x.Last(7), y.Last(7))
		}
	})
}

func TestAFullLedger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ledger.NewMemory(ledger.MemoryConfig{Limit: 1})
		x := running(t, l, nil)
		if _, err := x.Erase(t.Context(), 7, "key", at); job.CodeOf(err) != job.CodeFull || x.Last(7) != 0 {
			t.Errorf("%v, the table has %d", err, x.Last(7))
		}
	})
}

// What no version of ours wrote ends the following: it must not be passed over.
func TestRecordsThatAreNone(t *testing.T) {
	for _, data := range []string{"", "{", `{"recipient":8}`, `{"recipient":-7}`, `{"recipient":"7"}`} {
		l := ledger.NewMemory(ledger.MemoryConfig{})
		if _, err := l.Append(t.Context(), "led.erased.7", 0, []byte(data)); err != nil {
			t.Fatal(err)
		}
		if err := New(l).Run(t.Context()); !errors.Is(err, ledger.ErrRecord) {
			t.Errorf("%s: %v", data, err)
		}
	}
}
