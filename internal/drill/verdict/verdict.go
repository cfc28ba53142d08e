// Package verdict judges a drill: by what clients were shown, by the ledger's proof, and
// by the times that were measured.
//
// It guarantees that a drill which shows nothing is void, and that a loss or a repeat
// fails it whatever else is so. All of it is pure.
package verdict

import (
	"fmt"
	"time"
)

// Verdict is what a drill came to.
type Verdict string

// The verdicts. A drill without load, or whose fault had no effect, shows nothing: it is
// void.
const (
	Pass Verdict = "pass"
	Fail Verdict = "fail"
	Void Verdict = "void"
)

// Enough is the part of the rate that must flow before the fault.
const Enough = 0.8

// Limits are what the times may be at most; 0 is not asked. All but Stall are counted
// from the fault, or for faults that end by themselves CaughtUp from their end.
type Limits struct {
	Detected time.Duration
	Resumed  time.Duration
	CaughtUp time.Duration
	Stall    time.Duration
	Agreed   time.Duration // of an outage
}

// Load is what was being sent.
type Load struct {
	Jobs   int     `json:"jobs"`
	Online int     `json:"online"` // recipients connected before the fault
	Late   int     `json:"late"`   // who log in after it
	Parked int     `json:"parked"` // who never do
	Rate   float64 `json:"rate"`   // of all jobs, recipients a second, as asked for
	Before float64 `json:"before"` // as it was before the fault, by the clients' receipts
}

// Fault is what was done.
type Fault struct {
	Victims []string  `json:"victims"`
	What    string    `json:"what"`
	At      time.Time `json:"at"`
	Seconds float64   `json:"seconds,omitzero"` // how long it lasted, if it was ended
	Bit     bool      `json:"bit"`              // it had an effect
	Proof   string    `json:"proof"`            // what shows that, or that it had none
}

// Times are how long things took; nil is not seen.
type Times struct {
	Detected *Seconds `json:"detected,omitempty"` // until another acted on what the victim held
	Resumed  *Seconds `json:"resumed,omitempty"`  // until that was worked on
	CaughtUp *Seconds `json:"caught_up,omitempty"`
	Stall    *Seconds `json:"stall,omitempty"` // the longest time without a receipt
}

// Seconds is a length of time as JSON shows it.
type Seconds float64

// In gives a length of time in seconds.
func In(d time.Duration) *Seconds {
	s := Seconds(d.Round(time.Millisecond).Seconds())
	return &s
}

// Oracle is what the clients saw, against what they should have seen. It knows nothing
// of the server.
type Oracle struct {
	Due     int `json:"due"`     // messages to recipients who are connected at the end
	Shown   int `json:"shown"`   // of these
	Lost    int `json:"lost"`    // due and not shown
	Twice   int `json:"twice"`   // shown more than once
	Strange int `json:"strange"` // shown to who does not follow
	Barred  int `json:"barred"`  // shown to who is excluded, suppressed or held out
	Over    int `json:"over"`    // shown beyond a cap, or again of what is sent once
	Kept    int `json:"kept"`    // recalled, shown and not taken back
	Away    int `json:"away"`    // clients that are not connected at the end
}

// Report is a drill that was run.
type Report struct {
	Drill      string   `json:"drill"`
	Hypothesis string   `json:"hypothesis"`
	Verdict    Verdict  `json:"verdict"`
	Reasons    []string `json:"reasons,omitempty"`
	Load       Load     `json:"load"`
	Fault      Fault    `json:"fault"`
	Times      Times    `json:"times"`
	Oracle     Oracle   `json:"oracle"`
	Stale      int      `json:"stale"`             // records in journals behind their seal
	Refused    *Refused `json:"refused,omitempty"` // nil if nobody lived on with what was another's
	Outage     *Outage  `json:"outage,omitempty"`  // nil unless a database was away
	// Unproved is what the ledger's proof and the clients do not agree on.
	Unproved []string `json:"unproved,omitempty"`
	// Broken is what did not come back after the drill.
	Broken []string `json:"broken,omitempty"`
	Notes  []string `json:"notes,omitempty"`
}

// Refused is what a victim that lived on tried to do with what was another's by then, and
// was refused, by the counters of the processes.
type Refused struct {
	Appends  int `json:"appends"`   // by the ledger: to its sealed journal, or about jobs
	HandOffs int `json:"hand_offs"` // by gateways, where its journal was fenced
}

// Sum is all of it.
func (x Refused) Sum() int { return x.Appends + x.HandOffs }

// Outage is what a drill that takes a database away shows besides.
type Outage struct {
	Accepted    int      `json:"accepted"`        // jobs submitted meanwhile that were taken in
	Unavailable int      `json:"unavailable"`     // that were answered 503
	Other       []string `json:"other,omitempty"` // that were answered anything else, or not at all
	Agreed      *Seconds `json:"agreed"`          // from its end until SQL lists every job in the state in which the ledger has it
	Moved       int      `json:"moved"`           // claims that changed hands from the fault until a minute after its end
}

// Of gives the verdict and why it is not pass. A loss or a repeat is one whatever
// the load was.
func Of(r Report, limits Limits) (Verdict, []string) {
	if bad := Wrong(r); len(bad) > 0 {
		return Fail, bad
	}
	if r.Load.Before < Enough*r.Load.Rate {
		return Void, []string{fmt.Sprintf("before the fault %.1f recipients a second were handed their messages, of %.1f: too few to show anything", r.Load.Before, r.Load.Rate)}
	}
	if !r.Fault.Bit {
		return Void, []string{"the fault had no effect: " + r.Fault.Proof}
	}
	if r.Refused != nil && r.Refused.Sum() == 0 {
		return Void, []string{"when it went on, it tried nothing that had to be refused"}
	}
	late := r.Outage.wrong(limits.Agreed)
	for _, x := range []struct {
		what  string
		took  *Seconds
		limit time.Duration
	}{{"it was detected", r.Times.Detected, limits.Detected}, {"work resumed", r.Times.Resumed, limits.Resumed},
		{"it caught up", r.Times.CaughtUp, limits.CaughtUp}} {
		switch {
		case x.limit == 0:
		case x.took == nil:
			late = append(late, fmt.Sprintf("%s never, want within %s", x.what, x.limit))
		case float64(*x.took) > x.limit.Seconds():
			late = append(late, fmt.Sprintf("%s after %.2f s, want within %s", x.what, *x.took, x.limit))
		}
	}
	if s := r.Times.Stall; limits.Stall > 0 && (s == nil || float64(*s) > limits.Stall.Seconds()) {
		late = append(late, fmt.Sprintf("nothing arrived for %s, want at most %s", s, limits.Stall))
	}
	if len(late) > 0 {
		return Fail, late
	}
	return Pass, nil
}

// String is the time with its unit.
func (s *Seconds) String() string {
	if s == nil {
		return "an unknown time"
	}
	return fmt.Sprintf("%.2f s", float64(*s))
}

// Wrong lists what must never be.
func Wrong(r Report) (bad []string) {
	o := r.Oracle
	for _, x := range []struct {
		n    int
		what string
	}{{o.Lost, "messages were lost"}, {o.Twice, "messages were shown twice"}, {o.Strange, "messages were shown to somebody else"},
		{o.Barred, "messages were shown to who is excluded, suppressed or held out"}, {o.Over, "messages were shown beyond a cap, or again of what is sent once"},
		{o.Kept, "recalled messages were not taken back"},
		{o.Away, "clients are not connected at the end"},
		{r.Stale, "records were appended to journals that were sealed"}} {
		if x.n > 0 {
			bad = append(bad, fmt.Sprintf("%d %s", x.n, x.what))
		}
	}
	if o.Due == 0 && r.Fault.Bit {
		bad = append(bad, "no message was due")
	}
	bad = append(bad, r.Unproved...)
	for _, b := range r.Broken {
		bad = append(bad, "not whole again: "+b)
	}
	return bad
}

// wrong lists what an outage must not show, and by when SQL must agree.
func (o *Outage) wrong(agreed time.Duration) (bad []string) {
	if o == nil {
		return nil
	}
	for _, x := range o.Other {
		bad = append(bad, "a job submitted meanwhile was neither taken in nor answered 503: "+x)
	}
	switch {
	case agreed == 0:
	case o.Agreed == nil:
		bad = append(bad, fmt.Sprintf("SQL never agreed with the ledger, want within %s after the end", agreed))
	case float64(*o.Agreed) > agreed.Seconds():
		bad = append(bad, fmt.Sprintf("SQL agreed with the ledger %s after the end, want within %s", o.Agreed, agreed))
	}
	if o.Moved > 0 {
		bad = append(bad, fmt.Sprintf("%d claims changed hands, although nobody died", o.Moved))
	}
	return bad
}
