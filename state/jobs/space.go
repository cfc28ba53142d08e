package jobs

import (
	"context"
	"time"
)

// spaceEvery is how often the ledger's size is looked at.
const spaceEvery = time.Second

// Full reports whether the ledger has no room for new work, as of a second ago.
func (t *Table) Full() bool { return t.full.Load() }

// watchSpace keeps what Full tells, until ctx ends. While the ledger does not say
// how much it has, what it said last holds.
func (t *Table) watchSpace(ctx context.Context) error {
	tick := time.NewTicker(spaceEvery)
	defer tick.Stop()
	for {
		if u, err := t.log.Usage(ctx); err == nil {
			t.full.Store(u.Full())
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
