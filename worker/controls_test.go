package worker

import (
	"context"
	"encoding/json"
	"fmt"
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
		"recalled":  {order: job.Control{Recall: true}, want: job.Counts{Package: 2, Recalled: 2}},
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
				if c := w.counts(id); c.Delivered != x.want.Delivered || c.Pending != x.want.Pending || c.Cancelled != x.want.Cancelled || c.Recalled != x.want.Recalled {
					t.Errorf("%+v, want %+v", c, x.want)
				}
			})
		})
	}
}

// The ledger takes nothing for a while. What was decided before is stored when it answers again,
// and not sent if it may not be any more: the job may be cancelled, recalled or over, or, after long, its
// recipients suppressed.
func TestWhatTheLedgerTakesLateIsNotSent(t *testing.T) {
	cancel := func(w *world, id job.ID) {
		if _, err := w.table.Control(context.Background(), id, job.Control{Cancel: true}); err != nil {
			w.t.Fatal(err)
		}
	}
	recall := func(w *world, id job.ID) {
		if _, err := w.table.Control(context.Background(), id, job.Control{Recall: true}); err != nil {
			w.t.Fatal(err)
		}
	}
	suppress := func(w *world, _ job.ID) { w.content.suppress(7) }
	nothing := func(*world, job.ID) {}
	for _, x := range []struct {
		name   string
		change func(w *world, id job.ID)
		held   time.Duration // by the ledger
		lives  time.Duration // the job
		want   job.Counts
	}{
		{"cancelled", cancel, 10 * time.Second, time.Hour, job.Counts{Cancelled: 1}},
		{"cancelled for long", cancel, time.Minute, time.Hour, job.Counts{Cancelled: 1}},
		{"recalled", recall, 10 * time.Second, time.Hour, job.Counts{Recalled: 1}},
		{"expired", nothing, 10 * time.Second, 8 * time.Second, job.Counts{Expired: 1}},
		{"suppressed", suppress, time.Minute, time.Hour, job.Counts{}}, // dropped
		{"as it was", nothing, 10 * time.Second, time.Hour, job.Counts{Delivered: 1}},
		{"as it was for long", nothing, time.Minute, time.Hour, job.Counts{Delivered: 1}},
	} {
		for _, drains := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, drained %v", x.name, drains), func(t *testing.T) {
				inWorld(t, 42, func(w *world) {
					pkg := people{7: true}
					w.content.followers = pkg
					w.home(0)
					id := w.submit(pkg, func(s *job.Spec) { s.ExpiresAt = s.SubmittedAt.Add(x.lives) })
					if drains {
						w.send(id)
					} else {
						w.gw.connect(true, 7)
						w.until("it is online", func() bool { return w.planes.Count() == 1 })
					}
					release := w.log.Hold(ledger.AllJournals)
					if drains {
						w.gw.connect(true, 7)
					} else {
						w.offer(id)
					}
					w.passes(time.Second)
					x.change(w, id)
					w.passes(x.held)
					release()
					if !drains {
						w.send(id)
					}
					w.until("it is at an end", func() bool { c := w.counts(id); return c.Open()+c.Pending == 0 })
					if c := w.reconcile(id); c.Delivered != x.want.Delivered || c.Cancelled != x.want.Cancelled || c.Expired != x.want.Expired || c.Recalled != x.want.Recalled {
						t.Errorf("%+v, want %+v", c, x.want)
					}
					if n := w.gw.shown(id)[7]; n != int(x.want.Delivered) {
						t.Errorf("shown %d times", n)
					}
					// A slow ledger does not have everybody parked again and again.
					if n := w.worker.stats.Drains.Load(); x.held < lateAfter && !drains && n != 0 {
						t.Errorf("%d drains", n)
					}
				})
			})
		}
	}
}
