package service

import (
	"context"
	"errors"
	"time"

	"crier/api"
	"crier/job"
	"crier/state/events"
)

// Events is the stream of events.
type Events interface {
	// Follow calls fn for each event that a query asks for, in order, until ctx ends
	// or fn returns an error, which it returns. caughtUp, if not nil, is called when
	// all that was stored when it looked has been seen.
	Follow(ctx context.Context, q events.Query, fn func(events.Stored) error, caughtUp func()) error
}

// TailEvents implements api.Events.
func (s *Service) TailEvents(ctx context.Context, req api.TailEvents, fn func(api.Event) error) error {
	if s.cfg.Events == nil {
		return &job.Error{Code: job.CodeUnavailable, Message: "this server has no stream of events"}
	}
	if err := req.Validate(); err != nil {
		return err
	}
	q := events.Query{After: req.After}
	if req.Within != 0 {
		q.Since = now().Add(-time.Duration(req.Within))
	}
	if !req.Job.IsZero() {
		if _, err := s.cfg.Jobs.Get(ctx, req.Job); err != nil {
			return err
		}
		q.Job = &req.Job
	}
	ended := errors.New("all is read")
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stream, caughtUp := Events(soonEvents{s.cfg.Events, s.cfg.Patience}), func() { cancel(ended) }
	if req.Follow {
		stream, caughtUp = s.cfg.Events, nil // whoever follows waits
	}
	err := stream.Follow(ctx, q, func(e events.Stored) error { return fn(api.NewEvent(e.Cursor, e.Event)) }, caughtUp)
	if errors.Is(context.Cause(ctx), ended) {
		return nil
	}
	return err
}
