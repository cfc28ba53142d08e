package scheduler

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"crier/internal/inhand"
	"crier/internal/work"
	"crier/job"
)

// breaks is a worker that job id broke five times; any other job it sends.
func (w *world) breaks(id job.ID, again uint64) func(work.Offer) *work.Reply {
	return func(o work.Offer) *work.Reply {
		if o.Job != id {
			return w.sends(o)
		}
		return &work.Reply{State: job.SliceSending, Tries: 5, Again: again, Why: "block [0, 64): panic: poison"}
	}
}

// quarantineOf waits until a job is quarantined and gives its record.
func (w *world) quarantineOf(id job.ID, within time.Duration) job.Transition {
	w.t.Helper()
	w.reaches(id, job.Quarantined, within)
	h := w.history(id)
	return h[len(h)-1]
}

func TestPoisonIsSetAsideAndTheRestFlows(t *testing.T) {
	inWorld(t, func(w *world) {
		bad := w.submit(1)
		w.setAnswer(w.breaks(bad, 0))
		a := w.start("a", 1)
		tr := w.quarantineOf(bad, 5*time.Second)
		if !strings.Contains(tr.Reason, "5 times: slice 0: block [0, 64): panic: poison") {
			t.Errorf("the reason is %q", tr.Reason)
		}
		good := w.submit(2)
		w.reaches(good, job.Completed, 5*time.Second)
		offers := w.offersOf(bad, 0)
		w.passes(time.Minute)
		if n := w.offersOf(bad, 0); n != offers || w.state(bad) != job.Quarantined {
			t.Errorf("what is set aside was offered %d times more, and is %s", n-offers, w.state(bad))
		}
		if words := a.WaitingOn(bad); !strings.Contains(words, "operator") {
			t.Errorf("it waits on %q", words)
		}
		// Neither a restart nor a pause that comes and goes brings it back.
		a.stop()
		a = w.start("a", 2)
		defer a.stop()
		w.pause(bad, true)
		w.pause(bad, false)
		w.control(bad, job.Control{Again: tr.Version - 1}) // it was meant for an earlier one
		w.passes(time.Minute)
		if w.state(bad) != job.Quarantined {
			t.Fatalf("it is %s", w.state(bad))
		}
		// An operator resumes it: what the worker counted before does not count.
		w.control(bad, job.Control{Again: tr.Version})
		w.reaches(bad, job.Sending, 5*time.Second)
		w.passes(time.Minute)
		if w.state(bad) != job.Sending {
			t.Errorf("by what was counted before the resume it is %s", w.state(bad))
		}
		w.setAnswer(w.breaks(bad, tr.Version))
		again := w.quarantineOf(bad, 5*time.Second)
		w.control(bad, job.Control{Again: again.Version})
		w.setAnswer(w.sends)
		w.reaches(bad, job.Completed, 10*time.Second)
	})
}

// What is set aside can be cancelled: its recipients are closed without being worked out.
func TestPoisonCanBeCancelled(t *testing.T) {
	inWorld(t, func(w *world) {
		bad := w.submit(1)
		w.setAnswer(w.breaks(bad, 0))
		defer w.start("a", 1).stop()
		w.quarantineOf(bad, 5*time.Second)
		w.setAnswer(w.sends)
		w.cancel(bad)
		w.reaches(bad, job.JobCancelled, 5*time.Second)
	})
}

// Four tries are not enough, and tries of a slice that went well then are none.
func TestFewTriesAreNoPoison(t *testing.T) {
	inWorld(t, func(w *world) {
		id := w.submit(1)
		w.setAnswer(func(o work.Offer) *work.Reply {
			return &work.Reply{State: job.SliceSending, Tries: 4, Why: "panic"}
		})
		defer w.start("a", 1).stop()
		w.reaches(id, job.Sending, 5*time.Second)
		w.passes(time.Minute)
		w.setAnswer(w.sends)
		w.reaches(id, job.Completed, 10*time.Second)
		if slices.ContainsFunc(w.history(id), func(tr job.Transition) bool { return tr.State == job.Quarantined }) {
			t.Error("it was quarantined")
		}
	})
}

// A package that breaks whoever verifies it does not end the scheduler.
func TestPackageThatBreaksTheScheduler(t *testing.T) {
	inWorld(t, func(w *world) {
		bad := w.submit(1)
		w.setCheck(func(context.Context) ([]job.Range, []int, error) { panic("bad package") })
		defer w.start("a", 1).stop()
		tr := w.quarantineOf(bad, 10*time.Second)
		if n := w.checks.Load(); n != 5 || !strings.Contains(tr.Reason, "verifying its package: panic: bad package") {
			t.Errorf("after %d checks: %q", n, tr.Reason)
		}
		w.passes(time.Minute)
		if n := w.checks.Load(); n != 5 {
			t.Errorf("it was verified %d times more", n-5)
		}
		w.setCheck(good)
		w.control(bad, job.Control{Again: tr.Version})
		w.reaches(bad, job.Completed, 10*time.Second)
	})
}

// A package at which the scheduler's process died five times is not verified again. What is
// in the file while it is verified is what the next process finds.
func TestPackageThatEndsTheProcess(t *testing.T) {
	inWorld(t, func(w *world) {
		path := filepath.Join(t.TempDir(), "inhand")
		open := func() {
			book, err := inhand.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			w.inHand = book
		}
		bad := w.submit(1)
		var left []byte
		w.setCheck(func(context.Context) (_ []job.Range, _ []int, err error) {
			left, err = os.ReadFile(path)
			return nil, nil, errors.Join(err, errors.New("the process dies"))
		})
		for n := range uint32(5) {
			open()
			a := w.start("a", n+1)
			w.passes(500 * time.Millisecond)
			a.stop()
			if err := errors.Join(w.inHand.Close(), os.WriteFile(path, left, 0o600)); err != nil {
				t.Fatal(err)
			}
			if w.checks.Load() != int64(n)+1 {
				t.Fatalf("at start %d it was verified %d times", n+1, w.checks.Load())
			}
		}
		open()
		defer w.inHand.Close()
		a := w.start("a", 6)
		defer a.stop()
		tr := w.quarantineOf(bad, 10*time.Second)
		if n := w.checks.Load(); n != 5 || !strings.Contains(tr.Reason, "verifying its package: the process died 5 times") {
			t.Errorf("after %d checks: %q", n, tr.Reason)
		}
		w.setCheck(good)
		w.reaches(w.submit(2), job.Completed, 5*time.Second)
		w.control(bad, job.Control{Again: tr.Version})
		w.reaches(bad, job.Completed, 10*time.Second)
	})
}
