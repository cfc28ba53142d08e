package verdict

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crier/api"
	"crier/internal/crowd"
	"crier/job"
)

var began = time.UnixMilli(1_700_000_000_000)

func at(ms int) time.Time { return began.Add(time.Duration(ms) * time.Millisecond) }

// every makes receipts at a pace between two moments.
func every(step, from, to int) (list []crowd.Receipt) {
	for ms := from; ms < to; ms += step {
		list = append(list, crowd.Receipt{Recipient: job.Recipient(ms), At: at(ms).UnixMilli()})
	}
	return list
}

func TestFlow(t *testing.T) {
	steady := every(100, 0, 10_000)
	for _, c := range []struct {
		end  int
		want float64
	}{{5000, 10}, {10_000, 10}, {11_500, 5}, {20_000, 0}, {0, 0}, {1500, 5}} {
		if got := Flow(steady, at(c.end)); got != c.want {
			t.Errorf("at %d: %v a second, want %v", c.end, got, c.want)
		}
	}
}

func TestStall(t *testing.T) {
	gap := append(every(100, 0, 3000), every(100, 7000, 9000)...) // 2900 to 7000
	for _, c := range []struct{ from, to, want int }{
		{0, 9000, 4100}, {0, 2000, 100}, {3000, 9000, 4000}, {3000, 5000, 2000}, {7500, 8950, 100}, {0, 20_000, 11_100},
	} {
		if got := Stall(gap, at(c.from), at(c.to)); got != time.Duration(c.want)*time.Millisecond {
			t.Errorf("from %d to %d: %s, want %d ms", c.from, c.to, got, c.want)
		}
	}
	if got := Stall(nil, at(0), at(5000)); got != 5*time.Second {
		t.Errorf("without receipts: %s", got)
	}
}

func TestFlowsFrom(t *testing.T) {
	back := append(every(100, 0, 3000), every(100, 8000, 20_000)...)
	if got := FlowsFrom(back, at(3000), at(20_000), 10); got == nil || *got < 4.3 || *got > 5 {
		t.Errorf("it flows again after %v s, want 5 less a fifth of the window", got)
	}
	if got := FlowsFrom(back, at(9000), at(20_000), 10); got == nil || *got != 0 {
		t.Errorf("it always flowed: %v", got)
	}
	if got := FlowsFrom(back, at(3000), at(20_000), 20); got != nil {
		t.Errorf("half of the rate is enough: %v", *got)
	}
	if got := FlowsFrom(every(100, 0, 3000), at(3000), at(20_000), 10); got != nil {
		t.Errorf("it never flows again: %v", *got)
	}
}

func TestFirstOf(t *testing.T) {
	list := every(1000, 0, 10_000)
	first, ok := FirstOf(list, at(2500), func(r crowd.Receipt) bool { return r.Recipient >= 5000 })
	if !ok || !first.Equal(at(5000)) {
		t.Errorf("the first is at %s, %v", first, ok)
	}
	if _, ok := FirstOf(list, at(9500), func(crowd.Receipt) bool { return true }); ok {
		t.Error("there is a first after the last")
	}
}

func TestSee(t *testing.T) {
	a, b := job.ID{1}, job.ID{2}
	members := []job.Recipient{1, 2, 3, 4}
	for _, c := range []struct {
		name  string
		shown map[job.ID]map[job.Recipient]int
		away  []job.Recipient
		want  Oracle
	}{
		{"all", map[job.ID]map[job.Recipient]int{a: {1: 1, 2: 1, 3: 1, 4: 1}, b: {1: 1, 2: 1, 3: 1, 4: 1}}, nil, Oracle{Due: 8, Shown: 8}},
		{"lost", map[job.ID]map[job.Recipient]int{a: {1: 1, 2: 1, 4: 1}, b: {}}, nil, Oracle{Due: 8, Shown: 3, Lost: 5}},
		{"twice", map[job.ID]map[job.Recipient]int{a: {1: 1, 2: 3, 3: 1, 4: 1}}, nil, Oracle{Due: 4, Shown: 4, Twice: 1}},
		{"one is away", map[job.ID]map[job.Recipient]int{a: {1: 1, 2: 1, 3: 1}}, []job.Recipient{4}, Oracle{Due: 3, Shown: 3, Away: 1}},
		{"twice and away", map[job.ID]map[job.Recipient]int{a: {1: 1, 2: 1, 3: 1, 4: 2}}, []job.Recipient{4}, Oracle{Due: 3, Shown: 3, Twice: 1, Away: 1}},
		{"a stranger", map[job.ID]map[job.Recipient]int{a: {1: 1, 2: 1, 3: 1, 4: 1, 9: 1}}, nil, Oracle{Due: 4, Shown: 4, Strange: 1}},
	} {
		if diff := cmp.Diff(c.want, See(c.shown, members, c.away)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestProved(t *testing.T) {
	good := func() api.Reconciliation {
		return api.Reconciliation{Conserved: true, Counts: job.Counts{Package: 107, Delivered: 7, Parked: 100}}
	}
	if bad := Proved(good(), 107, 7, 100); len(bad) > 0 {
		t.Errorf("a good proof: %q", bad)
	}
	for want, change := range map[string]func(*api.Reconciliation){
		"not prove":       func(r *api.Reconciliation) { r.Conserved = false },
		"delivered to 8":  func(r *api.Reconciliation) { r.Delivered = 8 },
		"99 are parked":   func(r *api.Reconciliation) { r.Parked = 99 },
		"are in doubt":    func(r *api.Reconciliation) { r.InDoubt = 1 },
		"are handed off":  func(r *api.Reconciliation) { r.HandedOff = 1 },
		"are pending":     func(r *api.Reconciliation) { r.Pending = 1 },
		"are failed":      func(r *api.Reconciliation) { r.Failed = 1 },
		"are dropped":     func(r *api.Reconciliation) { r.Dropped = map[job.Reason]uint64{job.ReasonRelation: 1} },
		"are expired":     func(r *api.Reconciliation) { r.Recalled = 1 },
		"106 recipients,": func(r *api.Reconciliation) { r.Package = 106 },
	} {
		r := good()
		change(&r)
		if bad := strings.Join(Proved(r, 107, 7, 100), "\n"); !strings.Contains(bad, want) {
			t.Errorf("want %q: %q", want, bad)
		}
	}
}
