package jobs

import (
	"context"
	"time"
)

const (
	// fullAt is the share of the ledger's limit from which no job is accepted: what
	// was begun must be able to end, and the next process to take over.
	fullAt     = 0.85
	spaceEvery = time.Second
)

// Full reports whether the ledger has no room for new work, as of a second ago.
func (t *Table) Full() bool { return t.full.Load() }

// watchSpace keeps what Full tells, until ctx ends. While the ledger does not say
// how much it has, what it said last holds.
func (t *Table) watchSpace(ctx context.Context) error {
	tick := time.NewTicker(spaceEvery)
	defer tick.Stop()
	for {
		if u, err := t.log.Usage(ctx); err == nil {
			t.full.Store(u.Limit > 0 && float64(u.Bytes) > fullAt*float64(u.Limit))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
