package webhook

import (
	"net/http"
	"strconv"
	"time"

	"crier/job"
)

const (
	// Patience is how long after its first attempt a delivery is tried for the last time.
	Patience = 24 * time.Hour
	// The pauses between attempts grow from the first to the longest.
	firstPause   = 5 * time.Second
	growth       = 3
	longestPause = 3 * time.Hour
)

// Answer is what came of an attempt.
type Answer struct {
	Status     int           // of HTTP; 0: there was no answer
	RetryAfter time.Duration // that the receiver asked for; 0: it did not
	Error      string        // why there was no answer, or what is wrong with it
}

// Verdict is what becomes of a delivery.
type Verdict struct {
	Answer
	Outcome string    // one of job's; job.DeliveryOpen: it is tried again
	First   time.Time // when it was tried first
	Due     time.Time // when it is tried again
}

// Decide says what an answer means for a delivery that was tried attempts times before it,
// at first for the first time. chance is from 0 to 1: it keeps those who failed together
// from coming back together.
func Decide(attempts uint32, first time.Time, a Answer, now time.Time, chance float64) Verdict {
	v := Verdict{Answer: a, First: first}
	if attempts == 0 || first.IsZero() {
		v.First = now
	}
	last := v.First.Add(Patience)
	switch {
	case a.Status/100 == 2:
		v.Outcome = job.DeliveryDelivered
		return v
	case a.Status == http.StatusGone:
		v.Outcome = job.DeliveryGone
		return v
	case !now.Before(last):
		v.Outcome = job.DeliveryGivenUp
		return v
	}
	pause := firstPause
	for range attempts {
		pause = min(growth*pause, longestPause)
	}
	pause = time.Duration(float64(pause) * (0.75 + chance/2))
	v.Outcome, v.Due = job.DeliveryOpen, now.Add(max(pause, a.RetryAfter))
	if v.Due.After(last) {
		v.Due = last
	}
	return v
}

// retryAfter reads what a receiver asks for: a number of seconds, or a time.
func retryAfter(text string, now time.Time) time.Duration {
	if n, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}
