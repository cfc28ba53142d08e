package verdict

import (
	"fmt"
	"time"

	"crier/api"
	"crier/internal/crowd"
	"crier/job"
)

// Window is over how long a flow is looked at.
const Window = 3 * time.Second

// Flow is how many receipts a second there were in the window before a moment.
func Flow(receipts []crowd.Receipt, end time.Time) float64 {
	n, from, to := 0, end.Add(-Window).UnixMilli(), end.UnixMilli()
	for _, r := range receipts {
		if r.At >= from && r.At < to {
			n++
		}
	}
	return float64(n) / Window.Seconds()
}

// Stall is the longest time without a receipt between two moments.
func Stall(receipts []crowd.Receipt, from, to time.Time) time.Duration {
	var longest int64
	last := from.UnixMilli()
	for _, r := range receipts { // each crowd's are in order; of several they overlap
		if r.At < last || r.At > to.UnixMilli() {
			continue
		}
		longest, last = max(longest, r.At-last), r.At
	}
	return time.Duration(max(longest, to.UnixMilli()-last)) * time.Millisecond
}

// FlowsFrom is how long after a moment the flow is enough, and stays so for a window; at
// most until another moment.
func FlowsFrom(receipts []crowd.Receipt, from, until time.Time, rate float64) *Seconds {
	for at := from; !at.Add(Window).After(until); at = at.Add(100 * time.Millisecond) {
		if Flow(receipts, at.Add(Window)) >= Enough*rate {
			return In(at.Sub(from))
		}
	}
	return nil
}

// FirstOf is when the first receipt of some came at or after a moment.
func FirstOf(receipts []crowd.Receipt, from time.Time, counts func(crowd.Receipt) bool) (time.Time, bool) {
	var first int64
	for _, r := range receipts {
		if r.At >= from.UnixMilli() && (first == 0 || r.At < first) && counts(r) {
			first = r.At
		}
	}
	return time.UnixMilli(first), first > 0
}

// See compares what clients showed with what was due. due is by job; away are members
// who are not connected, of whom nothing is asked.
func See(reports map[job.ID]map[job.Recipient]int, members, away []job.Recipient) (o Oracle) {
	gone, member := map[job.Recipient]bool{}, map[job.Recipient]bool{}
	for _, r := range away {
		gone[r] = true
	}
	for _, r := range members {
		member[r] = true
	}
	o.Away = len(away)
	for _, shown := range reports {
		for _, r := range members {
			n := shown[r]
			if n > 1 {
				o.Twice++
			}
			if gone[r] {
				continue
			}
			o.Due++
			if n > 0 {
				o.Shown++
			} else {
				o.Lost++
			}
		}
		for r := range shown {
			if !member[r] {
				o.Strange++
			}
		}
	}
	return o
}

// Proved compares the ledger's proof of a job with what its clients showed.
func Proved(r api.Reconciliation, recipients, shown, parked int) (bad []string) {
	say := func(format string, args ...any) {
		bad = append(bad, fmt.Sprintf("%s: ", r.Job)+fmt.Sprintf(format, args...))
	}
	if !r.Conserved {
		say("the ledger does not prove that it is conserved: %v", r.Violations)
	}
	for _, x := range []struct {
		what string
		n    uint64
	}{{"pending", r.Pending}, {"handed off", r.HandedOff}, {"in doubt", r.InDoubt}, {"failed", r.Failed}, {"dropped", r.DroppedTotal()},
		{"expired, recalled or cancelled", r.Expired + r.Recalled + r.Cancelled}} {
		if x.n > 0 {
			say("%d recipients are %s", x.n, x.what)
		}
	}
	if r.Package != uint64(recipients) {
		say("its package has %d recipients, and %d follow", r.Package, recipients)
	}
	if r.Delivered != uint64(shown) {
		say("the ledger says delivered to %d, clients showed it to %d", r.Delivered, shown)
	}
	if r.Parked != uint64(parked) {
		say("%d are parked, and %d never logged in", r.Parked, parked)
	}
	return bad
}
