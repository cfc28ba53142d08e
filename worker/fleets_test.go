package worker

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"crier/job"
	"crier/presence/gateway"
	"crier/state/ledger"
	"crier/worker/tenure"
)

// A sender asks the homes of its blocks' ranges; gateways tell each home who is there;
// who logs in later gets what waits from the home, not from who sent it.
func TestASenderAsksTheHomesElsewhere(t *testing.T) {
	inFleet(t, 1, 3, func(f *fleet, gws []*host) {
		var now, later []uint32
		for i, m := range f.members {
			r := f.rangeOf(m, job.Range(100*i))
			ids := in(r, 6)
			now, later = append(now, ids[:3]...), append(later, ids[3:]...)
		}
		pkg := peopleOf(now, later)
		f.content.followers = pkg
		gws[0].connect(true, now[:5]...)
		gws[1].connect(true, now[5:]...)
		f.onlineAt(now...)
		for _, id := range now {
			r := job.Recipient(id).Range()
			if f.homeOf(r) != f.first(r) {
				t.Errorf("range %s has its home at %s", r, f.homeOf(r).name)
			}
		}
		id := f.submit(pkg, nil)
		f.sendBy(f.members[0], id)
		f.until("who is online has it", func() bool { return f.counts(id).Delivered == uint64(len(now)) })
		if n := f.members[1].worker.stats.Reserves.Load(); n != 0 {
			t.Errorf("a home that did not send made %d reserves", n)
		}
		if c := f.counts(id); c.Parked != uint64(len(later)) {
			t.Fatalf("%+v", c)
		}
		gws[1].connect(true, later...)
		f.delivered(id, pkg, gws...)
		for _, m := range f.members {
			if m.worker.stats.Drains.Load() == 0 {
				t.Errorf("%s drained nothing", m.name)
			}
		}
	})
}

// A worker is killed with reserves open at its gateways, with ranges of its own and a
// slice half sent. Another seals its journal, fences, and takes all of it over.
func TestAKilledWorkerIsSucceeded(t *testing.T) {
	inFleet(t, 2, 3, func(f *fleet, gws []*host) {
		dead, other := f.members[0], f.members[1]
		mine := in(f.rangeOf(dead, 0), 8)
		theirs := in(f.rangeOf(other, 0), 8)
		pkg := peopleOf(mine, theirs)
		f.content.followers = pkg
		gws[0].connect(true, append(slices.Clone(mine[:6]), theirs[:6]...)...)
		f.onlineAt(append(slices.Clone(mine[:6]), theirs[:6]...)...)
		gws[0].with(func() {
			for _, c := range gws[0].clients {
				c.deaf = true
			}
		})
		id := f.submit(pkg, func(s *job.Spec) { s.Rate = 4 })
		f.until("it is half sent", func() bool {
			f.offer(dead, id, 0, whole)
			return f.counts(id).HandedOff >= 4
		})
		gws[0].lets(true, false) // what it says to the dead one's questions is lost
		dead.kill()
		f.out[dead.name], f.lapsed[dead.worker.journal] = true, true
		f.tell()
		f.until("its journal is sealed", func() bool { return f.index.Sealed(dead.worker.journal) })
		gws[0].lets(true, true)
		gws[0].with(func() {
			for _, c := range gws[0].clients {
				c.deaf = false
			}
		})
		f.sendBy(other, id)
		f.until("somebody is home to its range", func() bool { m := f.homeOf(job.Recipient(mine[0]).Range()); return m != nil && m != dead })
		f.until("its journal's reserves are somebody's", func() bool {
			by := f.claims.Of(ledger.JournalThing(dead.worker.journal)).Journal.Worker
			return by != "" && by != dead.name
		})
		gws[1].connect(true, mine[6], mine[7], theirs[6], theirs[7])
		f.delivered(id, pkg, gws...)
		f.until("all may forget it", func() bool {
			gws[0].reconnect()
			return gws[0].remembered()+gws[1].remembered() == 0
		})

		dead.start() // it comes back, and has no part in what others closed
		f.out[dead.name] = false
		f.tell()
		f.until("it has its range again", func() bool { return f.homeOf(job.Recipient(mine[0]).Range()) == dead })
		second := f.submit(pkg, nil)
		f.sendBy(dead, second)
		f.delivered(second, pkg, gws...)
	})
}

// The others see a worker come just while it looks for the first time who else there is.
func TestARingThatChangesWhileAWorkerStarts(t *testing.T) {
	for at := range int64(4) {
		inFleet(t, 7, 2, func(f *fleet, _ []*host) {
			m := f.members[0]
			r := f.rangeOf(m, 0)
			m.kill()
			f.out[m.name], f.lapsed[m.worker.journal] = true, true
			f.tell()
			f.wantUntil(r, func() bool { return f.homeOf(r) == f.members[1] })
			m.looks.Store(0)
			m.looked = func(n int64) {
				if n == at+1 {
					f.out[m.name] = false
					f.tell()
				}
			}
			m.start()
			f.until("it has its range again", func() bool { return f.homeOf(r) == m })
		})
	}
}

// A worker stands still for long enough to be taken for dead. When it goes on, all that
// it tries is refused, and it ends.
func TestAPausedWorkerHasNoEffect(t *testing.T) {
	inFleet(t, 3, 2, func(f *fleet, gws []*host) {
		slow, other := f.members[0], f.members[1]
		r := f.rangeOf(slow, 0)
		ids := in(r, 10)
		pkg := peopleOf(ids)
		f.content.followers = pkg
		gws[0].connect(true, ids[:5]...)
		f.onlineAt(ids[:5]...)
		id := f.submit(pkg, func(s *job.Spec) { s.Rate = 2 })
		f.until("it has begun", func() bool { f.offer(slow, id, 0, whole); return f.counts(id).Delivered >= 2 })
		slow.gate.shut()
		f.out[slow.name], f.lapsed[slow.worker.journal] = true, true
		f.tell()
		f.until("another is home", func() bool { return f.homeOf(r) == other })
		f.sendBy(other, id)
		gws[1].connect(true, ids[5:]...)
		f.until("all are delivered", func() bool { return f.counts(id).Delivered == uint64(len(pkg)) })
		before := slow.refused.Load()
		slow.gate.open()
		f.until("it has ended", slow.ended)
		if !errors.Is(slow.err, ErrStopped) {
			t.Errorf("it ended by %v", slow.err)
		}
		if slow.refused.Load() == before {
			t.Error("it tried nothing after its seal: the test means nothing")
		}
		f.delivered(id, pkg, gws...)
	})
}

// An idle worker that is sealed has nothing to append by which it would notice.
func TestAnIdleWorkerNoticesItsSeal(t *testing.T) {
	inFleet(t, 4, 2, func(f *fleet, gws []*host) {
		idle := f.members[0]
		f.lapsed[idle.worker.journal] = true
		f.tell()
		f.until("it has ended", idle.ended)
		if !errors.Is(idle.err, ErrStopped) {
			t.Errorf("it ended by %v", idle.err)
		}
	})
}

// Rings change while a job is sent and clients log in: ranges move with what is parked
// there, and with drains under way.
func TestRangesMoveWhileAJobIsSent(t *testing.T) {
	inFleet(t, 5, 3, func(f *fleet, gws []*host) {
		var all []uint32
		for r := range job.Range(6) {
			all = append(all, in(r, 12)...)
		}
		pkg := peopleOf(all)
		f.content.followers = pkg
		id := f.submit(pkg, func(s *job.Spec) { s.Rate = 1 })
		moved, before := 0, map[job.Range]*member{}
		next := 0
		for round := range 40 {
			f.out = map[string]bool{f.members[round/10%3].name: round/10 != 3}
			if round%10 == 0 {
				f.tell()
			}
			f.offer(f.members[0], id, 0, whole)
			for range 2 {
				if next < len(all) {
					gws[next%2].connect(true, all[next*7%len(all)]) // 7 and 72 have no common factor
					next++
				}
			}
			deadline := time.Now().Add(1200 * time.Millisecond)
			f.until("a second passes", func() bool { return time.Now().After(deadline) })
			for r := range job.Range(6) {
				if m := f.homeOf(r); m != nil {
					if before[r] != nil && before[r] != m {
						moved++
					}
					before[r] = m
				}
			}
		}
		if moved < 3 {
			t.Errorf("%d ranges moved: too few to mean anything", moved)
		}
		f.sendBy(f.members[0], id)
		f.delivered(id, pkg, gws...)
		f.checkReleases()
	})
}

// A home that appended nothing passes a range on: whoever takes it from there has to have
// read what the home before that one drained.
func TestAReleaseCoversWhatEarlierHomesAppended(t *testing.T) {
	inFleet(t, 9, 3, func(f *fleet, gws []*host) {
		r := f.rangeOf(f.members[0], 0)
		pkg := peopleOf(in(r, 2))
		f.content.followers = pkg
		id := f.submit(pkg, nil)
		f.sendBy(f.members[1], id)
		gws[0].connect(true, in(r, 2)...)
		f.delivered(id, pkg, gws...)
		for range 2 {
			f.out[f.homeOf(r).name] = true
			f.tell()
			f.until("it moves", func() bool { m := f.homeOf(r); return m != nil && m == f.first(r) })
		}
		f.checkReleases()
	})
}

// checkReleases: whoever takes a range that was released has to have read every drain
// there before, by whomever.
func (f *fleet) checkReleases() {
	f.t.Helper()
	drained, released := map[job.Range]uint64{}, 0
	err := ledger.ReadAll(context.Background(), f.log, 1, ledger.AllSubjects, func(st ledger.Stored) error {
		if rec, err := ledger.ParseRecord(st.Data); err == nil && strings.HasPrefix(st.Subject, "led.j.") {
			for _, e := range rec.Entries {
				if d, ok := e.(*ledger.Drain); ok {
					drained[d.Range] = st.Seq
				}
			}
		}
		if c, err := ledger.ParseClaim(st); err == nil && c.Kind == ledger.ClaimRange && c.Journal.IsZero() {
			r, err := job.ParseRange(c.ID)
			if err != nil || c.After < drained[r] {
				f.t.Errorf("range %s is released after record %d, record %d drains there (%v)", c.ID, c.After, drained[r], err)
			}
			released++
		}
		return nil
	})
	if err != nil || released == 0 {
		f.t.Errorf("%d releases, %v", released, err)
	}
}

// A worker is killed; another seals its journal and cannot reach the gateway yet. The
// worker comes back and hears what the gateway reports of that journal: it leaves it to
// the other, for nothing of it is durable.
func TestReportsAreLeftToWhoClosesTheJournal(t *testing.T) {
	inFleet(t, 7, 2, func(f *fleet, gws []*host) {
		first, second := f.members[0], f.members[1]
		ids := in(f.rangeOf(first, 0), 1)
		pkg := peopleOf(ids)
		f.content.followers = pkg
		gws[0].connect(true, ids...)
		f.onlineAt(ids...)
		c := gws[0].clients[job.Recipient(ids[0])]
		gws[0].with(func() { c.deaf = true })
		id := f.submit(pkg, nil)
		f.sendBy(first, id)
		f.until("it is handed off", func() bool { return f.counts(id).HandedOff == 1 })
		gws[0].lets(false, true)
		first.kill()
		old := first.worker.journal
		f.lapsed[old] = true
		f.tell()
		f.until("the other closes its journal", func() bool { return f.claims.Of(ledger.JournalThing(old)).Journal.Worker == second.name })
		first.start()
		<-first.worker.Ready()
		gws[0].post(gateway.Acked{Conn: c.conn, IDs: []job.ID{id}})
		deadline := time.Now().Add(5 * time.Second)
		f.until("its report was repeated", func() bool { return time.Now().After(deadline) })
		if n := f.counts(id).HandedOff; n != 1 || gws[0].remembered() != 1 {
			t.Errorf("%d handed off, %d remembered: the client forgot what is not durable", n, gws[0].remembered())
		}
		gws[0].lets(true, true)
		f.delivered(id, pkg, gws...)
		f.until("it may forget it", func() bool { return gws[0].remembered() == 0 })
	})
}

// A worker is lost for good when the last done is durable and the gateway does not know
// it. Nothing of its journal is open, and still somebody answers what the gateway reports:
// else it would keep the reserve for ever.
func TestReportsOfAWorkerThatNeverComesBackAreAnswered(t *testing.T) {
	inFleet(t, 9, 2, func(f *fleet, gws []*host) {
		first := f.members[0]
		ids := in(f.rangeOf(first, 0), 1)
		pkg := peopleOf(ids)
		f.content.followers = pkg
		gws[0].connect(true, ids...)
		f.onlineAt(ids...)
		gws[0].untold.Store(true)
		id := f.submit(pkg, nil)
		f.sendBy(first, id)
		f.until("it is delivered", func() bool { return f.counts(id).Delivered == 1 })
		first.kill()
		f.lapsed[first.worker.journal] = true
		f.out[first.name] = true
		f.tell()
		gws[0].untold.Store(false)
		f.until("the gateway keeps nothing", func() bool {
			var st gateway.Stats
			gws[0].with(func() { st = gws[0].state.Stats() })
			return st.Reserves+st.Closed == 0
		})
		f.until("the client may forget it", func() bool { return gws[0].remembered() == 0 })
	})
}

// A worker claimed, and died before its journal had a record: that is sealed by its first.
func TestAJournalWithoutARecordIsSealed(t *testing.T) {
	inFleet(t, 8, 2, func(f *fleet, gws []*host) {
		ghost := job.Journal{Worker: "w9", Incarnation: 1}
		thing := ledger.RangeThing(7)
		if _, err := ledger.Take(context.Background(), f.log, thing, ledger.Taker{Journal: ghost, Sealed: f.index.Sealed}); err != nil {
			t.Fatal(err)
		}
		f.lapsed[ghost] = true
		f.tell()
		f.until("the range has a home", func() bool { return f.homeOf(7) == f.first(7) })
		if !f.index.Sealed(ghost) || f.claims.Of(thing).Epoch != 2 {
			t.Errorf("sealed: %v, %+v", f.index.Sealed(ghost), f.claims.Of(thing))
		}
	})
}

// A worker that is to be silent gives up everything, to whoever should have it.
func TestAWorkerThatIsOutGivesUpItsRanges(t *testing.T) {
	inFleet(t, 6, 2, func(f *fleet, gws []*host) {
		for r := range job.Range(40) {
			f.wantUntil(r, func() bool { return f.homeOf(r) == f.first(r) })
		}
		w1 := f.members[0].worker
		f.members[0].worker.post(context.Background(), tenure.Silence{On: true})
		f.until("it has none", func() bool {
			for r := range job.Range(40) {
				if w1.holds.Has(r) {
					return false
				}
			}
			return true
		})
		f.out["w1"] = true
		f.tell()
		f.until("the other has all", func() bool {
			for r := range job.Range(40) {
				if f.homeOf(r) != f.members[1] {
					return false
				}
			}
			return true
		})
	})
}

// What a worker has sent keeps nobody: one that is to be silent gives the slices up that it
// sent, and those of which it found nothing left to do. Whoever takes them has to have read
// every reserve, and finds nothing to do either.
func TestAWorkerThatIsSilentGivesUpWhatItSent(t *testing.T) {
	inFleet(t, 10, 2, func(f *fleet, gws []*host) {
		w1, other := f.members[0], f.members[1]
		ids := in(f.rangeOf(other, 0), 4)
		pkg := peopleOf(ids)
		f.content.followers = pkg
		found := f.submit(pkg, nil)
		f.sendBy(w1, found)
		w1.kill()
		w1.start()
		f.sendBy(w1, found) // it is sent already
		sent := f.submit(pkg, nil)
		f.sendBy(w1, sent)
		reserved := f.lastRecord(ledger.JournalSubject(w1.worker.journal))
		w1.silent.Store(true)
		for _, id := range []job.ID{found, sent} {
			f.until("its slice is given up", func() bool { return f.claims.Of(ledger.SliceThing(id, 0)).Journal.IsZero() })
		}
		if c := f.claims.Of(ledger.SliceThing(sent, 0)); c.After < reserved {
			t.Errorf("released after record %d, and record %d reserves", c.After, reserved)
		}
		for _, id := range []job.ID{found, sent} {
			f.sendBy(other, id)
		}
		if n := other.worker.stats.Reserves.Load(); n != 0 {
			t.Errorf("whoever took them made %d reserves", n)
		}
		w1.silent.Store(false)
		gws[0].connect(true, ids...)
		for _, id := range []job.ID{found, sent} {
			f.delivered(id, pkg, gws...)
		}
	})
}

// lastRecord is the sequence of the last record of a subject.
func (f *fleet) lastRecord(subject string) uint64 {
	st, err := f.log.Last(context.Background(), subject)
	if err != nil {
		f.t.Fatal(err)
	}
	return st.Seq
}
