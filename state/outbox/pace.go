package outbox

import "time"

// The pauses of a relay that finds nothing grow from the first to the last; after a
// failure it is the last.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = time.Second
)

// pace decides when a relay looks again.
type pace struct {
	pause   time.Duration
	failing bool // the last look failed
}

// result is what a look found.
type result struct {
	rows, batch int // published, and taken at most
	failed      bool
}

// next gives the pause after a look: none while there is more than a batch.
func (p *pace) next(r result) time.Duration {
	p.failing = r.failed
	switch {
	case r.failed:
		p.pause = lastPause
	case r.rows == r.batch:
		p.pause = 0
	case r.rows > 0 || p.pause == 0:
		p.pause = firstPause
	default:
		p.pause = min(2*p.pause, lastPause)
	}
	return p.pause
}
