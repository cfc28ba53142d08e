package jobs

import (
	"time"

	"crier/job"
)

// Job is one job's place.
type Job struct {
	Spec     job.Spec
	State    job.State
	Version  uint64
	Reason   string // what it waits on, or why it is in this state
	Since    time.Time
	Controls job.Controls
	seq      uint64 // of its last record
	first    uint64 // of its first record; 0 if that was not read
}

// Accepted is the sequence of the record with which the job was accepted, 0 if it is not
// known here; see Table.Accepted.
func (j Job) Accepted() uint64 { return j.first }

// IsLive reports whether something is left to be done about the job: it is not over, or
// was recalled after it was and that has not begun.
func (j Job) IsLive() bool {
	return !j.State.Terminal() || j.Controls.Recalled && j.State.CanBecome(job.Recalling)
}

// Over is what becomes of those who are not sent to any more: Cancelled, Recalled or
// Expired, or Parked while the job may be sent.
func (j Job) Over(now time.Time) job.Outcome {
	over := j.Controls.Over()
	switch {
	case over != job.Parked:
		return over
	case j.State == job.JobCancelled || j.State == job.Cancelling:
		return job.Cancelled
	case j.State == job.JobRecalled || j.State == job.Recalling:
		return job.Recalled
	case !now.Before(j.Spec.ExpiresAt):
		return job.Expired
	}
	return job.Parked
}

// Ordered is the state that the job's controls bring it to, if the ledger does not have that
// yet.
func (j Job) Ordered() (to job.State, ok bool) {
	c := j.Controls
	switch {
	case c.Recalled && j.State.CanBecome(job.Recalling):
		return job.Recalling, true
	case c.Cancelled && j.State.CanBecome(job.Cancelling):
		return job.Cancelling, true
	case c.Paused && (j.State == job.Prepared || j.State == job.Sending):
		return job.Paused, true
	case !c.Paused && j.State == job.Paused:
		return job.Sending, true
	case j.State == job.Quarantined && c.Again >= j.Version:
		return job.Queued, true
	}
	return to, false
}

// InForce is the controls that those who send go by: what is quarantined is held like
// what is paused.
func (j Job) InForce() job.Controls {
	c := j.Controls
	c.Paused = c.Paused || j.State == job.Quarantined
	return c
}

// Rate is the rate in force, in recipients a second; 0 is unlimited.
func (j Job) Rate() uint32 {
	if j.Controls.Rate != nil {
		return *j.Controls.Rate
	}
	return j.Spec.Rate
}
