package space

import (
	"context"
	"errors"
	"fmt"
	"time"

	"crier/internal/bus/natsbus"
	"crier/internal/pause"
	"crier/job"
)

// holdEvery is how often Hold looks whether it is over.
const holdEvery = 2 * time.Second

// Why is what requests are answered while whoever waits for what ended its parts; nil if
// nothing is waited for.
func (s *Space) Why(err error) error {
	switch {
	case s.RanOut(err):
		return s.full()
	case errors.Is(err, natsbus.ErrUnsynced):
		return job.Unavailable(fmt.Sprintf("%v; nothing is accepted or sent until then, and it goes on by itself", err))
	}
	return nil
}

// Hold answers requests with why, and returns when mended gives no error, or with nil when
// ctx ends.
func (s *Space) Hold(ctx context.Context, why error, mended func(context.Context) error) error {
	s.cfg.Log.Error("nothing is accepted or sent for now", "data", s.cfg.Data, "why", why)
	if err := s.Refuse(why); err != nil {
		return err
	}
	defer s.relent()
	for pause.For(ctx, holdEvery) {
		if err := mended(ctx); err == nil {
			s.cfg.Log.Info("it is mended; starting again", "was", why)
			return nil
		}
	}
	return nil
}
