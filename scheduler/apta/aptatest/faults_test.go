package aptatest

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"crier/scheduler/apta"
	"crier/scheduler/apta/link"
	"crier/scheduler/apta/wire"
)

// formed makes a cluster of some members that has been at work for a while.
func formed(t *testing.T, n int) *World {
	t.Helper()
	w := New(Options{Seed: uint64(n)})
	cluster(t, w, n)
	w.Run(6 * time.Second)
	return w
}

func state(w *World, id string) link.State { return w.Member(id).Core.Status().State }

func within(t *testing.T, w *World, d time.Duration, what string, so func() bool) {
	t.Helper()
	if !w.RunUntil(d, so) {
		for _, m := range w.Members() {
			st := m.Core.Status()
			t.Logf("%s: %s since %s (%s), frozen %v, links %v", m.ID, st.State, st.Since.Since(boot), st.Reason, st.Frozen, st.Links)
		}
		t.Fatalf("at %s: not within %s: %s", w.Now(), d, what)
	}
}

// TestAllHearThatTheyAgree: soon after all have the same view each knows it of all others, too.
func TestAllHearThatTheyAgree(t *testing.T) {
	w := formed(t, 6)
	agree := func() bool { return w.all(func(m *Member) bool { return len(m.Core.View().Disagreeing()) == 0 }) }
	within(t, w, 5*time.Second, "all know that they agree", agree)
	w.Crash("m004")
	within(t, w, 20*time.Second, "all know that they agree without m004", func() bool {
		return w.all(func(m *Member) bool { _, there := m.Core.View().Find("m004"); return !there }) && agree()
	})
}

// TestStoreOutage: while the store answers nobody all go on, frozen, and nobody is said
// to be lapsed; also in the first seconds after it, when all leases are gone.
func TestStoreOutage(t *testing.T) {
	w := formed(t, 4)
	w.StoreDown(true)
	within(t, w, 4*time.Second, "all are frozen", func() bool { return w.all(func(m *Member) bool { return m.Core.Frozen() }) })
	w.Run(time.Minute)
	if !w.all(func(m *Member) bool { return m.Core.Status().State == link.Working && m.Core.Frozen() }) {
		t.Fatal("a member is not WORKING and frozen while the store answers nobody")
	}
	w.Crash("m003")
	w.StoreDown(false)
	for range 40 {
		w.Run(100 * time.Millisecond)
		for _, m := range w.Members() {
			for i := range 4 {
				if m.Core.Lapsed(fmt.Sprintf("m%03d", i), 1) {
					t.Fatalf("%s says m%03d is lapsed when the store has answered for less than the time of a lease", m.ID, i)
				}
			}
		}
	}
	if !w.all(func(m *Member) bool { return m.Core.Status().State == link.Working && !m.Core.Frozen() }) {
		t.Fatal("a member is not at work again after the outage")
	}
	w.Run(3 * time.Second)
	if !w.Member("m000").Core.Lapsed("m003", 1) || w.Member("m000").Core.Lapsed("m002", 1) {
		t.Error("of a dead and a living member, not just the dead one is said to be lapsed after the outage")
	}
}

func (w *World) all(so func(*Member) bool) bool {
	for _, m := range w.Members() {
		if !so(m) {
			return false
		}
	}
	return true
}

// TestStoreThroughNeighbour: who does not reach the store goes on by way of others.
func TestStoreThroughNeighbour(t *testing.T) {
	w := formed(t, 3)
	w.StoreCut("m001", true)
	for range 300 {
		w.Run(100 * time.Millisecond)
		if m := w.Member("m001").Core; m.Status().State != link.Working || m.Frozen() {
			t.Fatalf("at %s: m001 is %s, frozen %v", w.Now(), m.Status().State, m.Frozen())
		}
	}
	if l, ok := w.Holder("m001"); !ok || l.Nonce != w.Member("m001").Nonce {
		t.Error("the lease of m001 is not renewed")
	}
}

// TestOneLinkIsEnough: a member with one link, and no way to the store but by it, works.
func TestOneLinkIsEnough(t *testing.T) {
	w := formed(t, 5)
	for i := 1; i < 5; i++ {
		if id := fmt.Sprintf("m%03d", i); id != "m003" {
			w.Cut("m000", id, true)
			w.Cut(id, "m000", true)
		}
	}
	w.StoreCut("m000", true)
	w.Run(30 * time.Second)
	st := w.Member("m000").Core.Status()
	if st.State != link.Working || st.Frozen || len(st.Links) != 1 {
		t.Errorf("with one link it is %s, frozen %v, links %v", st.State, st.Frozen, st.Links)
	}
	if n := len(w.Member("m000").Core.View().Members); n != 5 {
		t.Errorf("it sees %d of 5 members", n)
	}
	m := w.Member("m000")
	m.Tell(apta.Ask{Req: 7, To: "m002", Kind: "echo", Body: []byte("x")})
	within(t, w, time.Second, "a request over two links is answered", func() bool { return len(m.Answers) == 1 })
	if a := m.Answers[0]; a.Req != 7 || string(a.Body) != "done x" || a.Err != "" {
		t.Errorf("answer %+v", a)
	}
	w.Crash("m002")
	m.Tell(apta.Ask{Req: 8, To: "m002", Kind: "echo"})
	m.Tell(apta.Ask{Req: 9, To: "nobody", Kind: "echo"})
	within(t, w, 3*time.Second, "requests to who is not there fail", func() bool { return len(m.Answers) == 3 })
	if a, b := m.Answers[1], m.Answers[2]; a.Err != apta.NoRoute || b.Err != apta.NoAnswer || a.Req != 9 || b.Req != 8 {
		t.Errorf("answers %+v and %+v", a, b)
	}
}

// TestLeaseLost: whose lease is not renewed while others' are stops taking work at its
// fence, before the lease lapses.
func TestLeaseLost(t *testing.T) {
	w := formed(t, 3)
	m := w.Member("m001")
	w.OnEffect = func(by *Member, e apta.Effect) {
		if r, ok := e.(apta.Renew); ok && r.Lease.ID == "m001" { // it never arrives
			w.StoreCut(by.ID, true)
			w.after(2*storeDelay, nil, func() { w.StoreCut(by.ID, false) })
		}
	}
	within(t, w, 5*time.Second, "it is ONLINE", func() bool { return m.Core.Status().State == link.Online })
	if _, ok := w.Holder("m001"); !ok {
		t.Error("its lease lapsed before it stopped")
	}
	w.OnEffect = nil
	within(t, w, 5*time.Second, "it works again", func() bool { return m.Core.Status().State == link.Working })
}

// TestStall: who does not run is gone for the others; when it runs again it has stopped
// at the first step, before it takes anything, and does not say that all others died.
func TestStall(t *testing.T) {
	w := formed(t, 4)
	w.Stall("m002", true)
	within(t, w, 3*time.Second, "the others miss it", func() bool {
		_, sees := w.Member("m000").Core.View().Find("m002")
		return !sees
	})
	w.Run(10 * time.Second)
	if !w.Member("m000").Core.Lapsed("m002", 1) {
		t.Error("it is not lapsed after 10 s")
	}
	m := w.Member("m002")
	before := len(m.Changes)
	w.Stall("m002", false)
	if m.Core.Status().State == link.Working && !m.Core.Frozen() {
		t.Error("it takes work after a stall of 12 s")
	}
	if n := len(m.Core.View().Members); n != 4 {
		t.Errorf("it sees %d members just after its own stall, want 4", n)
	}
	within(t, w, 6*time.Second, "all work again", func() bool { return settled(w) })
	t.Logf("its states: %v", m.Changes[before:])
}

// TestShortStall: who did not run for a moment could not hear, and does not take that
// for the silence of others.
func TestShortStall(t *testing.T) {
	w := formed(t, 6)
	m, hellos := w.Member("m002"), 0
	w.OnEffect = func(by *Member, e apta.Effect) {
		if s, ok := e.(apta.Send); ok && by == m && s.Message.Hello != nil {
			hellos++
		}
	}
	w.RunUntil(time.Second, func() bool { return hellos > 0 })
	w.Stall("m002", true)
	w.Run(1750 * time.Millisecond)
	w.Stall("m002", false)
	if links := m.Core.Status().Links; len(links) != 5 {
		t.Errorf("after a stall of 1.75 s it has the links %v, want all 5", links)
	}
}

// TestPulse: a member whose application hangs says no hello and renews no lease.
func TestPulse(t *testing.T) {
	w := formed(t, 3)
	m := w.Member("m001")
	m.Tell(apta.Pulse{Alive: false})
	within(t, w, 3*time.Second, "the others miss it", func() bool {
		_, sees := w.Member("m000").Core.View().Find("m001")
		return !sees
	})
	within(t, w, 6*time.Second, "its lease lapses", func() bool { return w.Member("m000").Core.Lapsed("m001", 1) })
	m.Tell(apta.Pulse{Alive: true})
	within(t, w, 8*time.Second, "all work again", func() bool { return settled(w) })
}

// TestOffline: who has neither neighbour nor ledger reserves nothing, and comes back.
func TestOffline(t *testing.T) {
	w := formed(t, 3)
	m := w.Member("m001")
	alone := func(cut bool) {
		for _, o := range []string{"m000", "m002"} {
			w.Cut("m001", o, cut)
			w.Cut(o, "m001", cut)
		}
	}
	alone(true)
	within(t, w, 3*time.Second, "it is frozen", func() bool { return m.Core.Frozen() })
	w.Run(20 * time.Second)
	if m.Core.Status().State != link.Working || !m.Core.Frozen() {
		t.Errorf("alone, with the ledger, it is %s, frozen %v", m.Core.Status().State, m.Core.Frozen())
	}
	m.Tell(apta.Ledger{Answers: false})
	if m.Core.Status().State != link.Offline {
		t.Errorf("alone, without the ledger, it is %s", m.Core.Status().State)
	}
	alone(false)
	m.Tell(apta.Ledger{Answers: true})
	within(t, w, 8*time.Second, "all work again", func() bool { return settled(w) })
}

// TestSoleSurvivor: the last one goes on alone, when the others' leases are gone.
func TestSoleSurvivor(t *testing.T) {
	w := formed(t, 3)
	w.Crash("m000")
	w.Crash("m002")
	m := w.Member("m001")
	within(t, w, 3*time.Second, "it is frozen while they may live", func() bool { return m.Core.Frozen() })
	within(t, w, 6*time.Second, "it is thawed", func() bool { return !m.Core.Frozen() })
	m.Tell(apta.Ledger{Answers: false})
	if m.Core.Status().State != link.Offline {
		t.Fatalf("without the ledger it is %s", m.Core.Status().State)
	}
	m.Tell(apta.Ledger{Answers: true})
	within(t, w, 8*time.Second, "it works again", func() bool { return m.Core.Status().State == link.Working })
}

// TestSilence: by an operator here and elsewhere, by bad health, and back.
func TestSilence(t *testing.T) {
	w := formed(t, 5)
	silent := func(id string, want link.State) func() bool {
		return func() bool { seen, _ := w.Member("m000").Core.View().Find(id); return seen.State == want }
	}
	w.Member("m001").Tell(apta.Operate{Target: "m004", Action: apta.GoSilent})
	within(t, w, time.Second, "m004 is SILENCE for all", silent("m004", link.Silence))
	if n := len(w.Member("m000").Core.View().Takers(link.Worker)); n != 4 {
		t.Errorf("%d members take work, want 4", n)
	}
	w.Member("m002").Tell(apta.Operate{Target: "m004", Action: apta.Resume})
	within(t, w, time.Second, "m004 works again", silent("m004", link.Working))
	m := w.Member("m003")
	m.Tell(apta.Health{Level: 1, Bad: true})
	w.Run(9 * time.Second)
	if state(w, "m003") != link.Working {
		t.Errorf("after 9 s of bad health it is %s", state(w, "m003"))
	}
	within(t, w, 2*time.Second, "m003 is SILENCE", silent("m003", link.Silence))
	m.Tell(apta.Health{})
	within(t, w, 11*time.Second, "m003 works again", silent("m003", link.Working))
}

// TestSilenceOutlastsARestart: what an operator wants is known to the next start, which
// never works before it is resumed.
func TestSilenceOutlastsARestart(t *testing.T) {
	w := formed(t, 4)
	w.Member("m001").Tell(apta.Operate{Target: "m002", Action: apta.GoSilent, Reason: "new kernel"})
	within(t, w, time.Second, "m002 is SILENCE", func() bool { return state(w, "m002") == link.Silence })
	kept := w.Member("m002").Silence
	if got := w.Member("m002").Core.Status().Reason; got != kept || !strings.HasSuffix(kept, ": new kernel") {
		t.Fatalf("it is silent, for %q, and keeps %q", got, kept)
	}
	w.Member("m001").Tell(apta.Operate{Target: "m002", Action: apta.GoSilent, Reason: "new disk"})
	within(t, w, time.Second, "m002 has the newer reason", func() bool {
		kept = w.Member("m002").Silence
		return strings.HasSuffix(kept, ": new disk") && w.Member("m002").Core.Status().Reason == kept
	})
	w.Crash("m002")
	cfg := w.Config("m002")
	cfg.Incarnation, cfg.Seeds, cfg.Silence = 2, []string{"m000"}, kept
	m := w.Start(cfg)
	worked := false
	within(t, w, 8*time.Second, "it is there again", func() bool {
		worked = worked || m.Core.Status().State == link.Working
		return m.Core.Status().State == link.Silence
	})
	w.Run(5 * time.Second)
	if st := m.Core.Status(); worked || st.State != link.Silence || st.Reason != kept {
		t.Errorf("it worked: %v; it is %s, for %q", worked, st.State, st.Reason)
	}
	w.Member("m000").Tell(apta.Operate{Target: "m002", Action: apta.Resume})
	within(t, w, 3*time.Second, "it works", func() bool { return m.Core.Status().State == link.Working })
	if m.Silence != "" {
		t.Errorf("it keeps %q", m.Silence)
	}
}

// TestStop: who stops is silent until nothing is owned, and then gone at once.
func TestStop(t *testing.T) {
	w := formed(t, 4)
	m := w.Member("m002")
	m.Tell(apta.Owned{Claims: 2})
	m.Tell(apta.Stop{})
	w.Run(5 * time.Second)
	if m.Ended || state(w, "m002") != link.Silence {
		t.Fatalf("with claims it is %s, ended %v", state(w, "m002"), m.Ended)
	}
	m.Tell(apta.Owned{})
	within(t, w, 1500*time.Millisecond, "it has left", func() bool { return m.Ended })
	if _, ok := w.Holder("m002"); ok {
		t.Error("its lease is not released")
	}
	w.Crash("m002")
	within(t, w, 500*time.Millisecond, "the others know", func() bool {
		return w.all(func(o *Member) bool { _, sees := o.Core.View().Find("m002"); return !sees })
	})
	if !w.all(func(o *Member) bool { return !o.Core.Recorded("m002") }) {
		t.Error("who has left is still recorded")
	}
	w.Run(time.Minute + 10*time.Second) // its tombstone is forgotten, and does not come back
	cfg := w.Config("m002")
	cfg.Incarnation = 2
	cfg.Seeds = []string{"m000"}
	w.Start(cfg)
	within(t, w, 8*time.Second, "its successor works", func() bool { return settled(w) })
}

// TestRecorded: who did not leave is still recorded when it is over for all others.
func TestRecorded(t *testing.T) {
	w := formed(t, 4)
	w.Crash("m002")
	within(t, w, 30*time.Second, "it is over", func() bool {
		return w.all(func(o *Member) bool { return o.Core.Lapsed("m002", 1) })
	})
	w.Run(time.Minute)
	if !w.all(func(o *Member) bool {
		return o.Core.Recorded("m002") && o.Core.Recorded("m000") && !o.Core.Recorded("m009")
	}) {
		t.Error("it is not recorded any more, or somebody is who never was")
	}
}

// TestRestart: a successor with the same home is taken at once, and finds what the
// former process had said superseded.
func TestRestart(t *testing.T) {
	w := formed(t, 4)
	w.Member("m001").Tell(apta.Publish{Kind: link.Load, Data: []byte("busy")})
	w.Run(2 * time.Second)
	w.Crash("m001")
	w.Run(200 * time.Millisecond)
	cfg := w.Config("m001")
	cfg.Incarnation, cfg.Seeds = 2, []string{"m000"}
	m := w.Start(cfg)
	within(t, w, 6*time.Second, "the successor works", func() bool { return settled(w) })
	if len(m.Refusals) > 0 {
		t.Errorf("the successor is refused: %v", m.Refusals)
	}
	w.Run(3 * time.Second)
	for _, r := range w.Member("m003").Core.Data(link.Load) {
		t.Errorf("load of a former process is still there: %+v", r)
	}
	if !w.Member("m000").Core.Lapsed("m001", 1) || w.Member("m000").Core.Lapsed("m001", 2) {
		t.Error("of two incarnations, not just the former is said to be lapsed")
	}
}

func lastRefusal(m *Member) apta.Refused {
	if len(m.Refusals) == 0 {
		return apta.Refused{}
	}
	return m.Refusals[len(m.Refusals)-1]
}

// TestDuplicate: the newcomer with an id that is there is refused, whatever its
// incarnation, and the one that is there goes on.
func TestDuplicate(t *testing.T) {
	for _, incarnation := range []uint32{1, 9} {
		w := formed(t, 3)
		cfg := w.Config("m001")
		cfg.Addr, cfg.Home, cfg.Incarnation, cfg.Seeds = "other", 99, incarnation, []string{"m000"}
		m := w.Start(cfg)
		within(t, w, 3*time.Second, "the newcomer is refused for good", func() bool { return m.Ended })
		if r := lastRefusal(m); r.Code != wire.RefusedDuplicate || !strings.Contains(r.Text, "m001") {
			t.Errorf("refused with %+v", r)
		}
		w.Run(5 * time.Second)
		if state(w, "m001") != link.Working || w.Member("m001").Core.Frozen() {
			t.Errorf("the one that was there is %s", state(w, "m001"))
		}
	}
}

// TestUsedIncarnation: a process with the incarnation of a dead one is told to take a
// higher one, and is taken then.
func TestUsedIncarnation(t *testing.T) {
	w := formed(t, 3)
	w.Crash("m001")
	w.Run(10 * time.Second)
	cfg := w.Config("m001")
	cfg.Seeds = []string{"m000"}
	m := w.Start(cfg)
	within(t, w, 3*time.Second, "it is told", func() bool { return lastRefusal(m).Code == wire.RefusedUsed })
	w.Run(5 * time.Second)
	if st := m.Core.Status().State; st != link.Joining || m.Ended {
		t.Fatalf("it is %s, ended %v", st, m.Ended)
	}
	m.Incarnation = lastRefusal(m).Incarnation + 1
	m.Tell(apta.Rejoined{Incarnation: m.Incarnation})
	within(t, w, 8*time.Second, "it works", func() bool { return settled(w) })
}

// TestUnfit: another cluster, another clock.
func TestUnfit(t *testing.T) {
	w := formed(t, 3)
	cfg := w.Config("x")
	cfg.Cluster, cfg.Seeds = "another", []string{"m000"}
	x := w.Start(cfg)
	w.Run(2 * time.Second)
	if r := lastRefusal(x); r.Code != wire.RefusedCluster || r.Final {
		t.Errorf("a member of another cluster is refused with %+v", r)
	}
	if r := lastRefusal(w.Member("m000")); r.Code != wire.RefusedCluster || r.Peer != "x" {
		t.Errorf("the refusing one reports %+v", r)
	}
	w.Crash("x")
	y := w.Start(w.Config("y"))
	y.ClockOff = 121 * time.Second
	w.Run(3 * time.Second)
	if r := lastRefusal(y); r.Code != wire.RefusedClock || !strings.Contains(r.Text, "clock") {
		t.Errorf("a member with a wrong clock is refused with %+v", r)
	}
	y.ClockOff = 30 * time.Second
	within(t, w, time.Minute, "with a better clock it is taken", func() bool { return settled(w) })
}

// TestPartitionHeals: two halves work each for itself and find together again.
func TestPartitionHeals(t *testing.T) {
	w := formed(t, 6)
	cut := func(on bool) {
		for i := range 3 {
			for j := 3; j < 6; j++ {
				a, b := fmt.Sprintf("m%03d", i), fmt.Sprintf("m%03d", j)
				w.Cut(a, b, on)
				w.Cut(b, a, on)
			}
		}
	}
	cut(true)
	within(t, w, 4*time.Second, "each half sees itself", func() bool { return w.all(func(m *Member) bool { return len(m.Core.View().Members) == 3 }) })
	w.Run(5 * time.Minute)
	cut(false)
	at := w.Now()
	within(t, w, 40*time.Second, "they are one again", func() bool { return settled(w) })
	t.Logf("one cluster again %s after the cut", w.Now()-at)
}

// TestChaos lets everything happen, by a seed, and holds what must never be.
func TestChaos(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 5))
		w := New(Options{Seed: seed, Loss: 0.02, MaxDelay: 50 * time.Millisecond})
		cluster(t, w, 6)
		judge := func() bool { wrong(t, w, seed); return t.Failed() }
		for range 25 {
			chaos(w, r)
			w.RunUntil(time.Duration(r.IntN(4000))*time.Millisecond, judge)
		}
		heal(w)
		w.RunUntil(50*time.Second, judge)
		if !settled(w) {
			within(t, w, 0, fmt.Sprintf("seed %d: one cluster again, 50 s after all faults ended", seed), func() bool { return false })
		}
	}
}

func chaos(w *World, r *rand.Rand) {
	id := func() string { return fmt.Sprintf("m%03d", r.IntN(6)) }
	a, b := id(), id()
	switch r.IntN(9) {
	case 0, 1:
		w.Cut(a, b, true)
	case 2:
		w.Cut(a, b, false)
	case 3:
		w.StoreDown(r.IntN(3) == 0)
	case 4:
		w.StoreCut(a, r.IntN(2) == 0)
	case 5:
		if m := w.Member(a); m.Up {
			w.Crash(a)
		} else {
			restart(w, m)
		}
	case 6:
		w.Stall(a, !w.Member(a).Stalled)
	case 7:
		w.Member(a).Tell(apta.Ledger{Answers: r.IntN(2) == 0})
	case 8:
		w.Member(a).ClockOff = time.Duration(r.IntN(200)-100) * time.Second
	}
}

func restart(w *World, m *Member) {
	cfg := w.Config(m.ID)
	cfg.Incarnation, cfg.Seeds = m.Incarnation+1, []string{"m000", "m001"}
	w.Start(cfg)
}

func heal(w *World) {
	w.StoreDown(false)
	clear(w.cuts)
	clear(w.store.cut)
	for _, m := range w.members {
		m.ClockOff = 0
		if m.Stalled {
			w.Stall(m.ID, false)
		}
		if !m.Up || m.Ended {
			restart(w, m)
		}
		m.Tell(apta.Ledger{Answers: true})
	}
}

// wrong looks for what must never be: somebody who believes to hold a lease that the
// store has given to nobody or another; somebody said to be lapsed who may still take
// work.
func wrong(t *testing.T, w *World, seed uint64) {
	for _, m := range w.Members() {
		st := m.Core.Status()
		if takes := st.State == link.Working && w.now < st.Fence; takes {
			if l, ok := w.Holder(m.ID); !ok || l.Nonce != m.Nonce {
				t.Errorf("seed %d at %s: %s takes work, but its lease is %+v (%v)", seed, w.Now(), m.ID, l, ok)
				continue
			}
			if w.now.Since(w.store.leases[m.ID].since) < 2*time.Second {
				continue // it had lapsed, and the watchers may not have seen that it is back
			}
			for _, o := range w.Members() {
				if !o.Stalled && o != m && o.Core.Lapsed(m.ID, m.Incarnation) {
					t.Errorf("seed %d at %s: %s says that %s is lapsed, which takes work", seed, w.Now(), o.ID, m.ID)
				}
			}
		}
	}
}
