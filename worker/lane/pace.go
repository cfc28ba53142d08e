package lane

import "time"

const (
	// window is the second of the rate's promise, a little longer so that a receiver
	// whose clock reads late by up to 30 ms sees no second above the rate either.
	window = time.Second + 30*time.Millisecond

	// pieces is how many blocks a second a rate is spread over, if blocks are quick.
	pieces = 20

	// catchUp is how much of its time a block may be late without the rate falling:
	// the next block is as much larger.
	catchUp = 250 * time.Millisecond
)

// pace keeps what was handed over in the last window. A gateway gets a block at any
// time between its reserve and its answer: it counts until a window after the answer,
// so that a block that is late on its way does not fall into one second with those
// behind it.
type pace struct {
	taken []taking  // answered, oldest first
	sum   int       // of them, and of what is on its way
	due   time.Time // when the next block is due; one that is late is larger
}

type taking struct {
	at time.Time
	n  int
}

// room is how many recipients may be handed over now so that no window holds more
// than rate; it is negative for a while after the rate was lowered.
func (p *pace) room(now time.Time, rate uint32) int {
	p.forget(now)
	return int(rate) - p.sum
}

// budget is how many recipients the next block may have: a piece, and what is
// missing because it is late, within the room.
func (p *pace) budget(now time.Time, rate uint32) int {
	switch {
	case now.Before(p.due):
		return 0
	case p.due.IsZero():
		p.due = now
	case p.due.Before(now.Add(-catchUp)):
		p.due = now.Add(-catchUp)
	}
	late := int(now.Sub(p.due).Seconds() * float64(rate))
	return max(0, min(max(1, int(rate)/pieces)+late, p.room(now, rate)))
}

// next is the earliest time at which budget is above zero, unless an answer that is
// awaited makes it sooner or later.
func (p *pace) next(now time.Time, rate uint32) time.Time {
	at := now
	if p.due.After(at) {
		at = p.due
	}
	over := 1 - p.room(now, rate)
	for _, t := range p.taken {
		if over <= 0 {
			break
		}
		over -= t.n
		if free := t.at.Add(window); free.After(at) {
			at = free
		}
	}
	if soonest := now.Add(window); over > 0 && soonest.After(at) {
		return soonest // what is on its way fills the rate
	}
	return at
}

// take notes that n are on their way; a rate of 0 is none.
func (p *pace) take(n int, rate uint32) {
	p.sum += n
	if rate == 0 {
		return
	}
	// A block that was begun under a higher rate does not hold back for longer than
	// the window does.
	gap := time.Duration(float64(n) / float64(rate) * float64(time.Second))
	p.due = p.due.Add(min(gap, window))
}

// answered notes that n arrived, at the latest now.
func (p *pace) answered(now time.Time, n int) {
	if n > 0 {
		p.taken = append(p.taken, taking{now, n})
	}
}

// idle reports whether nothing is remembered.
func (p *pace) idle() bool { return p.sum == 0 }

func (p *pace) forget(now time.Time) {
	i := 0
	for i < len(p.taken) && !now.Before(p.taken[i].at.Add(window)) {
		p.sum -= p.taken[i].n
		i++
	}
	p.taken = append(p.taken[:0], p.taken[i:]...)
}
