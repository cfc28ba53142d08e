// Package lease is the pure core of when a gateway's incarnation is over (rule 24).
//
// Two sides meet in the ledger. Whoever finds that an incarnation holds no lease in the
// coordination store, and is not heard, says in the ledger that it is over, and counts it
// as over only Grace later. A gateway asks the ledger again and again whether that was
// said of it, and takes hand-offs only for Term after it asked a question that was
// answered with no. So, whatever either of them believes about the store, and whoever is
// paused: what is counted as over takes nothing more, and what it took before it writes
// only to the sockets it had then.
//
// A lease alone would not do. A gateway that is cut off from a store that answers others
// cannot tell this from a store that answers nobody, in which case it is to go on; and a
// hand-off on its way, or repeated by a worker on the same side of the cut, would reach a
// device that had meanwhile been elsewhere, got the message there, and was told to forget
// it.
//
// A wrong word is safe: the gateway begins again with another incarnation.
package lease

import (
	"slices"
	"time"

	"crier/job"
)

// The times. Grace is longer than Term by what clocks may differ in their speed.
const (
	TTL   = 5 * time.Second  // of a lease in the store
	Renew = TTL / 4          // how often it is renewed
	Ask   = time.Second      // how often a gateway asks the ledger
	Term  = 6 * time.Second  // how long a gateway takes hand-offs after it asked
	Grace = 10 * time.Second // from when it is in the ledger that an incarnation is over until that counts
	// maxGap is how long the store may be silent, or the observer not look, before what
	// was observed counts for nothing.
	maxGap = 2500 * time.Millisecond
)

// Licence is what a gateway knows of its right to take hand-offs. The zero value has none.
type Licence struct {
	until time.Duration
}

// Confirmed notes that a question sent at that time was answered: it is not over.
func (l *Licence) Confirmed(sent time.Duration) { l.until = max(l.until, sent+Term) }

// May reports whether hand-offs may be taken at that time.
func (l *Licence) May(now time.Duration) bool { return now < l.until }

// Watch is what an observer sees of the gateways' leases.
type Watch struct {
	held     map[string]uint32 // which start of each gateway has a lease
	answered time.Time         // when the store last answered
	looked   time.Time
	since    map[job.Incarnation]time.Time // how long each has been without a lease and not heard, without a break
}

// NewWatch makes one that has seen nothing.
func NewWatch() *Watch {
	return &Watch{held: map[string]uint32{}, since: map[job.Incarnation]time.Time{}}
}

// Held notes that an incarnation has its gateway's lease.
func (w *Watch) Held(inc job.Incarnation) { w.held[inc.Gateway] = inc.Start }

// Lapsed notes that a gateway has no lease.
func (w *Watch) Lapsed(gateway string) { delete(w.held, gateway) }

// Answered notes that the store has answered, and everything that it had was noted.
func (w *Watch) Answered(now time.Time) {
	if now.Sub(w.answered) > maxGap {
		clear(w.since)
	}
	w.answered = now
}

// Look is told which incarnations have something open and are not heard. It gives those
// of them that may be called over: for one TTL, during which the store answered and
// nobody paused, they had no lease. A lease of a newer incarnation is none of theirs.
func (w *Watch) Look(now time.Time, silent []job.Incarnation) (over []job.Incarnation) {
	blind := now.Sub(w.answered) > maxGap || now.Sub(w.looked) > maxGap
	w.looked = now
	if blind {
		clear(w.since)
	}
	for inc := range w.since {
		if !slices.Contains(silent, inc) {
			delete(w.since, inc)
		}
	}
	if now.Sub(w.answered) > maxGap {
		return nil
	}
	for _, inc := range silent {
		start, held := w.held[inc.Gateway]
		since, seen := w.since[inc]
		switch {
		case held && start <= inc.Start:
			delete(w.since, inc)
		case !seen:
			w.since[inc] = now
		case w.answered.Sub(since) >= TTL:
			over = append(over, inc)
		}
	}
	return over
}
