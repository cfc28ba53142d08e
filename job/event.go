package job

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Event tells whoever listens that a job, or a slice of one, came into a state, or that
// a set of recipients was changed. It is a notice: the truth stands in the ledger, and of
// sets in SQL. Each is published at least once; ID is the same whenever it is published
// again, so that a consumer who remembers the highest version of each job, slice and set
// can drop repeats. Events of one job may arrive out of order: of two, the one with the
// higher version is the later one. A job's versions have no gap, nor have a set's; of a
// slice only the states that the projection saw are told.
type Event struct {
	Job     ID         `json:"job,omitzero" doc:"Absent if it is about a set."`
	Slice   *uint32    `json:"slice,omitzero" doc:"Number of the slice it is about; absent if it is about the job itself."`
	Set     *SetChange `json:"set,omitzero" doc:"The set of recipients that was changed; absent if it is about a job."`
	Version uint64     `json:"version" doc:"Of the job, or of the slice's status, or the set's revision; of a control its number among those of all jobs. A job's have no gap, nor a set's."`
	State   string     `json:"state" doc:"The state that the job or the slice came into; of a set, added or removed; of a control, pause, resume or rate."`
	Reason  string     `json:"reason,omitzero"`
	At      time.Time  `json:"at" doc:"When the state was entered, or the set changed; of an alert, from when on the state was overstayed."`
	Control bool       `json:"control,omitzero" doc:"Somebody paused or resumed the job, or changed its rate, which need not be a change of its state; absent: it is none of these."`
	Rate    *uint32    `json:"rate,omitzero" doc:"The new rate, in recipients a second, of a control that changes it; 0 is unlimited."`
	Alert   string     `json:"alert,omitzero" enum:"overstayed" doc:"overstayed: the job is in this state for longer than that is meant to last, and the reason is what it waits on. Once for each version; absent: it came into the state."`
}

// Overstayed is the alert that a job is in its state for longer than that is meant to
// last. It is told once for a job's version; Reason is what the job waits on.
const Overstayed = "overstayed"

// SetChange is a set of recipients, and what a change made of it. Who came and went it
// does not tell.
type SetChange struct {
	Kind       string `json:"kind" enum:"followers,suppression,global-suppression,segment"`
	Name       string `json:"name,omitzero" doc:"Of the account, or of the segment; absent: it is of neither."`
	Number     uint32 `json:"number,omitzero" doc:"Id of the account; of a segment a number that no other segment has."`
	Tenant     string `json:"tenant,omitzero" doc:"Whose set it is; absent: everybody's."`
	Recipients uint64 `json:"recipients" doc:"How many are in the set now."`
	Changed    uint64 `json:"changed" doc:"How many were added, or removed: a change does one of both."`
}

// SetKinds are the kinds of sets of recipients: the followers of an account, its
// suppression list, the one of all accounts, and segments.
func SetKinds() []string {
	return []string{"followers", "suppression", "global-suppression", "segment"}
}

// The states of an event about a set.
const (
	SetAdded   = "added"
	SetRemoved = "removed"
)

// The states of an event about a control.
const (
	ControlPause  = "pause"
	ControlResume = "resume"
	ControlRate   = "rate"
)

// Event is the control of a job with a number as an event; ok is false of those that lead to a
// state of their own, or that nobody else needs to hear of.
func (c Control) Event(id ID, number uint64) (e Event, ok bool) {
	e = Event{Job: id, Version: number, Control: true, Reason: c.Why, At: c.At}
	switch {
	case c.Recall, c.Cancel:
	case c.Pause != nil && *c.Pause:
		e.State = ControlPause
	case c.Pause != nil:
		e.State = ControlResume
	case c.Rate != nil:
		e.State, e.Rate = ControlRate, c.Rate
	}
	return e, e.State != ""
}

// id names the set among all.
func (s SetChange) id() string {
	return s.Kind + "." + strconv.FormatUint(uint64(s.Number), 10)
}

// The kinds of events.
const (
	EventOfJob     = "job"
	EventOfSlice   = "slice"
	EventOfSet     = "set"
	EventOfControl = "control"
)

// EventKinds lists them.
func EventKinds() []string { return []string{EventOfJob, EventOfSlice, EventOfSet, EventOfControl} }

// Kind is what the event is about: one of EventKinds.
func (e Event) Kind() string {
	switch {
	case e.Set != nil:
		return EventOfSet
	case e.Control:
		return EventOfControl
	case e.Slice != nil:
		return EventOfSlice
	}
	return EventOfJob
}

// Once reports whether the stream has the event once, however often it is published: alerts,
// and controls, which are read from the ledger again after a crash.
func (e Event) Once() bool { return e.Alert != "" || e.Control }

// ID names the event: job/version, job-slice/version, job/control/number, or
// kind.number/revision; an alert's has its word behind that.
func (e Event) ID() string {
	id := e.Job.String()
	switch e.Kind() {
	case EventOfSet:
		id = e.Set.id()
	case EventOfControl:
		id += "/control"
	case EventOfSlice:
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

// Subject is where the event is published: evt.job.<id>, evt.slice.<id>.<n>, or
// evt.set.<kind>.<number>; an alert has one of its own, evt.alert.<alert>.<id>.<version>, and
// so has a control, evt.control.<id>.<number>.
func (e Event) Subject() string {
	if e.Alert != "" {
		return "evt.alert." + e.Alert + "." + e.Job.String() + "." + strconv.FormatUint(e.Version, 10)
	}
	switch e.Kind() {
	case EventOfSet:
		return "evt.set." + e.Set.id()
	case EventOfControl:
		return "evt.control." + e.Job.String() + "." + strconv.FormatUint(e.Version, 10)
	case EventOfSlice:
		return "evt.slice." + e.Job.String() + "." + strconv.FormatUint(uint64(*e.Slice), 10)
	}
	return "evt.job." + e.Job.String()
}

// Validate refuses what is no event.
func (e Event) Validate() error {
	switch {
	case e.Job.IsZero() && e.Set == nil:
		return Invalid("job", "an event is about a job, or a set", nil)
	case e.Control && (e.Set != nil || e.Slice != nil):
		return Invalid("control", "a control is about a job, not about a slice or a set", nil)
	case e.Set != nil && (!e.Job.IsZero() || e.Slice != nil):
		return Invalid("set", "an event is about a job or a set, not both", nil)
	case e.Set != nil && !slices.Contains(SetKinds(), e.Set.Kind):
		return Invalid("set", fmt.Sprintf("the event is about a set of the unknown kind %q", e.Set.Kind), nil)
	case e.Version == 0:
		return Invalid("version", fmt.Sprintf("the event about %s has no version", strings.TrimSuffix(e.ID(), "/0")), nil)
	case strings.TrimSpace(e.State) == "":
		return Invalid("state", fmt.Sprintf("the event %s has no state", e.ID()), nil)
	case e.Alert != "" && (e.Alert != Overstayed || e.Kind() != EventOfJob):
		return Invalid("alert", fmt.Sprintf("the event %s alerts to what is none", e.ID()), nil)
	}
	return nil
}
