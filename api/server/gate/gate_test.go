package gate

import (
	"context"
	"testing"
	"testing/synctest"

	"crier/job"
)

// At most the slots are used at once, at most the queue waits, the rest is refused.
func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(2, 3)
		for range 2 {
			if err := g.Enter(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		entered, gaveUp := make(chan struct{}, 3), make(chan error, 3)
		for range 3 {
			go func() {
				if err := g.Enter(ctx); err != nil {
					gaveUp <- err
					return
				}
				entered <- struct{}{}
			}()
		}
		synctest.Wait()
		if len(entered) != 0 {
			t.Fatalf("%d entered beyond the slots", len(entered))
		}
		if err := g.Enter(ctx); job.CodeOf(err) != job.CodeUnavailable {
			t.Errorf("beyond the queue: %v; want unavailable", err)
		}
		g.Leave()
		synctest.Wait()
		if len(entered) != 1 {
			t.Errorf("%d entered after one left; want 1", len(entered))
		}
		cancel()
		synctest.Wait()
		if len(gaveUp) != 2 {
			t.Errorf("%d gave up; want 2", len(gaveUp))
		}
		g.Leave()
		g.Leave()
		if err := g.Enter(t.Context()); err != nil {
			t.Errorf("an empty gate: %v", err)
		}
	})
}
