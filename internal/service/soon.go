package service

import (
	"context"
	"errors"
	"time"

	"crier/job"
	"crier/state/events"
	"crier/state/ledger"
)

// defaultPatience is longer than servers take to elect one of them.
const defaultPatience = 10 * time.Second

var errSilent = errors.New("the next record does not come")

// soon is a stream that someone waits for the end of: a follower that gets no record and
// does not hear that there is none for as long as within gives up, where it would ask on
// for ever. What fn takes is not counted.
type soon struct {
	ledger.Log
	within time.Duration
}

// Follow implements ledger.Log.
func (l soon) Follow(ctx context.Context, from uint64, filter string, fn func(ledger.Stored) error, caughtUp func()) error {
	return within(ctx, l.within, "the ledger", func(ctx context.Context, comes func(func() error) error) error {
		return l.Log.Follow(ctx, from, filter, func(st ledger.Stored) error { return comes(func() error { return fn(st) }) }, heard(comes, caughtUp))
	})
}

// soonEvents is soon for the stream of events.
type soonEvents struct {
	Events
	within time.Duration
}

// Follow implements Events.
func (e soonEvents) Follow(ctx context.Context, q events.Query, fn func(events.Stored) error, caughtUp func()) error {
	return within(ctx, e.within, "the stream of events", func(ctx context.Context, comes func(func() error) error) error {
		return e.Events.Follow(ctx, q, func(st events.Stored) error { return comes(func() error { return fn(st) }) }, heard(comes, caughtUp))
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
