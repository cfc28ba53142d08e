package verdict

import (
	"time"

	"crier/internal/crowd"
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
