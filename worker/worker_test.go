package worker

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"crier/internal/work"
	"crier/job"
	"crier/presence/gateway"
	"crier/state/ledger"
	"crier/state/parked"
	"crier/state/parked/feed"
	"crier/state/parked/kv"
	"crier/worker/home"
	"crier/worker/lane"
)

// crowd makes a package of n recipients in four ranges, most of them followers,
// and logs a share of it in.
func (w *world) crowd(n int, onlineShare float64) (pkg people, online []uint32) {
	pkg = people{}
	for len(pkg) < n {
		id := uint32(w.rng.IntN(4))<<20*3 + uint32(w.rng.IntN(n*2))
		if pkg[id] {
			continue
		}
		pkg[id] = true
		if w.rng.Float64() < 0.95 {
			w.content.followers[id] = true
		}
		if w.rng.Float64() < 0.05 {
			w.content.suppress(id)
		}
		if w.rng.Float64() < onlineShare {
			online = append(online, id)
		}
	}
	w.gw.connect(true, online...)
	w.until("they are online", func() bool { return int(w.planes.Count()) == len(w.gw.clients) })
	return pkg, online
}

// admitted is who of a package the filters let through, by the oracle.
func (w *world) admitted(pkg people) people {
	out := people{}
	for id := range pkg {
		if w.content.followers[id] && !w.content.suppressed[id] {
			out[id] = true
		}
	}
	return out
}

// checkShown compares what the clients showed with who should have.
func (w *world) checkShown(id job.ID, want people) {
	w.t.Helper()
	got := w.gw.shown(id)
	for r, n := range got {
		if !want[r] {
			w.t.Fatalf("recipient %d was not to get it", r)
		}
		if n != 1 {
			w.t.Fatalf("recipient %d showed it %d times", r, n)
		}
	}
	if len(got) != len(want) {
		w.t.Fatalf("%d clients showed it, want %d", len(got), len(want))
	}
}

func only(all people, ids []uint32) people {
	out := people{}
	for _, id := range ids {
		if all[id] {
			out[id] = true
		}
	}
	return out
}

func TestEveryoneGetsItOnce(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		pkg, online := w.crowd(4000, 0.3)
		admitted := w.admitted(pkg)
		id := w.submit(pkg, nil)
		w.send(id)
		now := only(admitted, online)
		w.until("all online have acknowledged", func() bool { return w.counts(id).Delivered == uint64(len(now)) })
		w.checkShown(id, now)
		c := w.reconcile(id)
		if c.Parked != uint64(len(admitted)-len(now)) || c.DroppedTotal() != uint64(len(pkg)-len(admitted)) {
			t.Fatalf("counts %+v; %d admitted, %d of them online", c, len(admitted), len(now))
		}
		var offline []uint32
		for id := range pkg {
			if _, isOnline := w.gw.clients[job.Recipient(id)]; !isOnline {
				offline = append(offline, id)
			}
		}
		w.gw.connect(true, offline...)
		w.until("all are drained", func() bool { return w.counts(id).Open() == 0 })
		w.reconcile(id)
		w.checkShown(id, admitted)
		w.sameWhenRebuilt()
	})
}

// sameWhenRebuilt builds the index again from the ledger alone and compares.
func (w *world) sameWhenRebuilt() {
	w.t.Helper()
	fresh := kv.NewMemory()
	x, err := parked.New(context.Background(), fresh, w.content, w.log)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := feed.CatchUp(context.Background(), x, w.log); err != nil {
		w.t.Fatal(err)
	}
	dump := func(x *parked.Index) []byte {
		var b bytes.Buffer
		if err := x.Dump(func(k, v []byte) error { fmt.Fprintf(&b, "%x=%x\n", k, v); return nil }); err != nil {
			w.t.Fatal(err)
		}
		return b.Bytes()
	}
	if !bytes.Equal(dump(x), dump(w.index)) {
		w.t.Fatal("the index, built again from the ledger, is another")
	}
}

func TestWorkerCrashesWhileSending(t *testing.T) {
	for seed := range uint64(8) {
		inWorld(t, seed, func(w *world) {
			pkg, online := w.crowd(3000, 0.4)
			id := w.submit(pkg, func(s *job.Spec) { s.Rate = 400 })
			for range 4 {
				w.offer(id)
				time.Sleep(time.Duration(w.rng.IntN(700)) * time.Millisecond)
				if seed%2 == 1 {
					w.kv = kv.NewMemory() // the index is lost, too
				}
				w.restart()
				w.readmit()
			}
			w.send(id)
			now := only(w.admitted(pkg), online)
			w.until("all online have acknowledged", func() bool { return w.counts(id).Delivered == uint64(len(now)) })
			w.reconcile(id)
			w.checkShown(id, now)
			w.sameWhenRebuilt()
		})
	}
}

// readmit announces everybody again, as a home that starts afresh makes gateways do.
func (w *world) readmit() { synctest.Wait() }

func TestGatewayCrashesWhileSending(t *testing.T) {
	for seed := range uint64(8) {
		inWorld(t, seed, func(w *world) {
			pkg, online := w.crowd(2000, 0.5)
			id := w.submit(pkg, func(s *job.Spec) { s.Rate = 300 })
			var history gateway.History
			for start := range uint32(3) {
				w.offer(id)
				time.Sleep(time.Duration(w.rng.IntN(1200)) * time.Millisecond)
				history.Ended = append(history.Ended, w.gw.end())
				history.First = 1
				w.gw.start(start+2, history)
				w.gw.connect(true, online...)
			}
			w.send(id)
			now := only(w.admitted(pkg), online)
			w.until("all online have acknowledged", func() bool { return w.counts(id).Delivered == uint64(len(now)) })
			w.reconcile(id)
			w.checkShown(id, now)
			w.sameWhenRebuilt()
		})
	}
}

func TestSilentClientsAreInDoubtAndListed(t *testing.T) {
	inWorld(t, 3, func(w *world) {
		pkg, online := w.crowd(500, 0)
		admitted := w.admitted(pkg)
		n := 0
		mute := people{}
		for r := range admitted {
			if n++; n > 60 {
				break
			}
			w.gw.connect(n%2 == 0, r)
			w.gw.with(func() { w.gw.clients[job.Recipient(r)].deaf = true })
			if n%2 == 1 {
				mute[r] = true
			}
			online = append(online, r)
		}
		w.until("they are online", func() bool { return w.planes.Count() == 60 })
		id := w.submit(pkg, func(s *job.Spec) { s.ExpiresAt = s.SubmittedAt.Add(3 * time.Minute) })
		w.send(id)
		// Nobody acknowledges: after 30 s the gateway ends their connections.
		w.until("the silent are in doubt", func() bool { return w.counts(id).HandedOff == 0 })
		c := w.reconcile(id)
		if c.InDoubt != uint64(len(mute)) || c.Parked != uint64(len(admitted)-len(mute)) {
			t.Fatalf("counts %+v; want %d in doubt", c, len(mute))
		}
		var listed people = people{}
		for r := range job.Range(job.Ranges) {
			doubts, err := w.index.DoubtIn(r, id)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range doubts {
				for who := range d.Set.All() {
					listed[who] = true
				}
			}
		}
		if fmt.Sprint(listed) != fmt.Sprint(mute) {
			t.Fatalf("in doubt are %d, listed %d", len(mute), len(listed))
		}
		// Those who speak come back, say that they have it, and it is delivered.
		for r := range admitted {
			if c := w.gw.clients[job.Recipient(r)]; c != nil && c.speaks {
				w.gw.with(func() { c.deaf = false })
				w.gw.connect(true, r)
			}
		}
		w.until("those who speak are delivered", func() bool { return w.counts(id).Delivered == uint64(60-len(mute)) })
		w.checkShown(id, only(admitted, online))
		// At the end of its time to live the rest fails or expires.
		time.Sleep(3 * time.Minute)
		w.until("nobody is open", func() bool { return w.counts(id).Open() == 0 })
		c = w.reconcile(id)
		if c.Failed != uint64(len(mute)) || c.Expired != uint64(len(admitted)-60) {
			t.Fatalf("counts at the end %+v", c)
		}
		w.sameWhenRebuilt()
	})
}

func TestControls(t *testing.T) {
	inWorld(t, 4, func(w *world) {
		pkg, online := w.crowd(3000, 0.5)
		id := w.submit(pkg, func(s *job.Spec) { s.Rate = 200 })
		w.offer(id)
		time.Sleep(2 * time.Second)
		yes, no := true, false
		control := func(c job.Control) {
			if _, err := w.table.Control(context.Background(), id, c); err != nil {
				t.Fatal(err)
			}
		}
		control(job.Control{Pause: &yes})
		time.Sleep(time.Second)
		paused := len(w.gw.shown(id))
		time.Sleep(10 * time.Second)
		if n := len(w.gw.shown(id)); n != paused || n == 0 || n > 700 {
			t.Fatalf("%d shown when paused, %d ten seconds later", paused, n)
		}
		control(job.Control{Pause: &no})
		time.Sleep(2 * time.Second)
		going := len(w.gw.shown(id))
		if going <= paused {
			t.Fatal("resume changed nothing")
		}
		control(job.Control{Cancel: true})
		w.send(id)
		w.until("nobody is open", func() bool { return w.counts(id).Open() == 0 })
		c := w.reconcile(id)
		if c.Cancelled == 0 || c.Delivered != uint64(len(w.gw.shown(id))) || int(c.Delivered) >= len(online) {
			t.Fatalf("counts after a cancel %+v", c)
		}
		w.sameWhenRebuilt()
	})
}

func TestSuppressedWhileParked(t *testing.T) {
	inWorld(t, 5, func(w *world) {
		pkg, _ := w.crowd(1000, 0)
		admitted := w.admitted(pkg)
		id := w.submit(pkg, nil)
		w.send(id)
		var late []uint32
		for r := range admitted {
			if len(late) < 100 {
				late = append(late, r)
				w.content.suppress(r)
			}
		}
		w.gw.connect(true, late...)
		w.until("they are dropped", func() bool { return w.counts(id).Dropped[job.SuppressedParked] == uint64(len(late)) })
		if n := len(w.gw.shown(id)); n != 0 {
			t.Fatalf("%d who were suppressed while parked got it", n)
		}
	})
}

// A cancel, a recall, and a suppression, while a drain waits for its budget: nothing
// leaves afterwards (rule 21).
func TestCancelledWhileADrainWaits(t *testing.T) {
	inWorld(t, 13, func(w *world) {
		w.drains = 1
		w.restart()
		pkg, ids := people{}, []uint32{}
		for r := range uint32(20) {
			pkg[r], w.content.followers[r] = true, true
			ids = append(ids, r)
		}
		cancelled, recalled, suppressed := w.submit(pkg, nil), w.submit(pkg, nil), w.submit(pkg, nil)
		w.send(cancelled)
		w.send(recalled)
		w.send(suppressed)
		w.gw.connect(true, ids...)
		w.until("they are online", func() bool { return w.planes.Count() == 20 })
		if _, err := w.table.Control(context.Background(), cancelled, job.Control{Cancel: true}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.table.Control(context.Background(), recalled, job.Control{Recall: true}); err != nil {
			t.Fatal(err)
		}
		w.content.suppress(ids...)
		w.until("nobody is open", func() bool {
			return w.counts(cancelled).Open()+w.counts(recalled).Open()+w.counts(suppressed).Open() == 0
		})
		w.checkShown(cancelled, nil)
		w.checkShown(recalled, nil)
		if c := w.reconcile(recalled); c.Recalled != 20 {
			t.Errorf("%+v", c)
		}
		w.checkShown(suppressed, nil)
		w.reconcile(cancelled)
		w.reconcile(suppressed)
	})
}

// Somebody comes for whom more waits than a pass takes: the budget of drains is spent on
// what leaves, not again and again on what stays.
func TestADrainOfMoreThanAPassKeepsItsRate(t *testing.T) {
	inWorld(t, 25, func(w *world) {
		w.drains = 10
		w.restart()
		const n = 200
		pkg := people{7: true}
		w.content.followers = pkg
		ids := w.sendAll(pkg, n)
		start := time.Now()
		w.gw.connect(true, 7)
		for _, id := range ids {
			w.until("it is delivered", func() bool { return w.counts(id).Delivered == 1 })
		}
		if took := time.Since(start); took < n/10*time.Second-2*time.Second || took > n/10*time.Second*3/2 {
			t.Errorf("%d at 10 a second took %s", n, took)
		}
	})
}

// The controls cannot be read, and a pause is among them: who logs in waits.
func TestNothingIsDrainedOnOldControls(t *testing.T) {
	inWorld(t, 14, func(w *world) {
		pkg := people{7: true}
		w.content.followers = pkg
		id := w.submit(pkg, nil)
		w.send(id)
		w.ctl.on.Store(true)
		stalled := time.Now().Add(5 * time.Second)
		w.until("the controls are old", func() bool { return time.Now().After(stalled) })
		yes, no := true, false
		if _, err := w.table.Control(context.Background(), id, job.Control{Pause: &yes}); err != nil {
			t.Fatal(err)
		}
		w.gw.connect(true, 7)
		long := time.Now().Add(20 * time.Second)
		w.until("some sweeps have passed", func() bool { return time.Now().After(long) })
		w.checkShown(id, nil)
		if _, err := w.table.Control(context.Background(), id, job.Control{Pause: &no}); err != nil {
			t.Fatal(err)
		}
		w.ctl.on.Store(false)
		w.until("it is drained", func() bool { return w.counts(id).Delivered == 1 })
	})
}

// The loop was held up for long: that the controls were all known when it last heard so
// says nothing of those that came since.
func TestOldNewsOfTheControlsCountsForNothing(t *testing.T) {
	inWorld(t, 27, func(w *world) {
		pkg, _ := w.crowd(1000, 1)
		id := w.submit(pkg, func(s *job.Spec) { s.Rate = 20 })
		w.offer(id)
		w.until("it is being sent", func() bool { return len(w.gw.shown(id)) > 20 })
		heard := time.Now()
		w.ctl.on.Store(true)
		w.passes(5 * time.Second)
		n := len(w.gw.shown(id))
		w.worker.post(context.Background(), controlsCaughtUp{heard})
		w.passes(2 * time.Second)
		if now := len(w.gw.shown(id)); now != n {
			t.Errorf("%d were sent on what was known %s ago", now-n, time.Since(heard))
		}
		w.ctl.on.Store(false)
		w.until("it goes on", func() bool { return len(w.gw.shown(id)) > n })
	})
}

// A ledger that is full or does not answer is asked again some times a second, not
// all the time; what it did not take is taken when there is room.
func TestAppendsWaitForAFullLedger(t *testing.T) {
	inWorld(t, 16, func(w *world) {
		pkg, _ := w.crowd(100, 1)
		full := slices.Repeat([]ledger.Fault{ledger.FaultFull}, 40)
		w.log.Inject(ledger.AllJournals, full...)
		start := time.Now()
		id := w.submit(pkg, nil)
		w.send(id)
		if took := time.Since(start); took < 5*time.Second {
			t.Fatalf("40 refused appends took %s", took)
		}
		w.log.Inject(ledger.AllJournals, slices.Repeat([]ledger.Fault{ledger.FaultLost}, 40)...)
		start = time.Now()
		w.restart()
		if took := time.Since(start); took < 5*time.Second {
			t.Fatalf("40 lost seals took %s", took)
		}
		w.until("all have acknowledged", func() bool { return w.counts(id).Delivered == uint64(len(w.admitted(pkg))) })
		w.reconcile(id)
		w.checkShown(id, w.admitted(pkg))
	})
}

// An offer is answered so slowly that its slice was sent and its job is over
// meanwhile: a block that is reserved twice would end the index for good.
func TestLateAssignment(t *testing.T) {
	inWorld(t, 19, func(w *world) {
		pkg, online := w.crowd(100, 1)
		id := w.submit(pkg, nil)
		offer := work.Offer{Job: id, Span: job.Span{Hi: 1 << 32}}
		todo, err := w.worker.todo(pkg, offer)
		if err != nil {
			t.Fatal(err)
		}
		epoch, err := w.worker.slices.Claim(context.Background(), ledger.SliceThing(id, 0))
		if err != nil {
			t.Fatal(err)
		}
		w.send(id)
		w.until("it is closed", func() bool { return w.counts(id).Open() == 0 })
		for _, s := range []job.State{job.Sent, job.Completed} {
			if _, err := w.table.Transition(context.Background(), id, s, "", time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		over := time.Now().Add(3 * time.Second)
		w.until("the worker has forgotten it", func() bool { return time.Now().After(over) })
		w.worker.post(context.Background(), assign{offer, epoch, todo})
		synctest.Wait()
		w.restart() // fails if the worker has ended
		w.reconcile(id)
		w.checkShown(id, only(w.admitted(pkg), online))
	})
}

// What was to do of a slice was read under a claim that was given up since, and another
// one follows: only what was read under that counts.
func TestAssignmentOfAnEarlierClaim(t *testing.T) {
	inWorld(t, 24, func(w *world) {
		pkg, online := w.crowd(100, 1)
		id := w.submit(pkg, func(s *job.Spec) { s.Rate = 20 })
		offer := work.Offer{Job: id, Span: job.Span{Hi: 1 << 32}}
		thing := ledger.SliceThing(id, 0)
		early, err := w.worker.slices.Claim(context.Background(), thing)
		if err != nil {
			t.Fatal(err)
		}
		todo, err := w.worker.todo(pkg, offer)
		if err != nil {
			t.Fatal(err)
		}
		w.offer(id)
		w.until("some have it", func() bool { return w.counts(id).Delivered > 10 })
		w.worker.post(context.Background(), lane.Drop{})
		w.until("it is given up", func() bool { return w.claims.Of(thing).Journal.IsZero() })
		w.until("it is claimed again", func() bool {
			_, err := w.worker.slices.Claim(context.Background(), thing)
			return err == nil
		})
		w.worker.post(context.Background(), assign{offer, early, todo})
		w.send(id)
		w.until("it is closed", func() bool { return w.counts(id).Open() == 0 })
		w.checkShown(id, only(w.admitted(pkg), online))
		w.reconcile(id)
	})
}

// What an account's jobs need cannot be read: the other jobs of their ranges are drained.
func TestADamagedJobHoldsUpNoOther(t *testing.T) {
	inWorld(t, 20, func(w *world) {
		pkg := people{7: true}
		w.content.followers = pkg
		damaged, sound := w.submit(pkg, func(s *job.Spec) { s.Account = 2 }), w.submit(pkg, nil)
		w.send(damaged)
		w.send(sound)
		w.content.mu.Lock()
		w.content.damaged = 2
		w.content.mu.Unlock()
		w.gw.connect(true, 7)
		w.until("the other is delivered", func() bool { return w.counts(sound).Delivered == 1 })
		if c := w.counts(damaged); c.Parked != 1 {
			t.Fatalf("%+v", c)
		}
		w.content.mu.Lock()
		w.content.damaged = 0
		w.content.mu.Unlock()
		w.until("it is drained when it can be read again", func() bool { return w.counts(damaged).Delivered == 1 })
		w.checkShown(damaged, pkg)
	})
}

// A worker that cannot read a package does not claim its slices: they are offered to
// nobody else as long as it holds them.
func TestWhoCannotReadAPackageClaimsNothing(t *testing.T) {
	inWorld(t, 26, func(w *world) {
		id := w.submit(people{7: true}, nil)
		missing := func(id job.ID) {
			w.content.mu.Lock()
			defer w.content.mu.Unlock()
			w.content.missing = id
		}
		missing(id)
		if got := w.offer(id); got != job.SlicePlanned {
			t.Errorf("the slice is %s", got)
		}
		if c, err := ledger.LastClaim(context.Background(), w.log, ledger.SliceThing(id, 0)); err != nil || c.Epoch != 0 {
			t.Errorf("%+v, %v", c, err)
		}
		missing(job.ID{})
		w.send(id)
	})
}

// What a worker reads is closed when Run has returned: presence is memory that is not
// there any more.
func TestNothingRunsBehindRun(t *testing.T) {
	inWorld(t, 21, func(w *world) {
		pkg := people{7: true}
		w.content.followers = pkg
		w.home(0)
		w.content.held = make(chan struct{})
		id := w.submit(pkg, nil)
		if got := w.offer(id); got != job.SliceSending {
			t.Fatalf("the slice is %s", got)
		}
		w.until("its block waits for the lists", w.content.waiting.Load)
		over := make(chan struct{})
		go func() {
			w.stop()
			close(over)
		}()
		synctest.Wait()
		select {
		case <-over:
			t.Error("Run returned while a block was being worked out")
		default:
		}
		close(w.content.held)
		<-over
	})
}

// The store of bodies is slow for one job: others are handed over meanwhile, and soon, whatever
// number of hand-offs waits for it.
func TestASlowBodyHoldsUpNoOtherJob(t *testing.T) {
	inWorld(t, 43, func(w *world) {
		pkg, first := people{}, people{}
		for r := range uint32(6) { // fewer than outbound.MaxSilent
			pkg[r<<20], first[r<<20] = true, true
		}
		first[7], pkg[7] = true, true
		w.content.followers = pkg
		w.gw.connect(true, slices.Collect(maps.Keys(pkg))...)
		w.until("they are online", func() bool { return w.planes.Count() == uint64(len(pkg)) })
		slow := w.submit(first, nil)
		body := make(chan struct{})
		arrives := sync.OnceFunc(func() { close(body) })
		defer arrives()
		w.content.mu.Lock()
		w.content.slow = map[job.ID]chan struct{}{slow: body}
		w.content.mu.Unlock()
		w.offer(slow)
		w.passes(2 * time.Second)
		other := w.submit(people{7: true}, nil)
		began := time.Now()
		w.send(other)
		w.until("the other one is delivered", func() bool { return w.counts(other).Delivered == 1 })
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("the other one took %s", took)
		}
		if n := w.counts(slow).Delivered; n != 0 {
			t.Errorf("%d got a message without a body", n)
		}
		arrives()
		w.send(slow)
		w.until("all are delivered", func() bool { return w.counts(slow).Delivered == uint64(len(first)) })
		w.checkShown(slow, first)
		w.reconcile(slow)
	})
}

// Who has more waiting than a pass takes gets it in turns that one look found: each once, and
// nothing of a job that is cancelled, or from an account that may not send to it any more, meanwhile.
func TestWhoHasMuchGetsItInTurns(t *testing.T) {
	const jobs = 5*home.PassLimit + 3
	for name, c := range map[string]struct {
		rate int
		stop func(*world, []job.ID)
		want int // at most
	}{
		"all":        {0, func(*world, []job.ID) {}, jobs},
		"cancelled":  {home.PassLimit, func(w *world, ids []job.ID) { w.cancel(ids[jobs/2:]...) }, jobs / 2},
		"suppressed": {home.PassLimit, func(w *world, ids []job.ID) { w.content.suppress(7) }, 2 * home.PassLimit},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, 41, func(w *world) {
				w.drains = c.rate
				w.restart()
				pkg := people{7: true}
				w.content.followers = pkg
				ids := w.sendAll(pkg, jobs)
				delivered := func() int { return w.delivered(ids) }
				w.gw.connect(true, 7)
				w.until("it gets the first", func() bool { return delivered() > 0 })
				c.stop(w, ids)
				w.until("nothing is open", func() bool {
					return !slices.ContainsFunc(ids, func(id job.ID) bool { return w.counts(id).Open() > 0 })
				})
				if n := delivered(); n > c.want || name == "all" && n < jobs {
					t.Errorf("%d of %d are delivered, want %d", n, jobs, c.want)
				}
				shown := 0
				for _, id := range ids {
					n := len(w.gw.shown(id))
					shown += n
					if n > 1 || n != int(w.counts(id).Delivered) {
						t.Errorf("%s is shown %d times: %+v", id, n, w.counts(id))
					}
				}
				w.reconcile(ids[0])
				w.reconcile(ids[jobs-1])
			})
		})
	}
}

// Whose client answers slowly gets no more than a connection may have unsettled, as fast as it
// answers. A hand-off may overtake the word to the gateway that there is room for it, and is parked
// again; by turns that do not wait for room, that is so of most.
func TestWhoHasMuchAndAnswersSlowly(t *testing.T) {
	const jobs, answers = 10*home.PassLimit + 3, 200 * time.Millisecond
	inWorld(t, 43, func(w *world) {
		pkg := people{7: true}
		w.content.followers = pkg
		ids := w.sendAll(pkg, jobs)
		before, began := w.worker.Stats().Drains.Load(), time.Now()
		w.gw.slow = answers
		w.gw.connect(true, 7)
		w.until("all are delivered", func() bool {
			return !slices.ContainsFunc(ids, func(id job.ID) bool { return w.counts(id).Delivered == 0 })
		})
		took, drains := time.Since(began), w.worker.Stats().Drains.Load()-before
		t.Logf("%d messages took %s and %d drains", jobs, took, drains)
		if drains < jobs || drains > 2*jobs {
			t.Errorf("%d drains for %d messages", drains, jobs)
		}
		if most := (jobs/(2*home.PassLimit)+1)*answers + 4*time.Second; took > most {
			t.Errorf("it took %s, at most %s is meant", took, most)
		}
	})
}

// Who comes back with a window full of what was not acknowledged is handed that first, which
// makes room for the rest. While nobody can settle it, since its jobs are paused, what else waits does
// not go to the gateway and back without end.
func TestAFullWindow(t *testing.T) {
	const jobs, window = 5 * home.PassLimit, 2 * home.PassLimit
	for _, paused := range []bool{false, true} {
		t.Run(fmt.Sprintf("paused %v", paused), func(t *testing.T) {
			inWorld(t, 47, func(w *world) {
				pkg := people{7: true}
				w.content.followers = pkg
				ids := w.sendAll(pkg, jobs)
				delivered := func() int { return w.delivered(ids) }
				w.gw.with(func() {
					w.gw.clients[7] = &client{id: 7, speaks: true, deaf: true, have: map[job.ID]bool{}, shown: map[job.ID]int{}}
				})
				w.gw.connect(true, 7)
				w.until("its window is full", func() bool { return w.gw.remembered() == window })
				w.gw.with(func() { w.gw.disconnect(w.gw.clients[7]) })
				w.until("all of it is parked again", func() bool {
					return !slices.ContainsFunc(ids, func(id job.ID) bool { return w.counts(id).Parked == 0 })
				})
				var has []job.ID
				w.gw.with(func() { w.gw.clients[7].deaf, has = false, slices.Collect(maps.Keys(w.gw.clients[7].have)) })
				if paused {
					w.pause(true, has...)
				}
				before := w.worker.Stats().Drains.Load()
				w.gw.connect(true, 7)
				if paused {
					for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); {
						time.Sleep(time.Second) // in a bubble
					}
					if n, drains := delivered(), w.worker.Stats().Drains.Load()-before; n > 0 || drains == 0 || drains > 10*window {
						t.Errorf("%d are delivered without room for them, by %d drains", n, drains)
					}
					w.pause(false, has...)
				}
				w.until("all are delivered", func() bool { return delivered() == jobs })
				if drains := w.worker.Stats().Drains.Load() - before; !paused && drains > 2*jobs { // see TestWhoHasMuchAndAnswersSlowly
					t.Errorf("%d drains for %d messages", drains, jobs)
				}
				for _, id := range ids {
					if n := w.gw.shown(id)[7]; n != 1 {
						t.Errorf("%s is shown %d times", id, n)
					}
				}
			})
		})
	}
}

// delivered counts what of some jobs is delivered.
func (w *world) delivered(ids []job.ID) (n int) {
	for _, id := range ids {
		n += int(w.counts(id).Delivered)
	}
	return n
}

// sendAll sends so many jobs, one after the other.
func (w *world) sendAll(pkg people, n int) (ids []job.ID) {
	for range n {
		ids = append(ids, w.submit(pkg, nil))
		w.send(ids[len(ids)-1])
	}
	return ids
}

func (w *world) pause(on bool, ids ...job.ID) {
	for _, id := range ids {
		if _, err := w.table.Control(context.Background(), id, job.Control{Pause: &on}); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) cancel(ids ...job.ID) {
	for _, id := range ids {
		if _, err := w.table.Control(context.Background(), id, job.Control{Cancel: true}); err != nil {
			w.t.Fatal(err)
		}
	}
}
