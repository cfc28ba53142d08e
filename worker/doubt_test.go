package worker

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"crier/internal/idset"
	"crier/job"
	"crier/presence/gateway"
	"crier/presence/handoff"
	"crier/state/parked"
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
		if err := w.table.Control(context.Background(), id, job.Control{Doubt: &again}); err != nil {
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

// A late copy of an announcement, from before a home that was new asked for all of
// them again, takes nobody offline and hides none that follow.
func TestLateCopyOfAnAnnouncement(t *testing.T) {
	inWorld(t, 17, func(w *world) {
		tell := func(seq uint64, join, leave *idset.Set) (again bool) {
			ann := handoff.Announce{Inc: job.Incarnation{Gateway: "g9", Start: 1}, Seq: seq, Join: join, Leave: leave}
			answer, err := w.bus.Request(context.Background(), handoff.AnnounceTo(0), ann.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			return len(answer) > 0
		}
		none := idset.New(0)
		synctest.Wait() // it listens
		if !tell(7, none, none) || tell(1, idset.Of(5), none) {
			t.Fatal("a new home did not ask for everything, or not once")
		}
		tell(6, none, idset.Of(5)) // late
		if tell(2, idset.Of(6), none) || w.planes.Count() != 2 {
			t.Fatalf("%d are online, want 2", w.planes.Count())
		}
	})
}

func TestHellosAreThoseOfLiveConnections(t *testing.T) {
	a, b := job.Incarnation{Gateway: "a", Start: 1}, job.Incarnation{Gateway: "b", Start: 4}
	var h hellos
	h.init()
	seq := map[job.Incarnation]uint64{}
	take := func(inc job.Incarnation, leave []uint32, said ...handoff.Hello) {
		seq[inc]++
		ann := handoff.Announce{Inc: inc, Seq: seq[inc], Join: idset.New(0), Leave: idset.Of(leave...), Hellos: said}
		for _, x := range said {
			ann.Join.Add(uint32(x.Recipient))
		}
		h.take(&ann)
	}
	says := func(who job.Recipient, client uint64) handoff.Hello {
		return handoff.Hello{Recipient: who, Client: client, Speaks: true}
	}
	expect := func(what string, want ...string) {
		t.Helper()
		got := []string{}
		for _, l := range h.of(idset.Of(1, 2, 3), []parked.Doubt{{Set: idset.Of(1, 2, 9)}}) {
			got = append(got, fmt.Sprintf("%d/%d at %s", l.Recipient, l.Client, l.Inc))
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("%s: %v, want %v", what, got, want)
		}
	}
	take(a, nil, says(1, 10), says(1, 11), says(2, 20), says(3, 30), handoff.Hello{Recipient: 2, Client: 21})
	expect("those in doubt who speak", "1/10 at a.1", "1/11 at a.1", "2/20 at a.1")
	take(a, []uint32{2})
	expect("one has left", "1/10 at a.1", "1/11 at a.1")
	take(a, nil, says(1, 11))
	expect("a client is there anew", "1/10 at a.1", "1/11 at a.1")
	take(b, nil, says(1, 11))
	take(a, []uint32{1})
	expect("moved", "1/11 at b.4")
	seq[b] = 0
	take(b, nil, says(2, 22))
	expect("told anew", "2/22 at b.4")
	take(job.Incarnation{Gateway: "b", Start: 5}, nil)
	take(b, nil, says(1, 12))
	expect("the incarnation is over")
}
