package outbox

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"crier/job"
)

// Config describes a relay. Rows, Publisher and Owner are required.
type Config struct {
	Rows      Rows
	Publisher Publisher
	// Owner names the relay. One that starts under the name of a dead one goes on with
	// what that had leased at once; two that live have different names.
	Owner string
	// Batch is how many rows are taken at once. Default 256.
	Batch int
	// Lease is how long rows that were taken are left to this relay; what a dead one
	// took waits so long. Default 10 s.
	Lease time.Duration
	// Keep is how long rows stay after they were published. Default 7 days.
	Keep time.Duration
	// Logger takes warnings. Default slog.Default().
	Logger *slog.Logger
}

// Validate names what is missing or out of its bounds, and fills in the defaults.
func (c *Config) Validate() error {
	switch {
	case c.Rows == nil || c.Publisher == nil:
		return fmt.Errorf("relay configuration: Rows and Publisher are needed")
	case c.Owner == "":
		return fmt.Errorf("relay configuration: Owner is empty; give this relay a name of its own")
	case c.Batch < 0 || c.Lease < 0 || c.Keep < 0:
		return fmt.Errorf("relay configuration: Batch %d, Lease %s or Keep %s is negative", c.Batch, c.Lease, c.Keep)
	}
	if c.Batch == 0 {
		c.Batch = 256
	}
	if c.Lease == 0 {
		c.Lease = 10 * time.Second
	}
	if c.Keep == 0 {
		c.Keep = 7 * 24 * time.Hour
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return nil
}

// Relay publishes the rows of an outbox. It has one owner, Run.
type Relay struct {
	cfg   Config
	wake  chan struct{} // one slot
	pace  pace
	sweep time.Time // when to delete old rows again
}

// New makes a relay.
func New(cfg Config) (*Relay, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Relay{cfg: cfg, wake: make(chan struct{}, 1)}, nil
}

// Notify tells the relay that there may be rows; it never blocks. What nobody tells
// it finds by itself within a second.
func (r *Relay) Notify() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run carries rows until ctx ends, and returns nil then. A store or a stream that
// fails is tried again.
func (r *Relay) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		n, err := r.carry(ctx)
		if err != nil && ctx.Err() == nil && !r.pace.failing {
			r.cfg.Logger.Warn("carrying events from the outbox to their stream; it goes on when both answer", "error", err)
		}
		r.clean(ctx, time.Now())
		d := r.pace.next(result{rows: n, batch: r.cfg.Batch, failed: err != nil})
		if d == 0 {
			continue
		}
		t := time.NewTimer(d)
		wake := r.wake
		if err != nil {
			wake = nil // whoever projects must not make a failing relay spin
		}
		select {
		case <-ctx.Done():
		case <-wake:
		case <-t.C:
		}
		t.Stop()
	}
	return nil
}

// carry publishes one batch and marks what was published, and tells how many rows it
// marked. If the relay dies before the mark, the rows are published again by their
// IDs.
func (r *Relay) carry(ctx context.Context) (int, error) {
	began := time.Now()
	rows, err := r.cfg.Rows.Take(ctx, Lease{Owner: r.cfg.Owner, For: r.cfg.Lease, Limit: r.cfg.Batch})
	if err != nil || len(rows) == 0 {
		return 0, err
	}
	done := make([]uint64, 0, len(rows))
	var failure error
	for _, row := range rows {
		err := r.cfg.Publisher.Publish(ctx, row.Event)
		if job.CodeOf(err) == job.CodeInvalid {
			// It would be refused for ever, and hold up all that is behind it.
			r.cfg.Logger.Error("a row of the outbox is no event; it is passed over", "row", row.ID, "error", err)
			err = nil
		}
		if err != nil {
			failure = err
			break
		}
		done = append(done, row.ID)
		if time.Since(began) > r.cfg.Lease/2 {
			break // the rest is this relay's own, and is taken again
		}
	}
	if len(done) == 0 {
		return 0, failure
	}
	// A relay that is being stopped marks what it has published.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), markWithin)
	defer cancel()
	if err := r.cfg.Rows.Mark(ctx, done); err != nil {
		return 0, err
	}
	return len(done), failure
}

const (
	// markWithin bounds a mark, and so how long a relay takes to stop.
	markWithin = 3 * time.Second
	sweepEvery = time.Minute
	sweepBatch = 1000
)

// clean deletes old rows, a batch at a time between two looks at new ones.
func (r *Relay) clean(ctx context.Context, now time.Time) {
	if now.Before(r.sweep) {
		return
	}
	r.sweep = now.Add(sweepEvery)
	n, err := r.cfg.Rows.Sweep(ctx, r.cfg.Keep, sweepBatch)
	switch {
	case err != nil && ctx.Err() == nil:
		r.cfg.Logger.Warn("deleting old rows of the outbox; it is tried again", "error", err)
	case n == sweepBatch:
		r.sweep = now
	}
}
