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

// Content gives what a job sends and to whom. All of it is immutable, so that
// implementations may cache.
type Content interface {
	block.Content
	// Message gives the body and what goes with it.
	Message(ctx context.Context, spec job.Spec) (*handoff.Message, error)
}
