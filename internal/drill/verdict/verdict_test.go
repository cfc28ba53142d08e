package verdict

import (
	"strings"
	"testing"
	"time"
)

// good is a drill that is passed.
func good() Report {
	return Report{Load: Load{Rate: 60, Before: 55}, Fault: Fault{Bit: true, Proof: "gone"},
		Times:  Times{Detected: In(4 * time.Second), Resumed: In(6 * time.Second), CaughtUp: In(8 * time.Second), Stall: In(2 * time.Second)},
		Oracle: Oracle{Due: 100, Shown: 100}}
}

func TestJudge(t *testing.T) {
	limits := Limits{Detected: 6 * time.Second, Resumed: 6500 * time.Millisecond, CaughtUp: 10 * time.Second, Stall: 5 * time.Second, Agreed: time.Minute}
	for _, c := range []struct {
		name   string
		change func(*Report)
		want   Verdict
		reason string
	}{
		{"all is well", func(*Report) {}, Pass, ""},
		{"just at the limit", func(r *Report) { r.Times.Resumed = In(6500 * time.Millisecond) }, Pass, ""},
		{"just enough load", func(r *Report) { r.Load.Before = 48 }, Pass, ""},
		{"too little load", func(r *Report) { r.Load.Before = 47.9 }, Void, "too few"},
		{"no load", func(r *Report) { r.Load.Before = 0 }, Void, "too few"},
		{"no effect", func(r *Report) { r.Fault.Bit, r.Fault.Proof = false, "it is running" }, Void, "it is running"},
		{"no load and too late", func(r *Report) { r.Load.Before, r.Times.Resumed = 0, nil }, Void, "too few"},
		{"no effect and nothing due", func(r *Report) { r.Fault.Bit, r.Oracle = false, Oracle{} }, Void, "no effect"},
		{"nothing due", func(r *Report) { r.Oracle = Oracle{} }, Fail, "no message was due"},
		{"detected late", func(r *Report) { r.Times.Detected = In(6100 * time.Millisecond) }, Fail, "detected after 6.10 s"},
		{"never detected", func(r *Report) { r.Times.Detected = nil }, Fail, "detected never"},
		{"resumed late", func(r *Report) { r.Times.Resumed = In(6501 * time.Millisecond) }, Fail, "resumed after 6.50 s"},
		{"never resumed", func(r *Report) { r.Times.Resumed = nil }, Fail, "resumed never"},
		{"never caught up", func(r *Report) { r.Times.CaughtUp = nil }, Fail, "caught up never"},
		{"stalled", func(r *Report) { r.Times.Stall = In(6 * time.Second) }, Fail, "nothing arrived for 6.00 s"},
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
		{"an outage", func(r *Report) { r.Outage = &Outage{Accepted: 3, Unavailable: 2, Agreed: In(time.Minute)} }, Pass, ""},
		{"an outage without an answer", func(r *Report) { r.Outage = &Outage{Other: []string{"timeout"}, Agreed: In(1)} }, Fail, "timeout"},
		{"SQL agrees late", func(r *Report) { r.Outage = &Outage{Agreed: In(61 * time.Second)} }, Fail, "agreed with the ledger 61.00 s"},
		{"SQL never agrees", func(r *Report) { r.Outage = new(Outage) }, Fail, "never agreed"},
		{"a mass take-over", func(r *Report) { r.Outage = &Outage{Agreed: In(1), Moved: 40} }, Fail, "40 claims changed hands"},
		{"not whole", func(r *Report) { r.Broken = []string{"worker-1 is gone"} }, Fail, "not whole again: worker-1"},
	} {
		r := good()
		c.change(&r)
		verdict, reasons := Of(r, limits)
		if verdict != c.want || !strings.Contains(strings.Join(reasons, "\n"), c.reason) || (verdict == Pass) != (len(reasons) == 0) {
			t.Errorf("%s: %s %q, want %s with %q", c.name, verdict, reasons, c.want, c.reason)
		}
	}
	r := good()
	r.Times = Times{}
	if verdict, reasons := Of(r, Limits{}); verdict != Pass {
		t.Errorf("without limits: %s %q", verdict, reasons)
	}
}
