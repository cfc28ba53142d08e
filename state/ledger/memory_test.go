package ledger_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"crier/job"
	"crier/state/ledger"
	"crier/state/ledger/ledgertest"
)

func TestMemory(t *testing.T) {
	ledgertest.Run(t, func(_ *testing.T, limit uint64) ledger.Log {
		return ledger.NewMemory(ledger.MemoryConfig{Limit: limit})
	})
}

func lastData(t *testing.T, m *ledger.Memory, subject string) string {
	t.Helper()
	r, err := m.Last(t.Context(), subject)
	if errors.Is(err, ledger.ErrNoRecord) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(r.Data)
}

func TestMemoryFaults(t *testing.T) {
	for _, c := range []struct {
		fault  ledger.Fault
		err    error
		stored string
	}{
		{ledger.FaultNone, nil, "x"},
		{ledger.FaultStored, ledger.ErrNoAnswer, "x"},
		{ledger.FaultLost, ledger.ErrNoAnswer, ""},
		{ledger.FaultFull, ledger.ErrFull, ""},
	} {
		m := ledger.NewMemory(ledger.MemoryConfig{})
		m.Inject("led.j.>", c.fault)
		if _, err := m.Append(t.Context(), "led.job.1", 0, []byte("other")); err != nil {
			t.Errorf("fault %d: another subject's append: %v", c.fault, err)
		}
		if _, err := m.Append(t.Context(), "led.j.w.1", 0, []byte("x")); !errors.Is(err, c.err) {
			t.Errorf("fault %d: Append: %v, want %v", c.fault, err, c.err)
		}
		if got := lastData(t, m, "led.j.w.1"); got != c.stored {
			t.Errorf("fault %d: %q is stored, want %q", c.fault, got, c.stored)
		}
		if _, err := m.Append(t.Context(), "led.j.w.2", 0, []byte("y")); err != nil {
			t.Errorf("fault %d: the append after it: %v", c.fault, err)
		}
	}
}

func TestMemoryFaultsComeInOrder(t *testing.T) {
	m := ledger.NewMemory(ledger.MemoryConfig{})
	m.Inject("led.>", ledger.FaultLost, ledger.FaultNone, ledger.FaultStored)
	m.Inject("led.a", ledger.FaultFull)
	var last uint64
	for i, want := range []error{ledger.ErrNoAnswer, nil, ledger.ErrNoAnswer, ledger.ErrFull, nil} {
		seq, err := m.Append(t.Context(), "led.a", last, []byte{byte(i)})
		if !errors.Is(err, want) {
			t.Fatalf("append %d: %v, want %v", i, err, want)
		}
		if err == nil {
			last = seq
		} else if r, lerr := m.Last(t.Context(), "led.a"); lerr == nil {
			last = r.Seq
		}
	}
}

// TestMemoryHold keeps appends on their way: one whose caller waits, one whose
// caller gives up and which is stored all the same, and one that comes too late.
func TestMemoryHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := ledger.NewMemory(ledger.MemoryConfig{})
		release := m.Hold("led.a")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := m.Append(ctx, "led.a", 0, []byte("given up")); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("a held append: %v, want DeadlineExceeded", err)
		}
		late := make(chan error, 1)
		go func() {
			_, err := m.Append(t.Context(), "led.a", 0, []byte("late"))
			late <- err
		}()
		synctest.Wait()
		if got := lastData(t, m, "led.a"); got != "" {
			t.Fatalf("%q is stored while held", got)
		}
		if _, err := m.Append(t.Context(), "led.b", 0, nil); err != nil {
			t.Fatalf("another subject is held: %v", err)
		}
		release()
		release()
		if err := <-late; !errors.Is(err, ledger.ErrConflict) {
			t.Fatalf("the second held append: %v, want ErrConflict", err)
		}
		if got := lastData(t, m, "led.a"); got != "given up" {
			t.Fatalf("%q is stored, want the append whose caller gave up", got)
		}
		if _, err := m.Append(t.Context(), "led.a", 2, nil); err != nil {
			t.Fatalf("after the release: %v", err)
		}
	})
}

func TestMemoryClock(t *testing.T) {
	at := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	m := ledger.NewMemory(ledger.MemoryConfig{Now: func() time.Time { return at }})
	if _, err := m.Append(t.Context(), "led.a", 0, nil); err != nil {
		t.Fatal(err)
	}
	if r, err := m.Get(t.Context(), 1); err != nil || !r.Time.Equal(at) {
		t.Fatalf("the record is dated %s (%v), want %s", r.Time, err, at)
	}
}

// counts is a log that counts the calls to it.
type counts struct {
	ledger.Log
	reads, appends int
}

func (c *counts) Last(ctx context.Context, subject string) (ledger.Stored, error) {
	c.reads++
	return c.Log.Last(ctx, subject)
}

func (c *counts) Append(ctx context.Context, subject string, last uint64, data []byte) (uint64, error) {
	c.appends++
	return c.Log.Append(ctx, subject, last, data)
}

// A ledger that is read and not written is asked ever more slowly, and not once ctx
// has ended; when it is written again, the claim is made.
func TestTakePausesWhileNothingIsStored(t *testing.T) {
	thing, by := ledger.Thing{Kind: ledger.ClaimJob, ID: "x"}, ledger.Taker{Journal: job.Journal{Worker: "w", Incarnation: 1}}
	synctest.Test(t, func(t *testing.T) {
		m := ledger.NewMemory(ledger.MemoryConfig{})
		for range 100 {
			m.Inject(ledger.AllClaims, ledger.FaultLost)
		}
		l := &counts{Log: m}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		began := time.Now()
		if _, err := ledger.Take(ctx, l, thing, by); !errors.Is(err, ledger.ErrNoAnswer) {
			t.Errorf("nothing is stored: %v", err)
		}
		if took := time.Since(began); took != 30*time.Second || l.appends < 20 || l.appends > 45 || l.reads != l.appends {
			t.Errorf("%d appends and %d reads in %s", l.appends, l.reads, took)
		}
		before := l.appends
		if _, err := ledger.Take(ctx, l, thing, by); err == nil || l.appends > before+1 {
			t.Errorf("after the end: %v, %d appends", err, l.appends-before)
		}
		if c, err := ledger.Take(t.Context(), l, thing, by); err != nil || c.Epoch != 1 || c.Journal != by.Journal {
			t.Errorf("when it is written again: %+v, %v", c, err)
		}
	})
	synctest.Test(t, func(t *testing.T) { // an answer that got lost costs one short pause
		m := ledger.NewMemory(ledger.MemoryConfig{})
		m.Inject(ledger.AllClaims, ledger.FaultStored)
		began := time.Now()
		if _, err := ledger.Take(t.Context(), m, thing, by); err != nil || time.Since(began) > 10*time.Millisecond {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
	})
}
