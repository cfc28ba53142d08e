// Package work holds the messages between schedulers, who offer slices, and
// workers, who claim them by themselves. Neither imports the other.
package work

import (
	"time"

	"crier/job"
)

// Offer is a scheduler's offer of a slice; the worker claims it by itself.
type Offer struct {
	Job    job.ID   `json:"job"`
	Number uint32   `json:"slice"`
	Span   job.Span `json:"span"`
}

// Reply is the answer to an offer.
type Reply struct {
	State job.SliceState `json:"state"` // sending, sent, or planned if it was not taken
	Why   string         `json:"why,omitempty"`
	// Tries is how often in a row something of the slice broke the worker's work on it,
	// under this number of the job's Controls.Again; Why is the last reason then.
	Tries int    `json:"tries,omitempty"`
	Again uint64 `json:"again,omitempty"`
}

// OfferTo is where a worker takes offers; they are asked and answered.
func OfferTo(worker string) string { return "crier.worker." + worker + ".offer" }

// Lane is what one lane of a worker is at: the part of a worker's answer.
type Lane struct {
	Phase   string    `json:"phase"` // idle, preparing, reserving or handing
	Job     job.ID    `json:"job,omitzero"`
	Slice   uint32    `json:"slice,omitempty"`
	Span    job.Span  `json:"span,omitzero"`
	Targets int       `json:"targets,omitempty"`
	Since   time.Time `json:"since,omitzero"` // in this phase
}

// LanesTo is where a worker is asked what its lanes are at; the answer is a list of
// Lane in JSON.
func LanesTo(worker string) string { return "crier.worker." + worker + ".lanes" }

// WaitingTo is where a scheduler is asked, with a job's id, what that job waits on.
func WaitingTo(scheduler string) string { return "crier.scheduler." + scheduler + ".waiting" }

// SentTo is where a worker tells that a slice is sent; the answer to the next
// offer of that slice says so too.
const SentTo = "crier.sent"
