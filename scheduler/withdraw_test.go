package scheduler

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"crier/internal/work"
	"crier/job"
	"crier/state/ledger"
	"crier/state/parked"
)

// A recall stops a job wherever it is. It is over when nothing is open and its withdrawal
// is made, in this order.
func TestRecall(t *testing.T) {
	for name, until := range map[string]func(w *world, id job.ID){
		"at once": func(*world, job.ID) {},
		"sending": func(w *world, id job.ID) { w.reaches(id, job.Sending, time.Minute) },
		"paused":  func(w *world, id job.ID) { w.pause(id, true); w.reaches(id, job.Paused, time.Minute) },
		"cancelled": func(w *world, id job.ID) {
			w.reaches(id, job.Sending, time.Minute)
			w.cancel(id)
			w.reaches(id, job.Cancelling, time.Minute)
		},
		"sent": func(w *world, id job.ID) {
			w.setAnswer(func(o work.Offer) *work.Reply {
				w.setTotal(o.Job, parked.Tally{Reserved: recipients, Parked: recipients})
				return &work.Reply{State: job.SliceSent}
			})
			w.reaches(id, job.Sent, time.Minute)
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				defer w.start("s", 1).stop()
				w.setAnswer(takes)
				id := w.submit(1)
				until(w, id)
				w.recall(id)
				w.reaches(id, job.Recalling, time.Second)
				time.Sleep(time.Minute) // its worker has not closed it
				synctest.Wait()
				if got := w.state(id); got != job.Recalling || w.askedFor(id) > 0 {
					t.Fatalf("it is %s, withdrawn %d times, with a slice open, or somebody parked", got, w.askedFor(id))
				}
				w.setAnswer(w.sends)
				w.setTotal(id, parked.Tally{Reserved: recipients, Delivered: 400, Recalled: recipients - 400})
				w.reaches(id, job.JobRecalled, 5*time.Second)
				h := w.history(id)
				if last := h[len(h)-1]; !strings.Contains(last.Reason, "a typo") || strings.Contains(last.Reason, "withdrawn") {
					t.Errorf("it does not say why it was recalled, or says what is not so yet: %q", last.Reason)
				}
				time.Sleep(time.Minute)
				if n := w.askedFor(id); n != 1 {
					t.Errorf("its withdrawal was made %d times", n)
				}
				w.cancel(id)
				w.recall(id)
				time.Sleep(time.Minute)
				if again := w.history(id); len(again) != len(h) || w.askedFor(id) != 1 {
					t.Errorf("a recall that is over goes on: %s", w.path(id))
				}
			})
		})
	}
}

// What is over was delivered to somebody: it can be recalled, also after its scheduler has
// forgotten it, and by one that starts later.
func TestRecallOfWhatIsOver(t *testing.T) {
	for _, restart := range []bool{false, true} {
		inWorld(t, func(w *world) {
			s := w.start("s", 1)
			id, other := w.submit(1), w.submit(2)
			w.reaches(id, job.Completed, time.Minute)
			w.reaches(other, job.Completed, time.Minute)
			time.Sleep(time.Minute)
			if restart {
				s.stop()
				s = w.start("s", 2)
			}
			defer func() { s.stop() }()
			w.recall(id)
			w.reaches(id, job.JobRecalled, 10*time.Second)
			if got := w.path(id); !strings.HasSuffix(got, "completed recalling recalled") || w.askedFor(id) != 1 {
				t.Errorf("restarted %v: %s, withdrawn %d times", restart, got, w.askedFor(id))
			}
			s.stop()
			s = w.start("s", 3) // it reads both streams again
			time.Sleep(time.Minute)
			if w.state(id) != job.JobRecalled || w.state(other) != job.Completed || w.askedFor(id) != 1 || w.askedFor(other) != 0 {
				t.Errorf("after a restart %s, %s; withdrawn %d and %d times", w.path(id), w.path(other), w.askedFor(id), w.askedFor(other))
			}
			if live := s.table.Live(); len(live) > 0 {
				t.Errorf("live: %+v", live)
			}
		})
	}
}

// A withdrawal that cannot be made is tried again, and says why; whoever dies between it
// and the record of its making has it made again, which changes nothing.
func TestAWithdrawalIsTriedUntilItIsRecorded(t *testing.T) {
	inWorld(t, func(w *world) {
		s := w.start("s", 1)
		id := w.submit(1)
		w.reaches(id, job.Completed, time.Minute)
		w.setWithdraw(func(context.Context, job.Spec) error { return errors.New("the disk is gone") })
		w.recall(id)
		w.reaches(id, job.Recalling, 10*time.Second)
		time.Sleep(10 * time.Second)
		if got := s.WaitingOn(id); !strings.Contains(got, "the disk is gone") || !strings.Contains(got, "withdrawal") {
			t.Errorf("waits on %q", got)
		}
		if n := w.askedFor(id); n < 5 || n > 12 {
			t.Errorf("tried %d times in 10 s", n)
		}
		w.setWithdraw(func(ctx context.Context, _ job.Spec) error { // stored, and the process dies before it knows
			<-ctx.Done()
			return ctx.Err()
		})
		time.Sleep(2 * time.Second)
		s.stop()
		if got := w.state(id); got != job.Recalling {
			t.Fatalf("it is %s", got)
		}
		w.setWithdraw(nil)
		w.warned.take()
		s = w.start("s", 2)
		defer s.stop()
		w.reaches(id, job.JobRecalled, 10*time.Second)
		if warned := w.warned.take(); len(warned) > 0 {
			t.Errorf("warned of %q", warned)
		}
	})
}

// What was delivered of a job that failed can be withdrawn, although its package cannot be
// read: whom nobody handled stays pending.
func TestRecallOfAFailedJob(t *testing.T) {
	inWorld(t, func(w *world) {
		s := w.start("s", 1)
		w.setAnswer(takes)
		id := w.submit(1)
		w.reaches(id, job.Sending, time.Minute)
		w.setTotal(id, parked.Tally{Reserved: 600, Delivered: 600})
		s.stop()
		w.setCheck(func(context.Context) ([]job.Range, []int, error) {
			return nil, nil, job.Invalid("package", "the stored package is damaged", nil)
		})
		defer w.start("s", 2).stop()
		w.reaches(id, job.JobFailed, time.Minute)
		w.recall(id)
		w.reaches(id, job.Recalling, 10*time.Second)
		w.reaches(id, job.JobRecalled, time.Minute)
		h := w.history(id)
		if last := h[len(h)-1].Reason; !strings.Contains(last, "400 recipients were never handled") || w.askedFor(id) != 1 {
			t.Errorf("withdrawn %d times; %q", w.askedFor(id), last)
		}
		time.Sleep(time.Minute)
		if again := w.history(id); len(again) != len(h) {
			t.Errorf("it goes round: %s", w.path(id))
		}
	})
}

// places is a ring in which a scheduler has a place of its own.
type places struct {
	Alone
	choice int
}

// Choice implements Ring.
func (p places) Choice(job.ID) int { return p.choice }

// A job was moved on by a scheduler that the ring would not choose now, and is over for so
// long that the tables of claims have dropped that. It is recalled by that scheduler, which
// is there; nobody else may take it.
func TestRecallOfWhatAnotherHolds(t *testing.T) {
	inWorld(t, func(w *world) {
		var place atomic.Int32
		w.ring = func() Ring { return places{Alone{"w"}, int(place.Load())} }
		holder := w.start("a", 1)
		defer holder.stop()
		id := w.submit(1)
		w.reaches(id, job.Completed, time.Minute)
		time.Sleep(time.Minute)
		place.Store(-1)
		w.ring = alone
		other := w.start("b", 1)
		defer other.stop()
		for range 2 {
			holder.cfg.Claims.Prune(holder.table.IsLive)
			other.cfg.Claims.Prune(other.table.IsLive)
		}
		w.recall(id)
		w.reaches(id, job.JobRecalled, time.Minute)
		c, err := ledger.LastClaim(t.Context(), w.log, ledger.JobThing(id))
		if err != nil || c.Journal.Worker != "a" || w.askedFor(id) != 1 {
			t.Errorf("held by %s, %v; withdrawn %d times", c.Journal, err, w.askedFor(id))
		}
	})
}
