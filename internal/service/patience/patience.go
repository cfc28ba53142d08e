// Package patience bounds how long one waits for a stream that does not answer.
//
// It guarantees that whoever reads to the end of a stream hears within a bound that nothing
// comes, where a follower would ask on for ever.
package patience

import (
	"context"
	"errors"
	"time"

	"crier/job"
	"crier/state/events"
	"crier/state/ledger"
)

// Default is longer than servers take to elect one of them.
const Default = 10 * time.Second

var errSilent = errors.New("the next record does not come")

// Log is a log that someone waits for the end of: a follower that gets no record and does
// not hear that there is none for as long as Within gives up. What fn takes is not counted.
type Log struct {
	ledger.Log
	Within time.Duration
}

// Follow implements ledger.Log.
func (l Log) Follow(ctx context.Context, from uint64, filter string, fn func(ledger.Stored) error, caughtUp func()) error {
	return within(ctx, l.Within, "the ledger", func(ctx context.Context, comes func(func() error) error) error {
		return l.Log.Follow(ctx, from, filter, func(st ledger.Stored) error { return comes(func() error { return fn(st) }) }, heard(comes, caughtUp))
	})
}

// Stream is the stream of events.
type Stream interface {
	// Follow calls fn for each event that a query asks for, in order, until ctx ends
	// or fn returns an error, which it returns. caughtUp, if not nil, is called when
	// all that was stored when it looked has been seen.
	Follow(ctx context.Context, q events.Query, fn func(events.Stored) error, caughtUp func()) error
}

// Events is the same of the stream of events.
type Events struct {
	Stream
	Within time.Duration
}

// Follow implements Stream.
func (e Events) Follow(ctx context.Context, q events.Query, fn func(events.Stored) error, caughtUp func()) error {
	return within(ctx, e.Within, "the stream of events", func(ctx context.Context, comes func(func() error) error) error {
		return e.Stream.Follow(ctx, q, func(st events.Stored) error { return comes(func() error { return fn(st) }) }, heard(comes, caughtUp))
	})
}

// heard is caughtUp, which is a sign of life, too.
func heard(comes func(func() error) error, caughtUp func()) func() {
	return func() {
		_ = comes(func() error { // gives nil
			if caughtUp != nil {
				caughtUp()
			}
			return nil
		})
	}
}

// within runs something that reads, and does by way of comes whatever is to be done when
// something has come.
func within(ctx context.Context, patience time.Duration, what string, read func(ctx context.Context, comes func(func() error) error) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(patience, func() { cancel(errSilent) })
	defer timer.Stop()
	err := read(ctx, func(fn func() error) error {
		timer.Stop()
		defer timer.Reset(patience)
		return fn()
	})
	if err != nil && errors.Is(context.Cause(ctx), errSilent) {
		return &job.Error{Code: job.CodeUnavailable, Message: what + " does not answer: nothing came for " + patience.String() +
			"; see whether the NATS servers run (crier status), and try again", Err: errSilent}
	}
	return err
}
