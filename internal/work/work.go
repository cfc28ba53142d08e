// Package work holds the messages between schedulers, who offer slices, and
// workers, who claim them by themselves. Neither imports the other.
package work

import "crier/job"

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
}

// OfferTo is where a worker takes offers; they are asked and answered.
func OfferTo(worker string) string { return "crier.worker." + worker + ".offer" }

// WaitingTo is where a scheduler is asked, with a job's id, what that job waits on.
func WaitingTo(scheduler string) string { return "crier.scheduler." + scheduler + ".waiting" }

// SentTo is where a worker tells that a slice is sent; the answer to the next
// offer of that slice says so too.
const SentTo = "crier.sent"
