package worker

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"crier/internal/idset"
	"crier/job"
	"crier/presence/gateway"
	"crier/presence/handoff"
	"crier/state/ledger"
)

// Two clients come back before the doubt about what the lost incarnation wrote is
// recorded, and stay: one has the message, one does not (rule 18).
func TestDoubtOfWhoIsOnline(t *testing.T) {
	inWorld(t, 11, func(w *world) {
		pkg := people{7: true, 8: true}
		w.content.followers = pkg
		w.gw.connect(true, 7, 8)
		w.until("they are online", func() bool { return w.planes.Count() == 2 })
		lost, kept := w.gw.clients[7], w.gw.clients[8]
		w.gw.with(func() { lost.deaf, kept.deaf = true, true })
		id := w.submit(pkg, nil)
		w.send(id)
		w.gw.end()
		w.gw.with(func() {
			lost.deaf, kept.deaf = false, false
			delete(lost.have, id) // it never arrived
			delete(lost.shown, id)
		})
		w.gw.start(2, gateway.History{First: 1, Ended: []gateway.Ended{{Start: 1, Unreadable: true}}})
		w.gw.connect(true, 7, 8)
		w.until("they are in doubt", func() bool { return w.counts(id).InDoubt == 2 })
		w.until("both are delivered", func() bool { return w.counts(id).Delivered == 2 })
		w.checkShown(id, pkg)
		w.reconcile(id)
		w.until("both may forget it", func() bool { return w.gw.remembered() == 0 })
	})
}

// An operator orders what is in doubt to be sent again to somebody who is online.
func TestResendToWhoIsOnline(t *testing.T) {
	inWorld(t, 12, func(w *world) {
		pkg := people{7: true}
		w.content.followers = pkg
		w.gw.connect(false, 7)
		w.until("it is online", func() bool { return w.planes.Count() == 1 })
		mute := w.gw.clients[7]
		w.gw.with(func() { mute.deaf = true })
		id := w.submit(pkg, nil)
		w.send(id)
		w.until("it is in doubt", func() bool { return w.counts(id).InDoubt == 1 })
		w.gw.with(func() { mute.deaf = false })
		w.gw.connect(false, 7)
		later := time.Now().Add(10 * time.Second)
		w.until("some sweeps have passed", func() bool { return time.Now().After(later) })
		if c := w.counts(id); c.InDoubt != 1 {
			t.Fatalf("under hold %+v", c)
		}
		again := job.DecideResend
		if _, err := w.table.Control(context.Background(), id, job.Control{Doubt: &again}); err != nil {
			t.Fatal(err)
		}
		w.until("it is delivered", func() bool { return w.counts(id).Delivered == 1 })
		w.reconcile(id)
	})
}

// A gateway is silent until its reserve is in doubt; the worker is killed, and the
// next one hears that the message waits there for its acknowledgement.
func TestDoubtThatIsInheritedAndAnswered(t *testing.T) {
	inWorld(t, 15, func(w *world) {
		pkg := people{7: true}
		w.content.followers = pkg
		w.gw.connect(true, 7)
		w.until("it is online", func() bool { return w.planes.Count() == 1 })
		w.gw.with(func() { w.gw.clients[7].deaf = true })
		start := time.Now()
		w.gw.lets(false, true)
		id := w.submit(pkg, nil)
		w.send(id)
		w.until("it is nearly in doubt", func() bool { return time.Since(start) > 25*time.Second })
		w.gw.lets(true, false)
		w.until("it is in doubt", func() bool { return w.counts(id).InDoubt == 1 })
		w.restart()
		w.gw.lets(true, true)
		w.until("it is handed off again", func() bool { return w.counts(id).HandedOff == 1 })
		w.gw.with(func() { w.gw.clients[7].deaf = false })
		w.until("its connection was closed", func() bool { return w.counts(id).Parked == 1 })
		w.gw.connect(true, 7)
		w.until("it is delivered", func() bool { return w.counts(id).Delivered == 1 })
		w.checkShown(id, pkg)
		w.reconcile(id)
		w.sameWhenRebuilt()
	})
}

// The worker is killed when the last done is durable and the gateway does not know
// it. The next one has nothing open, and answers the reports: else the client would
// remember the message for ever (rule 14).
func TestClosedBeforeTheGatewayWasTold(t *testing.T) {
	inWorld(t, 18, func(w *world) {
		pkg := people{7: true}
		w.content.followers = pkg
		w.gw.connect(true, 7)
		w.until("it is online", func() bool { return w.planes.Count() == 1 })
		w.gw.untold.Store(true)
		id := w.submit(pkg, nil)
		w.send(id)
		w.until("it is delivered", func() bool { return w.counts(id).Delivered == 1 })
		if w.gw.remembered() != 1 {
			t.Fatal("the client was told to forget what the gateway cannot know to be recorded")
		}
		w.restart()
		w.gw.untold.Store(false)
		w.until("the client may forget it", func() bool { return w.gw.remembered() == 0 })
		w.checkShown(id, pkg)
	})
}

// A worker is killed while one client is slow and what was sent after it is closed. The
// gateway remembers none of that for ever: its room for reserves is bounded.
func TestAGatewayForgetsWhatASealedJournalClosed(t *testing.T) {
	inWorld(t, 22, func(w *world) {
		w.content.followers = people{7: true, 8: true}
		w.gw.connect(true, 7, 8)
		w.until("they are online", func() bool { return w.planes.Count() == 2 })
		w.gw.with(func() { w.gw.clients[7].deaf = true })
		slow := w.submit(people{7: true}, nil)
		w.send(slow)
		for range 3 {
			id := w.submit(people{8: true}, nil)
			w.send(id)
			w.until("it is closed", func() bool { return w.counts(id).Delivered == 1 })
		}
		var st gateway.Stats
		stats := func() gateway.Stats {
			w.gw.with(func() { st = w.gw.state.Stats() })
			return st
		}
		w.until("the gateway has closed them", func() bool { return stats().Closed == 3 })
		w.restart()
		w.until("its connection was closed", func() bool { return w.counts(slow).Parked == 1 })
		w.passes(time.Minute)
		if st := stats(); st.Closed+st.Reserves != 0 {
			t.Errorf("it remembers %d that are closed, %d that are open", st.Closed, st.Reserves)
		}
	})
}

// The worker claimed, and was killed before its journal had a record. Its next start finds
// nothing to seal in the ledger but the claims.
func TestAFormerJournalWithoutARecordIsSealed(t *testing.T) {
	inWorld(t, 23, func(w *world) {
		pkg := people{7: true}
		w.content.followers = pkg
		id := w.submit(pkg, nil)
		if err := w.stop(); err != nil {
			t.Fatal(err)
		}
		ghost := ledger.Taker{Journal: job.Journal{Worker: "w1", Incarnation: 2}, Sealed: w.index.Sealed}
		for _, thing := range []ledger.Thing{ledger.RangeThing(0), ledger.SliceThing(id, 0)} {
			if _, err := ledger.Take(context.Background(), w.log, thing, ghost); err != nil {
				t.Fatal(err)
			}
		}
		w.starts = 3
		w.start()
		w.home(0)
		w.send(id)
		w.gw.connect(true, 7)
		w.until("it is delivered", func() bool { return w.counts(id).Delivered == 1 })
	})
}

// A late copy of an announcement, from before a home that was new asked for all of
// them again, takes nobody offline and hides none that follow.
func TestLateCopyOfAnAnnouncement(t *testing.T) {
	inWorld(t, 17, func(w *world) {
		tell := func(round, seq uint64, join, leave *idset.Set) handoff.Reception {
			ann := handoff.Announce{Inc: job.Incarnation{Gateway: "g9", Start: 1}, Round: round, Seq: seq, Join: join, Leave: leave}
			answer, err := w.bus.Request(context.Background(), handoff.AnnounceTo("w1"), ann.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			got, err := handoff.ParseReception(answer)
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		none := idset.New(0)
		synctest.Wait() // it listens
		if got := tell(1, 1, none, none); got != handoff.NotHome {
			t.Fatalf("one who is not the home answers %d", got)
		}
		w.home(0)
		for _, x := range []struct {
			round, seq  uint64
			join, leave *idset.Set
			want        handoff.Reception
			online      uint64
		}{
			{1, 7, none, none, handoff.WantsAnew, 0},
			{2, 1, idset.Of(5, 7), none, handoff.TakenIn, 2},
			{1, 6, none, idset.Of(5), handoff.TakenIn, 2}, // late
			{2, 2, idset.Of(6), none, handoff.TakenIn, 3},
			{2, 2, idset.Of(6), none, handoff.TakenIn, 3}, // again
			{2, 4, none, none, handoff.WantsAnew, 3},
			{3, 1, idset.Of(6), none, handoff.TakenIn, 1}, // who is not told is not there
			{2, 3, idset.Of(5), none, handoff.TakenIn, 1}, // late
		} {
			if got := tell(x.round, x.seq, x.join, x.leave); got != x.want || w.planes.Count() != x.online {
				t.Fatalf("announcement %d of round %d: %d, %d are online; want %d, %d", x.seq, x.round, got, w.planes.Count(), x.want, x.online)
			}
		}
	})
}
