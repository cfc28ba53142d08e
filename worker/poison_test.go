package worker

import (
	"context"
	"strings"
	"testing"
	"time"

	"crier/job"
)

// poisoned says whose lists break whoever reads them, and tells how often they did.
func (c *content) poisoned(id job.ID) (broke int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.poison = id
	return c.broke
}

func (w *world) become(id job.ID, states ...job.State) (version uint64) {
	w.t.Helper()
	for _, s := range states {
		j, err := w.table.Transition(context.Background(), id, s, "", time.Now())
		if err != nil || j.State != s {
			w.t.Fatalf("becoming %s: it is %s, %v", s, j.State, err)
		}
		version = j.Version
	}
	return version
}

// A job that breaks the work on it is told with the answer to its offer, holds up no other,
// is left alone while it is quarantined, and loses nobody.
func TestPoisonJob(t *testing.T) {
	inWorld(t, 5, func(w *world) {
		bad, online := w.crowd(400, 0.5)
		good := people{}
		for id := range bad {
			good[id] = true
		}
		poison := w.submit(bad, nil)
		w.content.poisoned(poison)
		w.until("it has broken the work five times", func() bool { return w.ask(poison).Tries >= job.MaxTries })
		if r := w.ask(poison); r.State != job.SliceSending || !strings.Contains(r.Why, "poison") || r.Again != 0 {
			t.Errorf("the answer is %+v", r)
		}
		fine := w.submit(good, nil)
		w.send(fine)

		version := w.become(poison, job.Quarantined)
		w.passes(5 * time.Second)
		tried := w.content.poisoned(poison)
		w.passes(time.Minute)
		if n := w.content.poisoned(job.ID{}) - tried; n != 0 {
			t.Errorf("it was tried %d times more while it was quarantined", n)
		}
		if w.counts(poison).Pending != uint64(len(bad)) {
			t.Errorf("it was sent while it was quarantined: %+v", w.counts(poison))
		}
		no := false
		if _, err := w.table.Control(context.Background(), poison, job.Control{Pause: &no, Again: version}); err != nil {
			t.Fatal(err)
		}
		w.become(poison, job.Queued, job.Preparing, job.Prepared, job.Sending)
		w.send(poison)
		if r := w.ask(poison); r.Tries != 0 || r.Again != version {
			t.Errorf("after the resume the answer is %+v", r)
		}
		admitted := only(w.admitted(bad), online)
		w.until("it is delivered", func() bool { return w.counts(poison).Delivered == uint64(len(admitted)) })
		w.checkShown(poison, admitted)
		w.checkShown(fine, admitted)
		w.reconcile(poison)
	})
}

// What can be cancelled of a job that breaks the work on it is.
func TestPoisonJobIsCancelled(t *testing.T) {
	inWorld(t, 6, func(w *world) {
		pkg, _ := w.crowd(200, 0.5)
		id := w.submit(pkg, nil)
		w.content.poisoned(id)
		w.until("it has broken the work five times", func() bool { return w.ask(id).Tries >= job.MaxTries })
		w.become(id, job.Quarantined)
		if _, err := w.table.Control(context.Background(), id, job.Control{Cancel: true}); err != nil {
			t.Fatal(err)
		}
		w.become(id, job.Cancelling)
		w.send(id)
		if c := w.reconcile(id); c.Cancelled != uint64(len(pkg)) {
			t.Errorf("it is %+v", c)
		}
	})
}
