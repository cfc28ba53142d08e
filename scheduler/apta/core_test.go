package apta

import (
	"testing"
	"time"

	"crier/scheduler/apta/link"
	"crier/scheduler/apta/wire"
)

// pair makes two members at work.
func pair(t *testing.T) *universe {
	t.Helper()
	u := newUniverse()
	u.start(0)
	u.start(1)
	u.run(6 * time.Second)
	if !u.procs[0].takes(u.now) || !u.procs[1].takes(u.now) || u.wrong != "" {
		t.Fatalf("two members are not at work: %s", u.wrong)
	}
	return u
}

func memberKey(id string) link.Key { return link.Key{Kind: link.Membership, ID: id} }

// TestDriftIsRepaired: a record that one of them lacks, without anything being on its
// way, comes by the comparison of the databases.
func TestDriftIsRepaired(t *testing.T) {
	u := pair(t)
	u.step(0, Operate{Target: "b", Action: Resume})
	u.run(time.Second)
	k := link.Key{Kind: link.Command, ID: "b"}
	u.procs[1].core.db.Remove(k)
	u.run(6 * time.Second)
	if u.procs[1].core.db.Get(k) == nil {
		t.Error("the record is not there again after 6 s")
	}
}

// TestWithdrawnByOthers: a living member makes its record anew if somebody withdrew it.
func TestWithdrawnByOthers(t *testing.T) {
	u := pair(t)
	b := u.procs[1].core
	r := *b.db.Get(memberKey("a"))
	r.Dead, r.Member = true, nil
	b.spread(&r, nil)
	u.step(1, Tick{})
	u.run(time.Second)
	if got := b.db.Get(memberKey("a")); got.Dead || got.Seq <= r.Seq {
		t.Errorf("a second later the record is %+v", got.Header)
	}
}

// TestRecordsAge: what is not refreshed is withdrawn at its age and forgotten later;
// what is refreshed stays.
func TestRecordsAge(t *testing.T) {
	u := pair(t)
	for i := range 2 {
		c := u.procs[i].core
		c.t.Refresh, c.t.MaxAge, c.agingAt = 4*time.Second, 12*time.Second, u.now
	}
	u.procs[1].core = nil
	a := u.procs[0].core
	u.run(30 * time.Second)
	if r := a.db.Get(memberKey("b")); r != nil {
		t.Errorf("the record of a dead member is still there: %+v", r.Header)
	}
	if r := a.db.Get(memberKey("a")); r == nil || r.Dead {
		t.Errorf("the own record is gone: %+v", r)
	}
}

// TestNoWorkWithoutStore: whoever starts when the store answers nobody does not work.
func TestNoWorkWithoutStore(t *testing.T) {
	u := newUniverse()
	u.down = true
	u.start(0)
	u.start(1)
	u.run(20 * time.Second)
	for i := range 2 {
		if st := u.procs[i].core.Status(); st.State != link.Online {
			t.Errorf("process %d is %s (%s), want ONLINE", i, st.State, st.Reason)
		}
	}
	u.down = false
	u.run(5 * time.Second)
	if !u.procs[0].takes(u.now) || !u.procs[1].takes(u.now) {
		t.Error("they do not work when the store answers")
	}
}

// TestSlowStart: who needs longer than the dead interval until its ledger answers, or until
// it runs at all, begins once, and not again and again.
func TestSlowStart(t *testing.T) {
	for name, others := range map[string]int{"alone": 0, "beside another": 1} {
		u := newUniverse()
		if others > 0 {
			u.start(1)
			u.run(6 * time.Second)
		}
		u.begin(0)
		u.now = u.now.Add(4 * time.Second)
		if others == 0 {
			u.run(8 * time.Second)
		}
		u.step(0, Tick{})
		if st := u.procs[0].core.Status(); st.State != link.Joining {
			t.Errorf("%s: it is %s (%s) before it has begun, want JOINING", name, st.State, st.Reason)
		}
		u.step(0, SelfCheck{OK: true})
		u.step(0, Ledger{Answers: true})
		u.run(8 * time.Second)
		if !u.procs[0].takes(u.now) || u.rejoins > 0 || u.wrong != "" {
			t.Errorf("%s: it takes work: %v, after beginning again %d times (%s)", name, u.procs[0].takes(u.now), u.rejoins, u.wrong)
		}
	}
}

// TestManyStrangers: who is refused is told of once, however many there are.
func TestManyStrangers(t *testing.T) {
	u := pair(t)
	a, told := u.procs[0].core, 0
	for range 10 {
		u.now = u.now.Add(100 * time.Millisecond)
		for i := range uint64(100) {
			from := wire.Identity{ID: "s", Incarnation: 1, Nonce: 100 + i}
			for _, e := range a.Step(u.clock(), Received{&wire.Message{From: from, Hello: &wire.Hello{Cluster: "other", Protocol: wire.Protocol, Wall: u.clock().Wall.UnixMilli(), Addr: "s:1"}}}) {
				if _, ok := e.(Refused); ok {
					told++
				}
			}
		}
	}
	if told == 0 || told > 100 {
		t.Errorf("100 strangers are told of %d times", told)
	}
}

// TestNotLapsedWhileReachable: a member without a lease is not over while it is there.
func TestNotLapsedWhileReachable(t *testing.T) {
	u := pair(t)
	u.run(4 * time.Second)
	u.leases = u.leases[:0]
	u.watch()
	for i := range u.procs[1].known {
		u.step(1, LeaseSeen{Lease: u.procs[1].known[i]})
	}
	u.step(1, LeaseSeen{Lease: wire.Lease{Identity: wire.Identity{ID: "a"}}})
	u.step(1, LeaseSeen{Lease: wire.Lease{Identity: wire.Identity{ID: "z"}}})
	b := u.procs[1].core
	if b.Lapsed("a", 1) || !b.Lapsed("z", 1) {
		t.Errorf("lapsed: a %v, z %v; want only z, which is not reachable", b.Lapsed("a", 1), b.Lapsed("z", 1))
	}
}
