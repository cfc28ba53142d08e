package lane

import "time"

// window is the second of the rate's promise, a little longer so that a receiver
// whose clock reads late by up to 30 ms sees no second above the rate either.
const window = time.Second + 30*time.Millisecond

// pieces is how many blocks a second a rate is spread over.
const pieces = 20

// pace keeps what was handed over in the last window.
type pace struct {
	taken []taking // oldest first; at most pieces + 1 of them matter
	sum   int
}

type taking struct {
	at time.Time
	n  int
}

// budget is how many recipients may be handed over now so that no window holds
// more than rate; spread evenly, at least one at a time.
func (p *pace) budget(now time.Time, rate uint32) int {
	p.forget(now)
	piece := max(1, int(rate)/pieces)
	if now.Before(p.next(now, rate)) {
		return 0
	}
	return max(0, min(piece, int(rate)-p.sum))
}

// next is the earliest time at which budget is above zero.
func (p *pace) next(now time.Time, rate uint32) time.Time {
	p.forget(now)
	if len(p.taken) == 0 {
		return now
	}
	at := now
	if last := p.taken[len(p.taken)-1]; true {
		gap := time.Duration(float64(last.n) / float64(max(rate, 1)) * float64(time.Second))
		if t := last.at.Add(gap); t.After(at) {
			at = t
		}
	}
	over := p.sum - int(rate) + 1
	for _, t := range p.taken {
		if over <= 0 {
			break
		}
		over -= t.n
		if free := t.at.Add(window); free.After(at) {
			at = free
		}
	}
	return at
}

func (p *pace) take(now time.Time, n int) {
	p.taken = append(p.taken, taking{now, n})
	p.sum += n
}

func (p *pace) forget(now time.Time) {
	i := 0
	for i < len(p.taken) && !now.Before(p.taken[i].at.Add(window)) {
		p.sum -= p.taken[i].n
		i++
	}
	p.taken = append(p.taken[:0], p.taken[i:]...)
}
