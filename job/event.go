package job

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Event tells whoever listens that a job, or a slice of one, came into a state. It is
// a notice: the truth stands in the ledger. Each is published at least once; ID is
// the same whenever it is published again, so that a consumer who remembers the
// highest version of each job and slice can drop repeats. Events of one job may
// arrive out of order: of two, the one with the higher version is the later one. A
// job's versions have no gap; of a slice only the states that the projection saw are
// told.
type Event struct {
	Job     ID        `json:"job"`
	Slice   *uint32   `json:"slice,omitempty"` // its number; absent: it is about the job itself
	Version uint64    `json:"version"`         // of the job, or of the slice's status
	State   string    `json:"state"`           // a State's or a SliceState's word
	Reason  string    `json:"reason,omitempty"`
	At      time.Time `json:"at"`              // when the state was entered, or was overstayed
	Alert   string    `json:"alert,omitempty"` // Overstayed: it tells that of a state which was told before
}

// Overstayed is the alert that a job is in its state for longer than that is meant to
// last. It is told once for a job's version; Reason is what the job waits on.
const Overstayed = "overstayed"

// ID names the event: job/version, or job-slice/version; an alert's has its word behind that.
func (e Event) ID() string {
	id := e.Job.String()
	if e.Slice != nil {
		id += "-" + strconv.FormatUint(uint64(*e.Slice), 10)
	}
	id += "/" + strconv.FormatUint(e.Version, 10)
	if e.Alert != "" {
		id += "/" + e.Alert
	}
	return id
}

// AllEvents matches the subjects of all events.
const AllEvents = "evt.>"

// Subject is where the event is published: evt.job.<id>, or evt.slice.<id>.<n>; an alert
// has one of its own, evt.alert.<alert>.<id>.<version>.
func (e Event) Subject() string {
	if e.Alert != "" {
		return "evt.alert." + e.Alert + "." + e.Job.String() + "." + strconv.FormatUint(e.Version, 10)
	}
	if e.Slice == nil {
		return "evt.job." + e.Job.String()
	}
	return "evt.slice." + e.Job.String() + "." + strconv.FormatUint(uint64(*e.Slice), 10)
}

// Validate refuses what is no event.
func (e Event) Validate() error {
	switch {
	case e.Job.IsZero():
		return Invalid("job", "an event is about a job", nil)
	case e.Version == 0:
		return Invalid("version", fmt.Sprintf("the event about %s has no version", e.Job), nil)
	case strings.TrimSpace(e.State) == "":
		return Invalid("state", fmt.Sprintf("the event %s has no state", e.ID()), nil)
	case e.Alert != "" && (e.Alert != Overstayed || e.Slice != nil):
		return Invalid("alert", fmt.Sprintf("the event %s alerts to what is none", e.ID()), nil)
	}
	return nil
}
