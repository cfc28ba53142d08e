package service

import (
	"context"
	"errors"
	"time"

	"crier/api"
	"crier/internal/service/patience"
	"crier/job"
	"crier/state/events"
)

// TailEvents implements api.Events.
func (s *Service) TailEvents(ctx context.Context, req api.TailEvents, fn func(api.Event) error) error {
	if s.cfg.Events == nil {
		return &job.Error{Code: job.CodeUnavailable, Message: "this server has no stream of events"}
	}
	if err := req.Validate(); err != nil {
		return err
	}
	c, err := api.CallerOf(ctx)
	if err != nil {
		return err
	}
	q := events.Query{After: req.After, Kind: req.Kind}
	if req.Within != 0 {
		q.Since = now().Add(-time.Duration(req.Within))
	}
	if !req.Job.IsZero() {
		if _, err := s.job(ctx, req.Job); err != nil {
			return err
		}
		q.Job = &req.Job
	}
	ended := errors.New("all is read")
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stream, caughtUp := patience.Stream(patience.Events{Stream: s.cfg.Events, Within: s.cfg.Patience}), func() { cancel(ended) }
	if req.Follow {
		stream, caughtUp = s.cfg.Events, nil // whoever follows waits
	}
	sees := s.visible()
	err = stream.Follow(ctx, q, func(e events.Stored) error {
		if ok, err := sees(ctx, c, e.Event); !ok {
			return err
		}
		return fn(api.NewEvent(e.Cursor, e.Event))
	}, caughtUp)
	if errors.Is(context.Cause(ctx), ended) {
		return nil
	}
	return err
}

// remembered is for how many jobs a stream of events remembers whether they are seen.
const remembered = 10_000

// visible makes a function that tells whether a caller sees what an event is about.
func (s *Service) visible() func(context.Context, api.Caller, job.Event) (bool, error) {
	known := map[job.ID]bool{}
	return func(ctx context.Context, c api.Caller, e job.Event) (bool, error) {
		switch {
		case c.IsOperator():
			return true, nil
		case e.Set != nil:
			return c.Sees(e.Set.Tenant), nil
		}
		id := e.Job
		sees, ok := known[id]
		if ok {
			return sees, nil
		}
		spec, err := s.cfg.Jobs.Spec(ctx, id)
		if err != nil && !isCode(err, job.CodeNotFound) {
			return false, err
		}
		if len(known) == remembered {
			clear(known)
		}
		known[id] = err == nil && c.Sees(spec.TenantOf())
		return known[id], nil
	}
}
