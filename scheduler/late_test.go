package scheduler

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"crier/job"
	"crier/state/ledger"
)

// A job that is taken from a scheduler which hangs with it is begun anew, by the same one if
// nobody else is there: what hung does not count.
func TestAJobThatIsTakenAwayBeginsAnew(t *testing.T) {
	inWorld(t, func(w *world) {
		id := w.submit(1)
		hangs := func(ctx context.Context) ([]job.Range, []int, error) { <-ctx.Done(); return nil, nil, ctx.Err() }
		w.setCheck(hangs)
		defer w.start("a", 1).stop()
		w.reaches(id, job.Preparing, time.Second)
		w.passes(time.Minute)
		if n := w.checks.Load(); n != 1 || w.state(id) != job.Preparing {
			t.Fatalf("%d checks, and it is %s", n, w.state(id))
		}
		w.setCheck(good)
		h := w.history(id)
		c, err := ledger.LastClaim(t.Context(), w.log, ledger.JobThing(id))
		if err != nil || c.Journal.Worker != "a" {
			t.Fatalf("%+v, %v", c, err)
		}
		if err := ledger.TakeAway(t.Context(), w.log, c, h[len(h)-1].Version, time.Now()); err != nil {
			t.Fatal(err)
		}
		w.reaches(id, job.Completed, 10*time.Second)
		synctest.Wait()
		if c, err = ledger.LastClaim(t.Context(), w.log, c.Thing()); err != nil || c.Journal.Worker != "a" || c.Tries != 1 {
			t.Errorf("the claim is %+v, %v", c, err)
		}
	})
}
