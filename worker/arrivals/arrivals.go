// Package arrivals keeps what gateways told a home: how far their announcements are
// taken in, which of them are there, and what the clients that are connected said they
// have.
//
// It guarantees that a gap in an incarnation's announcements is noticed, by the next
// one or by a beat, and that a copy of one changes nothing.
package arrivals

import (
	"maps"
	"slices"
	"sync"
	"time"

	"crier/job"
	"crier/presence/handoff"
)

// goneAfter is how long a gateway may be silent before its recipients are taken for
// offline. Six beats; whoever comes back announces everything anew.
const goneAfter = 6 * time.Second

// Log remembers how far the announcements of each incarnation to each range of
// this home are taken in: 40 bytes each.
type Log struct {
	mu     sync.Mutex
	last   map[arrivalKey]progress
	behind map[arrivalKey]progress       // last, at a beat that was ahead of it
	heard  map[job.Incarnation]time.Time // the last beat
	urls   map[string]string             // of each gateway, as its last beat said
}

type arrivalKey struct {
	inc job.Incarnation
	r   job.Range
}

// progress is how far an incarnation's announcements to a range are.
type progress struct{ round, seq uint64 }

func (p progress) before(o progress) bool {
	return p.round < o.round || p.round == o.round && p.seq < o.seq
}

// follows reports whether nothing is missing between o and p.
func (p progress) follows(o progress) bool {
	return p.round == o.round && p.seq == o.seq+1 || p.round > o.round && p.seq == 1
}

// NewLog makes an empty one.
func NewLog() *Log {
	return &Log{last: map[arrivalKey]progress{}, behind: map[arrivalKey]progress{}, heard: map[job.Incarnation]time.Time{}, urls: map[string]string{}}
}

// Take decides about an announcement. If it is the next one to a range that is mine, it
// calls apply, with everything set if whoever is not told is not there, and notes it
// unless that fails. Announcements are taken one at a time. An incarnation that
// announces is there, although no beat of it was heard yet.
func (a *Log) Take(ann *handoff.Announce, now time.Time, mine func(job.Range) bool, apply func(everything bool) error) (handoff.Reception, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !mine(ann.Range) {
		return handoff.NotHome, nil
	}
	key := arrivalKey{ann.Inc, ann.Range}
	last, next := a.last[key], progress{ann.Round, ann.Seq}
	switch {
	case !last.before(next):
		return handoff.TakenIn, nil // a copy
	case !next.follows(last):
		return handoff.WantsAnew, nil
	}
	if err := apply(ann.Seq == 1 && last != progress{}); err != nil {
		return 0, err
	}
	a.last[key] = next
	if _, known := a.heard[ann.Inc]; !known {
		a.heard[ann.Inc] = now
	}
	return handoff.TakenIn, nil
}

// Forget drops what is known of a range, whose home is another now, and calls also,
// which drops the rest: no announcement is taken in between.
func (a *Log) Forget(r job.Range, also func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.dropIf(func(k arrivalKey) bool { return k.r == r })
	also()
}

func (a *Log) dropIf(drop func(arrivalKey) bool) {
	for k := range a.last {
		if drop(k) {
			delete(a.last, k)
		}
	}
	for k := range a.behind {
		if drop(k) {
			delete(a.behind, k)
		}
	}
}

// Compare holds a beat against what was taken in. It gives the ranges of which something
// is missing, because nothing is known of them, or they did not get on since the beat
// before although more than one announcement is missing: a single one is on its way, and is
// repeated until it is answered. It also tells whether the incarnation was not known.
func (a *Log) Compare(b *handoff.Beat, now time.Time, mine func(job.Range) bool) (anew []job.Range, first bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, known := a.heard[b.Inc]
	a.heard[b.Inc] = now
	a.urls[b.Inc.Gateway] = b.URL
	for _, ann := range b.Ranges {
		if !mine(ann.Range) {
			continue
		}
		k := arrivalKey{b.Inc, ann.Range}
		last, at := a.last[k], progress{ann.Round, ann.Seq}
		was, ahead := a.behind[k]
		switch {
		case ann.Seq == 0 || !last.before(at) || last != progress{} && at.follows(last):
			delete(a.behind, k)
		case last == progress{} || ahead && was == last:
			anew = append(anew, ann.Range)
			delete(a.behind, k)
		default:
			a.behind[k] = last
		}
	}
	return anew, !known
}

// URL is where clients connect to a gateway that was heard; "" if it did not say.
func (a *Log) URL(inc job.Incarnation) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.heard[inc]; !ok {
		return ""
	}
	return a.urls[inc.Gateway]
}

// Heard reports whether an incarnation beats.
func (a *Log) Heard(inc job.Incarnation) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, ok := a.heard[inc]
	return ok
}

// AllHeard lists the incarnations that beat, in no order.
func (a *Log) AllHeard() []job.Incarnation {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Collect(maps.Keys(a.heard))
}

// Silent forgets the incarnations that were not heard for too long and gives them; paused
// says that it was this process that did not hear. For each it calls also, which drops the
// rest: an announcement that is taken in after that is of one that came back.
func (a *Log) Silent(now time.Time, paused bool, also func(job.Incarnation)) (gone []job.Incarnation) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for inc, at := range a.heard {
		switch {
		case paused:
			a.heard[inc] = now
		case now.Sub(at) >= goneAfter:
			delete(a.heard, inc)
			a.dropIf(func(k arrivalKey) bool { return k.inc == inc })
			also(inc)
			gone = append(gone, inc)
		}
	}
	return gone
}
