package verdict

import (
	"testing"
	"time"

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
