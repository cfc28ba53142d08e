package drill

import (
	"strings"
	"testing"
	"time"

	"crier/internal/cluster"
	"crier/internal/drill/verdict"
	"crier/job"
)

func TestDrillsAreWhole(t *testing.T) {
	seen := map[string]bool{}
	for _, d := range All() {
		if seen[d.Name] || d.Hypothesis == "" || d.Limits == (verdict.Limits{}) || d.pick == nil || d.do == nil || d.undo == nil || d.bit == nil {
			t.Errorf("the drill %q is given twice or lacks something", d.Name)
		}
		seen[d.Name] = true
		if found, err := Find(d.Name); err != nil || found.Name != d.Name {
			t.Errorf("finding %s gives %q, %v", d.Name, found.Name, err)
		}
	}
	if _, err := Find("kill-everybody"); err == nil || !strings.Contains(err.Error(), "kill-worker") {
		t.Errorf("a drill that is not there: %v", err)
	}
}

// A fault that is over before anybody is missed is asked for no take-over; a longer one
// for the same as ever.
func TestLasting(t *testing.T) {
	d, err := Find("pause-worker")
	if err != nil {
		t.Fatal(err)
	}
	if got := d.lasting(0); got.lasts != d.lasts || got.Limits != d.Limits || !got.taken {
		t.Errorf("as it is: %+v", got)
	}
	if got := d.lasting(time.Minute); got.lasts != time.Minute || got.Limits != d.Limits || !got.taken {
		t.Errorf("a minute: %+v", got)
	}
	if got := d.lasting(time.Second); got.taken || got.zombie || got.Limits.Resumed != 0 || got.Limits.Detected != 0 || got.Limits.Stall == 0 {
		t.Errorf("a second: %+v", got)
	}
}

// A fast cluster is held to its own times, and to nothing else.
func TestByProfile(t *testing.T) {
	for _, d := range All() {
		if got := d.by("standard"); got.Limits != d.Limits {
			t.Errorf("%s: %+v by the standard", d.Name, got.Limits)
		}
		got, want := d.by("fast").Limits, d.Limits
		if d.Limits.Resumed == 6500*time.Millisecond {
			want.Resumed = 3500 * time.Millisecond
		}
		if d.Limits.Detected == 6*time.Second {
			want.Detected = 3 * time.Second
		}
		if got != want {
			t.Errorf("%s: %+v, want %+v", d.Name, got, want)
		}
	}
}

// The load outlasts the fault.
func TestLoadOutlasts(t *testing.T) {
	for _, c := range []struct {
		lasts time.Duration
		cfg   Config
		rate  uint32
	}{
		{0, Config{}, 60}, {20 * time.Second, Config{}, 42}, {time.Minute, Config{}, 24}, {2 * time.Minute, Config{}, 12},
		{2 * time.Minute, Config{Rate: 50}, 50}, {10 * time.Minute, Config{Online: 100}, 6},
	} {
		c.cfg.fill(c.lasts)
		if c.cfg.Rate != c.rate {
			t.Errorf("a fault of %s: a rate of %d, want %d", c.lasts, c.cfg.Rate, c.rate)
		}
	}
}

// What the load would be made for in vain is refused before it.
func TestKnown(t *testing.T) {
	processes := []cluster.Record{{Name: "worker-1", Kind: cluster.Crier, Role: "worker"}, {Name: "nats-1", Kind: cluster.NATS}}
	for _, so := range []string{"", "worker-1", "worker", "nats"} {
		if err := known(processes, "nats-1", so); err != nil {
			t.Errorf("%q: %v", so, err)
		}
	}
	if err := known(processes, "worker", "worker-9"); job.CodeOf(err) != job.CodeInvalid || !strings.Contains(err.Error(), "worker-9") {
		t.Errorf("nobody: %v", err)
	}
}

func TestTalking(t *testing.T) {
	processes := []cluster.Record{{Name: "worker-1", Kind: cluster.Crier, Role: "worker"}, {Name: "worker-2", Kind: cluster.Crier, Role: "worker"},
		{Name: "api-1", Kind: cluster.Crier, Role: "api"}, {Name: "nats-1", Kind: cluster.NATS}, {Name: "nats-2", Kind: cluster.NATS}}
	flows := []cluster.Flow{{From: "worker-1", To: "nats-1", Bytes: 5}, {From: "worker-2", To: "nats-2", Bytes: 9}, {From: "nats-1", To: "worker-1", Bytes: 99}}
	for _, c := range []struct{ from, to, want string }{
		{"worker", "nats", "worker-2 nats-2"}, {"worker-1", "nats", "worker-1 nats-1"}, {"worker", "nats-1", "worker-1 nats-1"}, {"nats", "worker", "nats-1 worker-1"},
		{"worker-1", "nats-2", "no worker-1 sends"}, {"api", "nats", "no api sends"}, {"worker", "relay", `kind "relay"`},
	} {
		got, err := talking(processes, flows, c.from, c.to)
		if said := strings.Join(got, " "); err == nil && said != c.want || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s to %s: %q, %v, want %q", c.from, c.to, said, err, c.want)
		}
	}
}
