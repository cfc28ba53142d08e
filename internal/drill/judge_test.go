package drill

import (
	"strings"
	"testing"
	"time"

	"crier/internal/cluster"
)

// good is a drill that is passed.
func good() Report {
	return Report{Load: Load{Rate: 60, Before: 55}, Fault: Fault{Bit: true, Proof: "gone"},
		Times:  Times{Detected: seconds(4 * time.Second), Resumed: seconds(6 * time.Second), CaughtUp: seconds(8 * time.Second), Stall: seconds(2 * time.Second)},
		Oracle: Oracle{Due: 100, Shown: 100}}
}

func TestJudge(t *testing.T) {
	limits := Limits{Detected: deadWithin, Resumed: resumeWithin, CaughtUp: healWithin, Stall: neverStops}
	for _, c := range []struct {
		name   string
		change func(*Report)
		want   Verdict
		reason string
	}{
		{"all is well", func(*Report) {}, Pass, ""},
		{"just at the limit", func(r *Report) { r.Times.Resumed = seconds(resumeWithin) }, Pass, ""},
		{"just enough load", func(r *Report) { r.Load.Before = 48 }, Pass, ""},
		{"too little load", func(r *Report) { r.Load.Before = 47.9 }, Void, "too few"},
		{"no load", func(r *Report) { r.Load.Before = 0 }, Void, "too few"},
		{"no effect", func(r *Report) { r.Fault.Bit, r.Fault.Proof = false, "it is running" }, Void, "it is running"},
		{"no load and too late", func(r *Report) { r.Load.Before, r.Times.Resumed = 0, nil }, Void, "too few"},
		{"no effect and nothing due", func(r *Report) { r.Fault.Bit, r.Oracle = false, Oracle{} }, Void, "no effect"},
		{"nothing due", func(r *Report) { r.Oracle = Oracle{} }, Fail, "no message was due"},
		{"detected late", func(r *Report) { r.Times.Detected = seconds(6100 * time.Millisecond) }, Fail, "detected after 6.10 s"},
		{"never detected", func(r *Report) { r.Times.Detected = nil }, Fail, "detected never"},
		{"resumed late", func(r *Report) { r.Times.Resumed = seconds(6501 * time.Millisecond) }, Fail, "resumed after 6.50 s"},
		{"never resumed", func(r *Report) { r.Times.Resumed = nil }, Fail, "resumed never"},
		{"never caught up", func(r *Report) { r.Times.CaughtUp = nil }, Fail, "caught up never"},
		{"stalled", func(r *Report) { r.Times.Stall = seconds(6 * time.Second) }, Fail, "nothing arrived for 6.00 s"},
		{"stall unknown", func(r *Report) { r.Times.Stall = nil }, Fail, "nothing arrived for an unknown time"},
		{"lost", func(r *Report) { r.Oracle.Lost = 1 }, Fail, "1 messages were lost"},
		{"twice", func(r *Report) { r.Oracle.Twice = 2 }, Fail, "2 messages were shown twice"},
		{"strange", func(r *Report) { r.Oracle.Strange = 1 }, Fail, "somebody else"},
		{"a client is away", func(r *Report) { r.Oracle.Away = 1 }, Fail, "not connected"},
		{"lost without load", func(r *Report) { r.Load.Before, r.Oracle.Lost = 0, 1 }, Fail, "lost"},
		{"twice without effect", func(r *Report) { r.Fault.Bit, r.Oracle.Twice = false, 1 }, Fail, "twice"},
		{"not proved", func(r *Report) { r.Unproved = []string{"3 are pending"} }, Fail, "3 are pending"},
		{"behind a seal", func(r *Report) { r.Stale = 1 }, Fail, "1 records were appended to journals that were sealed"},
		{"a zombie that tried", func(r *Report) { r.Refused = &Refused{HandOffs: 1} }, Pass, ""},
		{"a zombie that tried nothing", func(r *Report) { r.Refused = new(Refused) }, Void, "tried nothing"},
		{"a zombie that tried nothing, and a loss", func(r *Report) { r.Refused, r.Oracle.Lost = new(Refused), 1 }, Fail, "lost"},
		{"an outage", func(r *Report) { r.Outage = &Outage{Accepted: 3, Unavailable: 2, Agreed: seconds(time.Minute)} }, Pass, ""},
		{"an outage without an answer", func(r *Report) { r.Outage = &Outage{Other: []string{"timeout"}, Agreed: seconds(1)} }, Fail, "timeout"},
		{"SQL agrees late", func(r *Report) { r.Outage = &Outage{Agreed: seconds(61 * time.Second)} }, Fail, "agreed with the ledger 61.00 s"},
		{"SQL never agrees", func(r *Report) { r.Outage = new(Outage) }, Fail, "does not agree"},
		{"a mass take-over", func(r *Report) { r.Outage = &Outage{Agreed: seconds(1), Moved: 40} }, Fail, "40 claims changed hands"},
		{"not whole", func(r *Report) { r.Broken = []string{"worker-1 is gone"} }, Fail, "not whole again: worker-1"},
	} {
		r := good()
		c.change(&r)
		verdict, reasons := judge(r, limits)
		if verdict != c.want || !strings.Contains(strings.Join(reasons, "\n"), c.reason) || (verdict == Pass) != (len(reasons) == 0) {
			t.Errorf("%s: %s %q, want %s with %q", c.name, verdict, reasons, c.want, c.reason)
		}
	}
	r := good()
	r.Times = Times{}
	if verdict, reasons := judge(r, Limits{}); verdict != Pass {
		t.Errorf("without limits: %s %q", verdict, reasons)
	}
}

func TestDrillsAreWhole(t *testing.T) {
	seen := map[string]bool{}
	for _, d := range All() {
		if seen[d.Name] || d.Hypothesis == "" || d.Limits == (Limits{}) || d.pick == nil || d.do == nil || d.undo == nil || d.bit == nil {
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
		{0, Config{}, 60}, {20 * time.Second, Config{}, 60}, {time.Minute, Config{}, 36}, {2 * time.Minute, Config{}, 18},
		{2 * time.Minute, Config{Rate: 50}, 50}, {10 * time.Minute, Config{Online: 100}, 6},
	} {
		c.cfg.fill(c.lasts)
		if c.cfg.Rate != c.rate {
			t.Errorf("a fault of %s: a rate of %d, want %d", c.lasts, c.cfg.Rate, c.rate)
		}
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
