package worker

import (
	"context"

	"crier/internal/idset"
	"crier/job"
	"crier/presence/handoff"
	"crier/worker/arrivals"
	"crier/worker/block"
)

// Presence is who is connected where. Nobody else writes it; it is safe for readers
// meanwhile.
type Presence interface {
	arrivals.Planes
	// Forget takes everybody of a range away.
	Forget(r job.Range)
	// Online is who of the set is connected anywhere, as the caller's set.
	Online(who *idset.Set) *idset.Set
}

// Erased knows who asked to be forgotten. It may lag by some moments. erased.Table is one.
type Erased interface {
	// Ready is closed when everything is known that was recorded before.
	Ready() <-chan struct{}
	// Any reports whether anybody of a range ever did.
	Any(r job.Range) bool
	// After gives who of a range did behind a record of the ledger, as the caller's set.
	After(seq uint64, r job.Range) *idset.Set
}

// Content gives what a job sends and to whom. All but who is suppressed is immutable, so that
// implementations may cache it.
type Content interface {
	block.Content
	// Suppressed gives who of a range is on a suppression list of an account, or on that of all, as
	// it is now, as the caller's set.
	Suppressed(ctx context.Context, account uint32, r job.Range) (*idset.Set, error)
	// SuppressionVersion changes before Suppressed gives anything else.
	SuppressionVersion() uint64
	// Message gives the body and what goes with it.
	Message(ctx context.Context, spec job.Spec) (*handoff.Message, error)
}
