package aptatest

import (
	"fmt"
	"testing"
	"time"

	"crier/scheduler/apta/link"
)

func cluster(t *testing.T, w *World, n int) {
	t.Helper()
	for i := range n {
		cfg := w.Config(fmt.Sprintf("m%03d", i))
		if i > 0 {
			cfg.Seeds = []string{"m000", fmt.Sprintf("m%03d", i/2)}
		}
		w.Start(cfg)
	}
	took := w.Now()
	if !w.RunUntil(time.Minute, func() bool { return settled(w) }) {
		for _, m := range w.Members()[:min(5, n)] {
			st := m.Core.Status()
			t.Logf("%s: %s (%s), links %v, sees %d, disagrees with %d", m.ID, st.State, st.Reason, st.Links, len(m.Core.View().Members), len(m.Core.View().Disagreeing()))
		}
		t.Fatalf("%d members have not settled in a minute", n)
	}
	t.Logf("%d members are at work %s after they were started", n, w.Now()-took)
}

// settled reports whether all that run are WORKING and have one view of all.
func settled(w *World) bool {
	members := w.Members()
	for _, m := range members {
		v := m.Core.View()
		if m.Core.Status().State != link.Working || len(v.Members) != len(members) || v.Hash != members[0].Core.View().Hash {
			return false
		}
	}
	return len(members[0].Core.View().Takers(link.Worker)) == len(members)
}

func TestClusterForms(t *testing.T) {
	for _, n := range []int{1, 2, 3, 12, 50} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			w := New(Options{Seed: uint64(n)})
			cluster(t, w, n)
		})
	}
}
