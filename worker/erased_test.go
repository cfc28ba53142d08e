package worker

import (
	"context"
	"testing"
	"time"

	"crier/job"
)

// Whoever asked to be forgotten gets nothing of what was accepted before and is parked for
// them, be they online or not, and the job paused or not; it is dropped without a login. What
// is accepted later comes as to anybody, also after a restart.
func TestWhoAskedToBeForgotten(t *testing.T) {
	inWorld(t, 41, func(w *world) {
		pkg := people{}
		for r := range uint32(20) {
			pkg[r], w.content.followers[r] = true, true
		}
		control := func(id job.ID, paused bool) {
			if _, err := w.table.Control(context.Background(), id, job.Control{Pause: &paused}); err != nil {
				t.Fatal(err)
			}
		}
		running, paused := w.submit(pkg, nil), w.submit(pkg, nil)
		w.send(running)
		w.send(paused)
		control(paused, true)
		if _, err := w.erased.Erase(context.Background(), 7, "key", time.Now()); err != nil {
			t.Fatal(err)
		}
		later := w.submit(pkg, nil)
		w.send(later)
		dropped := func(id job.ID) uint64 { return w.counts(id).Dropped[job.SuppressedParked] }
		w.until("what was parked for them is dropped", func() bool { return dropped(running) == 1 && dropped(paused) == 1 })
		w.restart()
		w.gw.connect(true, 7, 8)
		w.until("those who come get the rest", func() bool { return w.counts(running).Delivered == 1 && w.counts(later).Delivered == 2 })
		control(paused, false)
		w.until("and that of the paused job", func() bool { return w.counts(paused).Delivered == 1 })
		for id, want := range map[job.ID]people{running: {8: true}, paused: {8: true}, later: {7: true, 8: true}} {
			w.checkShown(id, want)
			w.reconcile(id)
		}
		if n := dropped(later); n != 0 {
			t.Errorf("of what came later %d are dropped", n)
		}
		w.sameWhenRebuilt()
	})
}

// Nobody is waited for to take a message back who asked to be forgotten after it was sent, be
// that before the recall or after; who asked before got it all the same, and is waited for.
func TestForgottenAndRecalled(t *testing.T) {
	inWorld(t, 43, func(w *world) {
		pkg := people{}
		for r := range uint32(6) {
			pkg[r], w.content.followers[r] = true, true
		}
		erase := func(who job.Recipient) {
			if _, err := w.erased.Erase(context.Background(), who, "key", time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		erase(1)
		recalled := w.submit(pkg, nil)
		w.send(recalled)
		erase(2)
		for _, s := range []job.State{job.Recalling, job.JobRecalled} { // it is not in memory any more
			if _, err := w.table.Transition(context.Background(), recalled, s, "", time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		back := w.submit(pkg, func(s *job.Spec) { s.Withdraws = recalled })
		w.send(back)
		dropped := func() uint64 { return w.counts(back).Dropped[job.SuppressedParked] }
		w.until("who was forgotten before the recall is not waited for", func() bool { return dropped() == 1 })
		erase(3)
		w.until("nor who is after it", func() bool { return dropped() == 2 })
		w.gw.connect(true, 1, 2, 3, 4)
		w.until("the others come", func() bool { return w.counts(back).Delivered == 2 })
		w.checkShown(back, people{1: true, 4: true})
		w.reconcile(back)
		w.sameWhenRebuilt()
	})
}

// What a client was handed and did not acknowledge until it was expelled is dropped.
func TestForgottenWhileHandedOff(t *testing.T) {
	inWorld(t, 42, func(w *world) {
		pkg := people{}
		for r := range uint32(5) {
			pkg[r], w.content.followers[r] = true, true
		}
		w.gw.connect(true, 3)
		w.until("they are online", func() bool { return w.planes.Count() == 1 })
		w.gw.with(func() { w.gw.clients[3].deaf = true })
		id := w.submit(pkg, nil)
		w.send(id)
		w.until("it is handed over", func() bool { return w.counts(id).HandedOff == 1 })
		if _, err := w.erased.Erase(context.Background(), 3, "key", time.Now()); err != nil {
			t.Fatal(err)
		}
		w.gw.with(func() { w.gw.disconnect(w.gw.clients[3]) })
		w.until("it is dropped", func() bool { return w.counts(id).Dropped[job.SuppressedParked] == 1 })
		w.reconcile(id)
	})
}
