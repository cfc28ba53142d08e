package job

import (
	"fmt"
	"strconv"
	"strings"
)

// Outcome is where one recipient of a job stands. The terminal ones never change.
type Outcome uint8

// The outcomes of a recipient. Pending to InDoubt are not terminal.
const (
	Pending   Outcome = iota // no block that covers it is reserved yet
	HandedOff                // a target of an open reserve
	Parked                   // admitted, no open hand-off; waits for login
	InDoubt                  // written or not, seen or not: undecided
	Delivered                // acknowledged by the client
	Dropped                  // by a filter, park_cap, collapsed or suppressed while parked
	Expired
	Recalled
	Cancelled
	Failed // refused for good, five tries, or unknown
)

var outcomeNames = [...]string{"pending", "handed_off", "parked", "in_doubt", "delivered", "dropped",
	"expired", "recalled", "cancelled", "failed"}

// Outcomes lists all of them, in the order of their numbers.
func Outcomes() []Outcome {
	all := make([]Outcome, len(outcomeNames))
	for i := range all {
		all[i] = Outcome(i)
	}
	return all
}

// String is the word used in the API and the CLI.
func (o Outcome) String() string {
	if int(o) < len(outcomeNames) {
		return outcomeNames[o]
	}
	return fmt.Sprintf("outcome(%d)", uint8(o))
}

// Terminal reports whether the outcome is final.
func (o Outcome) Terminal() bool { return o >= Delivered }

// MarshalText writes what String writes.
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (o *Outcome) UnmarshalText(b []byte) error {
	for i, n := range outcomeNames {
		if n == string(b) {
			*o = Outcome(i)
			return nil
		}
	}
	return fmt.Errorf("outcome %q: want one of %s", b, strings.Join(outcomeNames[:], ", "))
}

// Reason says why a recipient was dropped or failed.
type Reason uint8

// The reasons. Those up to SuppressedParked go with Dropped, the rest with Failed.
const (
	NoReason         Reason = iota
	ReasonRelation          // does not follow the account
	ReasonSuppressed        // on a suppression list when its block was filtered
	ReasonTargeting         // in no segment that the job includes, or in one that it excludes
	ReasonControl           // in the account's control group
	ReasonSendOnce
	ReasonFrequency
	ReasonParkCap
	ReasonCollapsed
	SuppressedParked // put on a suppression list while parked
	ReasonRefused    // refused for good by the gateway
	ReasonTries      // five tries
	ReasonUnknown    // in doubt until the time to live, or dropped by an operator
)

var reasonNames = [...]string{"", "relation", "suppression", "targeting", "control_group", "send_once",
	"frequency_cap", "park_cap", "collapsed", "suppressed", "refused", "tries", "unknown"}

// Outcome is the outcome that the reason goes with.
func (r Reason) Outcome() Outcome {
	if r >= ReasonRefused {
		return Failed
	}
	return Dropped
}

// String is the word used in the API and the CLI.
func (r Reason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return fmt.Sprintf("reason(%d)", uint8(r))
}

// MarshalText writes what String writes.
func (r Reason) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (r *Reason) UnmarshalText(b []byte) error {
	for i, n := range reasonNames {
		if n == string(b) {
			*r = Reason(i)
			return nil
		}
	}
	return fmt.Errorf("reason %q is unknown", b)
}

// Counts says how many recipients of a job have each outcome. Their sum is the
// package's cardinality; Conserved checks that.
type Counts struct {
	Package   uint64            `json:"package"`
	Delivered uint64            `json:"delivered"`
	HandedOff uint64            `json:"handed_off"`
	Parked    uint64            `json:"parked"`
	Pending   uint64            `json:"pending"`
	InDoubt   uint64            `json:"in_doubt"`
	Expired   uint64            `json:"expired"`
	Recalled  uint64            `json:"recalled"`
	Cancelled uint64            `json:"cancelled"`
	Failed    uint64            `json:"failed"`
	Dropped   map[Reason]uint64 `json:"dropped"`
	// FailedFor is Failed by reason, as far as that is known: of who failed before the
	// index kept it, the reason is in crier job explain.
	FailedFor map[Reason]uint64 `json:"failed_for,omitzero"`
}

// Fail notes for which reason some of Failed did.
func (c *Counts) Fail(r Reason, n uint64) {
	if c.FailedFor == nil {
		c.FailedFor = map[Reason]uint64{}
	}
	c.FailedFor[r] += n
}

// FailedForAny is how many of Failed did for a reason that is known.
func (c Counts) FailedForAny() (n uint64) {
	for _, v := range c.FailedFor {
		n += v
	}
	return min(n, c.Failed)
}

// DroppedTotal is the number of recipients dropped for any reason.
func (c Counts) DroppedTotal() uint64 {
	var n uint64
	for _, v := range c.Dropped {
		n += v
	}
	return n
}

// Waits says in words what a job that is sent waits on: those who are not settled, and to be
// resumed before that if it is paused.
func (c Counts) Waits(paused bool) string {
	words := fmt.Sprintf("%s parked, %s handed off, %s in doubt", Exact(c.Parked), Exact(c.HandedOff), Exact(c.InDoubt))
	if paused {
		return "resume, with " + words
	}
	return words
}

// Exact writes a number for people who add up: in full, with commas.
func Exact(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Sum adds up everything but Package.
func (c Counts) Sum() uint64 {
	return c.Delivered + c.HandedOff + c.Parked + c.Pending + c.InDoubt + c.Expired + c.Recalled +
		c.Cancelled + c.Failed + c.DroppedTotal()
}

// Open is the number of recipients that have no terminal outcome yet.
func (c Counts) Open() uint64 { return c.HandedOff + c.Parked + c.Pending + c.InDoubt }
