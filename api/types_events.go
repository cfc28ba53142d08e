package api

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"crier/job"
)

// TailEvents asks for events.
type TailEvents struct {
	// After is the cursor of an event: those behind it are wanted. 0 is from the first
	// that is stored.
	After uint64
	// Within, if not 0, asks for what was published within that time until now, in the
	// place of After.
	Within Duration
	// Job is the only one wanted; zero is all.
	Job job.ID
	// Kind is one of job.EventKinds, the only one wanted; empty is all.
	Kind string
	// Follow waits for more at the end.
	Follow bool
}

// Validate refuses two beginnings, and an unknown kind.
func (r TailEvents) Validate() error {
	if r.Kind != "" && !slices.Contains(job.EventKinds(), r.Kind) {
		return job.Invalid("kind", fmt.Sprintf("kind %q: want one of %s", Printable(r.Kind), strings.Join(job.EventKinds(), ", ")), nil)
	}
	if r.After != 0 && r.Within != 0 || r.Within < 0 {
		return job.Invalid("since", "since is a cursor or a length of time, not both", nil)
	}
	return nil
}

// Since reads a beginning as it is written in a query or a flag: a cursor, a length
// of time such as 1h, or nothing.
func (r *TailEvents) Since(text string) error {
	r.After, r.Within = 0, 0
	if text == "" {
		return nil
	}
	var err error
	if strings.Trim(text, "0123456789") == "" {
		r.After, err = strconv.ParseUint(text, 10, 64)
	} else if r.Within, err = ParseDuration(text); r.Within == 0 && err == nil {
		err = fmt.Errorf("no time")
	}
	if err != nil {
		return job.Invalid("since", fmt.Sprintf("since %q: want the cursor of an event, or a length of time such as 1h", Printable(text)), nil)
	}
	return nil
}

// SinceText writes what Since reads.
func (r TailEvents) SinceText() string {
	switch {
	case r.Within != 0:
		return r.Within.String()
	case r.After != 0:
		return strconv.FormatUint(r.After, 10)
	}
	return ""
}

// Event is an event with its place in the stream. An event may be published twice: of
// those about one job, slice or set, what is not newer than the highest version that was
// seen is a repeat, or late; but an alert is about a version that was told before.
type Event struct {
	Cursor uint64 `json:"cursor" doc:"Give it as since to go on behind this event."`
	job.Event
}

// NewEvent puts an event in its place.
func NewEvent(cursor uint64, e job.Event) Event { return Event{cursor, e} }
