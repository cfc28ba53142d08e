package worker

import (
	"context"
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"crier/internal/work"
	"crier/job"
	"crier/state/ledger"
)

// An order comes while a worker claims a slice of the job: the job was read before it, and
// begins to be sent after it.
func TestAnOrderWhileASliceIsClaimed(t *testing.T) {
	yes, no := true, false
	for name, x := range map[string]struct {
		before, order job.Control
		want          job.Counts
	}{
		"cancelled": {order: job.Control{Cancel: true}, want: job.Counts{Package: 2, Cancelled: 2}},
		"paused":    {order: job.Control{Pause: &yes}, want: job.Counts{Package: 2, Pending: 2}},
		"resumed":   {before: job.Control{Pause: &yes}, order: job.Control{Pause: &no}, want: job.Counts{Package: 2, Delivered: 2}},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, 41, func(w *world) {
				pkg := people{7: true, 8: true}
				w.content.followers = pkg
				w.gw.connect(true, 7, 8)
				w.until("they are online", func() bool { return w.planes.Count() == 2 })
				id := w.submit(pkg, nil)
				order := func(c job.Control) {
					if _, err := w.table.Control(context.Background(), id, c); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
				}
				order(x.before)
				release := w.log.Hold(ledger.AllClaims)
				b, _ := json.Marshal(work.Offer{Job: id, Span: whole})
				w.bus.Publish(work.OfferTo("w1"), b)
				synctest.Wait()
				order(x.order)
				release()
				until := time.Now().Add(10 * time.Second)
				w.until("it could be sent", func() bool { return time.Now().After(until) })
				if c := w.counts(id); c.Delivered != x.want.Delivered || c.Pending != x.want.Pending || c.Cancelled != x.want.Cancelled {
					t.Errorf("%+v, want %+v", c, x.want)
				}
			})
		})
	}
}
