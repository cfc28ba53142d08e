package api

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"crier/job"
)

// TailEvents asks for events of jobs and slices.
type TailEvents struct {
	// After is the cursor of an event: those behind it are wanted. 0 is from the first
	// that is stored.
	After uint64
	// Within, if not 0, asks for what was published within that time until now, in the
	// place of After.
	Within Duration
	// Job is the only one wanted; zero is all.
	Job job.ID
	// Follow waits for more at the end.
	Follow bool
}

// Validate refuses two beginnings.
func (r TailEvents) Validate() error {
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
// those about one job, or one slice, what is not newer than the highest version that
// was seen is a repeat, or late; but an alert is about a version that was told before.
type Event struct {
	Cursor  uint64    `json:"cursor" doc:"Give it as since to go on behind this event."`
	Job     job.ID    `json:"job"`
	Slice   *uint32   `json:"slice,omitzero" doc:"Number of the slice it is about; absent if it is about the job itself."`
	Version uint64    `json:"version" doc:"Of the job, or of the slice's status. A job's have no gap."`
	State   string    `json:"state"`
	Reason  string    `json:"reason,omitzero"`
	At      time.Time `json:"at" doc:"When the state was entered; of an alert, from when on it was overstayed."`
	Alert   string    `json:"alert,omitzero" enum:"overstayed" doc:"overstayed: the job is in this state for longer than that is meant to last, and the reason is what it waits on. Once for each version; absent: it came into the state."`
}

// NewEvent puts an event in its place.
func NewEvent(cursor uint64, e job.Event) Event {
	return Event{cursor, e.Job, e.Slice, e.Version, e.State, e.Reason, e.At, e.Alert}
}
