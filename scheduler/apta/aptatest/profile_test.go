package aptatest

import (
	"fmt"
	"testing"
	"time"

	"crier/scheduler/apta/link"
	"crier/scheduler/apta/timing"
	"crier/scheduler/apta/wire"
)

// TestPauseOfASecond: on a busy machine processes do not run for a second now and then.
// With the standard profile that costs nobody anything: no link, no state, no lease.
func TestPauseOfASecond(t *testing.T) {
	const members = 6
	w := New(Options{Seed: 3, MinDelay: time.Millisecond, MaxDelay: 20 * time.Millisecond})
	cluster(t, w, members)
	w.Run(10 * time.Second)
	changes := map[string]int{}
	for _, m := range w.Members() {
		changes[m.ID] = len(m.Changes)
	}
	whole := func() {
		t.Helper()
		for _, m := range w.Members() {
			if n := len(m.Core.View().Members); n != members || m.Core.Frozen() {
				t.Fatalf("%s sees %d members; frozen %v", m.ID, n, m.Core.Frozen())
			}
			for _, o := range w.Members() {
				if o != m && m.Core.Lapsed(o.ID, 1) {
					t.Fatalf("%s takes %s for over", m.ID, o.ID)
				}
			}
		}
	}
	for i := range 60 { // at any moment between two renewals
		id := fmt.Sprintf("m%03d", i%members)
		w.Run(time.Duration(i) * 37 * time.Millisecond)
		w.Stall(id, true)
		for range 10 {
			w.Run(100 * time.Millisecond)
			whole()
		}
		w.Stall(id, false)
		for range 20 {
			w.Run(100 * time.Millisecond)
			whole()
		}
	}
	for _, m := range w.Members() {
		if more := m.Changes[changes[m.ID]:]; len(more) > 0 {
			t.Errorf("%s went through %v", m.ID, more)
		}
	}
}

// TestFastProfile: who crashes is over for all others within 2.7 s, which leaves 0.8 s of
// the 3.5 s for sealing, claiming and the first block.
func TestFastProfile(t *testing.T) {
	const members = 6
	w := New(Options{Seed: 5, MinDelay: time.Millisecond, MaxDelay: 20 * time.Millisecond, Timers: timing.Fast()})
	cluster(t, w, members)
	w.Run(5 * time.Second)
	var took []time.Duration
	for i := range members - 1 {
		id := fmt.Sprintf("m%03d", i)
		w.Run(time.Duration(i) * 91 * time.Millisecond)
		w.Crash(id)
		at := w.Now()
		within(t, w, 2700*time.Millisecond, id+" is over for all", func() bool {
			for _, m := range w.Members() {
				if !m.Core.Lapsed(id, 1) {
					return false
				}
			}
			return true
		})
		took = append(took, w.Now()-at)
	}
	t.Logf("over for all after %v", took)
}

// TestAnotherProfile: members with other timers do not take each other.
func TestAnotherProfile(t *testing.T) {
	w := formed(t, 3)
	cfg := w.Config("x")
	cfg.Timers, cfg.Seeds = timing.Fast(), []string{"m000"}
	x := w.Start(cfg)
	w.Run(2 * time.Second)
	if r := lastRefusal(x); r.Code != wire.RefusedProfile {
		t.Errorf("it is refused with %+v", r)
	}
	if s := x.Core.Status().State; s == link.Working {
		t.Errorf("it is %s", s)
	}
}
