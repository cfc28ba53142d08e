package job

import (
	"fmt"
	"slices"
)

// State is a job's place in its life. Every change of it is one versioned
// record in the ledger.
type State uint8

// The states of a job.
const (
	Submitted State = iota
	Scheduled
	AwaitingApproval
	Held
	Packing
	Packed
	Queued
	Preparing // sources loaded and counted, nothing charged
	Prepared
	Sending
	Paused
	Preempted
	Sent       // every online recipient handled, the rest parked
	Completed  // nobody pending, parked, handed off or in doubt
	Cancelling // no new sends; what is open is being closed
	JobCancelled
	Recalling
	JobRecalled
	JobFailed
	JobExpired // its time to live ended before anybody got the message
	Quarantined
	FailedOver
)

// CanBecome reports whether the table allows a change from s to t.
func (s State) CanBecome(t State) bool {
	if slices.Contains(s.Rule().Next, t) {
		return true
	}
	if s.Terminal() || s == t {
		return false
	}
	switch t {
	case Cancelling:
		return s != Recalling
	case Recalling, JobFailed, Quarantined:
		return true
	}
	return false
}

// Terminal reports whether the job is over. Only a recall is possible then.
func (s State) Terminal() bool { return int(s) < len(life) && life[s].Needs == NeedsNothing }

// Reached reports whether a job in state s is as far as t: sent counts as
// reached by everything that comes after it and by every terminal state.
func (s State) Reached(t State) bool {
	return s == t || s.Terminal() || t == Sent && s == FailedOver
}

// AllSent reports whether everybody was sent to or parked, and the job neither withdrawn nor
// given up since.
func (s State) AllSent() bool { return s == Sent || s == Completed || s == JobExpired }

// String is the word used in the API and the CLI.
func (s State) String() string {
	if int(s) < len(life) {
		return life[s].Name
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}

// MarshalText writes what String writes.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (s *State) UnmarshalText(b []byte) error {
	i := slices.IndexFunc(life[:], func(r Rule) bool { return r.Name == string(b) })
	if i < 0 {
		return fmt.Errorf("job state %q is unknown", b)
	}
	*s = State(i)
	return nil
}

// SliceState is a slice's place in its life.
type SliceState uint8

// The states of a slice.
const (
	SlicePlanned SliceState = iota
	SliceOffered
	SliceClaimed
	SliceSending
	SlicePaused
	SliceSent
	SliceFolded
	SliceInDoubt
	SliceReleased
	SliceAbandoned
)

// CanBecome reports whether the table allows a change from s to t.
func (s SliceState) CanBecome(t SliceState) bool { return slices.Contains(s.Rule().Next, t) }

// String is the word used in the API and the CLI.
func (s SliceState) String() string {
	if int(s) < len(sliceLife) {
		return sliceLife[s].Name
	}
	return fmt.Sprintf("slice state(%d)", uint8(s))
}

// MarshalText writes what String writes.
func (s SliceState) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (s *SliceState) UnmarshalText(b []byte) error {
	i := slices.IndexFunc(sliceLife[:], func(r SliceRule) bool { return r.Name == string(b) })
	if i < 0 {
		return fmt.Errorf("slice state %q is unknown", b)
	}
	*s = SliceState(i)
	return nil
}

// Transition is one change of a job's state as it stands in the ledger. Versions
// of a job count up from 1 without a gap; each carries the whole spec, so that the
// last record of a job says everything.
type Transition struct {
	Job     ID     `json:"job"`
	Version uint64 `json:"version"`
	State   State  `json:"state"`
	Reason  string `json:"reason,omitempty"` // in words: why, or what it waits on
	At      string `json:"at"`               // RFC 3339 with nanoseconds
	Spec    Spec   `json:"spec"`
}
