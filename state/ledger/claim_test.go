package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anishathalye/porcupine"

	"crier/job"
	"crier/state/ledger"
)

func journalOf(n int) job.Journal { return job.Journal{Worker: fmt.Sprint("w", n), Incarnation: 1} }

func nobodySealed(job.Journal) bool { return false }

func claimTest(t *testing.T, l ledger.Log, n int, read uint64, sealed ...job.Journal) (ledger.Claim, error) {
	return ledger.Take(t.Context(), l, ledger.RangeThing(3), ledger.Taker{Journal: journalOf(n), Read: func() uint64 { return read },
		Sealed: func(j job.Journal) bool {
			for _, s := range sealed {
				if s == j {
					return true
				}
			}
			return false
		}})
}

func TestTakeAndGive(t *testing.T) {
	l := ledger.NewMemory(ledger.MemoryConfig{})
	first, err := claimTest(t, l, 1, 1)
	if err != nil || first.Epoch != 1 || first.Journal != journalOf(1) || first.Seq != 1 {
		t.Fatalf("the first claim: %+v, %v", first, err)
	}
	if again, err := claimTest(t, l, 1, 1); err != nil || again.Epoch != 1 || again.Seq != 1 {
		t.Fatalf("who has it takes it again: %+v, %v", again, err)
	}
	if _, err := claimTest(t, l, 2, 100); !errors.Is(err, ledger.ErrHeld) {
		t.Fatalf("a living owner: %v", err)
	}
	if err := ledger.Give(t.Context(), l, first, 9); err != nil {
		t.Fatal(err)
	}
	for _, read := range []uint64{1, 9} { // below it, all is read
		if _, err := claimTest(t, l, 2, read); !errors.Is(err, ledger.ErrBehind) {
			t.Fatalf("with all below %d read: %v, want ErrBehind", read, err)
		}
	}
	second, err := claimTest(t, l, 2, 10)
	if err != nil || second.Epoch != 3 || second.Journal != journalOf(2) {
		t.Fatalf("after the release: %+v, %v", second, err)
	}
	if err := ledger.Give(t.Context(), l, first, 9); err != nil { // it was given, and taken since
		t.Fatal(err)
	}
	if last, err := ledger.LastClaim(t.Context(), l, ledger.RangeThing(3)); err != nil || last.Epoch != 3 || last.Journal != journalOf(2) {
		t.Fatalf("a release of an earlier claim left %+v, %v", last, err)
	}
	third, err := claimTest(t, l, 3, 1, journalOf(2))
	if err != nil || third.Epoch != 4 {
		t.Fatalf("from a sealed owner: %+v, %v", third, err)
	}
	if err := ledger.Give(t.Context(), l, second, 12); err != nil { // another took it from the sealed one
		t.Fatal(err)
	}
	if last, err := ledger.LastClaim(t.Context(), l, ledger.RangeThing(3)); err != nil || last.Epoch != 4 {
		t.Fatalf("a release of a claim that was taken left %+v, %v", last, err)
	}
}

// A release whose answer gets lost is not made twice; one that was not stored is.
func TestGiveWithoutAnAnswer(t *testing.T) {
	for _, fault := range []ledger.Fault{ledger.FaultStored, ledger.FaultLost} {
		synctest.Test(t, func(t *testing.T) {
			l := ledger.NewMemory(ledger.MemoryConfig{})
			mine, err := claimTest(t, l, 1, 1)
			if err != nil {
				t.Fatal(err)
			}
			l.Inject(ledger.AllClaims, fault)
			for range 2 {
				if err := ledger.Give(t.Context(), l, mine, 4); err != nil {
					t.Fatal(err)
				}
			}
			last, err := ledger.LastClaim(t.Context(), l, mine.Thing())
			if err != nil || last.Epoch != 2 || !last.Journal.IsZero() || last.After != 4 {
				t.Fatalf("fault %d: %+v, %v", fault, last, err)
			}
		})
	}
	l := ledger.NewMemory(ledger.MemoryConfig{})
	mine, err := claimTest(t, l, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	l.Inject(ledger.AllClaims, ledger.FaultFull)
	if err := ledger.Give(t.Context(), l, mine, 4); !errors.Is(err, ledger.ErrFull) {
		t.Fatalf("a full ledger: %v", err)
	}
}

// step is one call of the histories: a take, which gives "took" or "held", or a release,
// which gives "gave"; "unknown" is what got no answer.
type step struct {
	take bool
	by   int
}

// register is who has the thing: a take by another is refused while somebody has it.
var register = porcupine.NondeterministicModel{
	Init: func() []any { return []any{-1} },
	Step: func(state, input, output any) []any {
		has, in, out := state.(int), input.(step), output.(string)
		switch {
		case !in.take && has == in.by && out == "gave":
			return []any{-1}
		case !in.take && out == "gave":
			return []any{has}
		case !in.take && has == in.by: // it may have been given
			return []any{has, -1}
		case !in.take:
			return []any{has}
		case out == "took" && (has == -1 || has == in.by):
			return []any{in.by}
		case out == "held" && has != -1 && has != in.by:
			return []any{has}
		case out == "unknown" && has == -1: // it may have been stored
			return []any{has, in.by}
		case out == "unknown":
			return []any{has}
		}
		return nil
	},
}

// Some take and release one thing at a time, with lost answers, lost appends, and
// appends that come late: whoever is told that it has the thing has it alone.
func TestClaimsAreLinearizable(t *testing.T) {
	took := 0
	for seed := range uint64(150) {
		synctest.Test(t, func(t *testing.T) {
			l := ledger.NewMemory(ledger.MemoryConfig{})
			ops, n := history(l, seed)
			took += n
			if res := porcupine.CheckOperationsTimeout(register.ToModel(), ops, 10*time.Second); res != porcupine.Ok {
				t.Errorf("seed %d: %v: %+v", seed, res, ops)
			}
		})
	}
	if took < 150 {
		t.Errorf("something was taken %d times: too little to mean anything", took)
	}
}

// history lets four owners work, and gives what they saw.
func history(l *ledger.Memory, seed uint64) (ops []porcupine.Operation, took int) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	began := time.Now()
	note := func(by int, in step, at time.Time, out string) {
		mu.Lock()
		defer mu.Unlock()
		end := int64(time.Since(began))
		if out == "unknown" {
			end = int64(time.Hour) // it may have its effect whenever
		}
		if out == "took" {
			took++
		}
		ops = append(ops, porcupine.Operation{ClientId: by, Input: in, Call: int64(at.Sub(began)), Output: out, Return: end})
	}
	faults := rand.New(rand.NewPCG(seed, 1))
	for range 12 {
		l.Inject(ledger.AllClaims, []ledger.Fault{ledger.FaultNone, ledger.FaultNone, ledger.FaultStored, ledger.FaultLost}[faults.IntN(4)])
	}
	release := l.Hold(ledger.AllClaims) // some appends come late
	time.AfterFunc(time.Duration(faults.IntN(40))*time.Millisecond, release)
	for by := range 4 {
		rng := rand.New(rand.NewPCG(seed, uint64(by)+2))
		wg.Go(func() {
			var mine ledger.Claim
			for range 6 {
				time.Sleep(time.Duration(rng.IntN(30)+1) * time.Millisecond)
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rng.IntN(25)+1)*time.Millisecond)
				at := time.Now()
				if mine.Epoch > 0 && rng.IntN(2) == 0 {
					out := "gave"
					if ledger.Give(ctx, l, mine, 0) != nil {
						out = "unknown"
					}
					note(by, step{by: by}, at, out)
				} else {
					c, err := ledger.Take(ctx, l, ledger.RangeThing(3), ledger.Taker{Journal: journalOf(by), Sealed: nobodySealed})
					switch {
					case err == nil:
						mine = c
						note(by, step{take: true, by: by}, at, "took")
					case errors.Is(err, ledger.ErrHeld):
						note(by, step{take: true, by: by}, at, "held")
					default:
						mine = ledger.Claim{} // what it had, if it had it, is not what it has
						note(by, step{take: true, by: by}, at, "unknown")
					}
				}
				cancel()
			}
		})
	}
	wg.Wait()
	return ops, took
}
