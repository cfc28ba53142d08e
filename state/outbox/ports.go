package outbox

import (
	"context"
	"time"

	"crier/job"
)

// Row is an event that waits to be published.
type Row struct {
	ID    uint64 // of the row; ids say nothing about the order of commits
	Event job.Event
}

// Lease says for whom rows are taken.
type Lease struct {
	Owner string        // nobody else uses this name at the same time
	For   time.Duration // so long others leave them alone
	Limit int           // at most so many
}

// Rows is the outbox. Its methods are safe for concurrent use, and safe to repeat.
type Rows interface {
	// Take gives rows that are not marked published and that nobody else has leased,
	// the lowest ids first, and leases them. What the owner had leased is among them.
	Take(ctx context.Context, l Lease) ([]Row, error)
	// Mark marks rows published.
	Mark(ctx context.Context, ids []uint64) error
	// Sweep deletes rows that were published longer ago than an age, at most limit of
	// them, and tells how many.
	Sweep(ctx context.Context, age time.Duration, limit int) (int, error)
}

// Publisher is where events go. Publish returns when the event is stored; events with
// the same ID that come within the publisher's window are stored once. After an error
// it is unknown whether the event was stored: it is published again.
type Publisher interface {
	Publish(ctx context.Context, e job.Event) error
}
