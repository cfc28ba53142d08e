package main

import (
	"testing"

	"crier/job"
)

// What a job was told is said to be recorded as long as its state does not show it.
func TestSeenDone(t *testing.T) {
	for _, x := range []struct {
		verb  string
		state job.State
		said  bool
	}{
		{"resume", job.Paused, true}, {"resume", job.Quarantined, true}, {"resume", job.Sending, false}, {"resume", job.Sent, false},
		{"pause", job.Sending, true}, {"pause", job.Paused, false}, {"pause", job.Sent, false},
		{"cancel", job.Sending, true}, {"cancel", job.Cancelling, true}, {"cancel", job.JobCancelled, false},
	} {
		if got := seenDone(x.verb, x.state); (got != "") != x.said {
			t.Errorf("%s of a job that is %s: %q", x.verb, x.state, got)
		}
	}
}
