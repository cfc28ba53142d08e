package worker

import (
	"context"
	"iter"

	"crier/filters"
	"crier/internal/idset"
	"crier/job"
	"crier/presence/handoff"
	"crier/worker/arrivals"
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

// Package is a job's recipients.
type Package interface {
	filters.Set
	// Ranges yields the ranges that have ids, ascending, and how many.
	Ranges() iter.Seq2[job.Range, int]
}

// Content gives what a job sends and to whom. All of it is immutable, so that
// implementations may cache.
type Content interface {
	// Package opens the job's recipient package.
	Package(ctx context.Context, spec job.Spec) (Package, error)
	// Lists gives what the filters of the job read.
	Lists(ctx context.Context, spec job.Spec) (filters.Lists, error)
	// Message gives the body and what goes with it.
	Message(ctx context.Context, spec job.Spec) (*handoff.Message, error)
}
