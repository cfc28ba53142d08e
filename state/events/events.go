// Package events is the stream of what happens to jobs, slices and sets of recipients,
// for those who listen: the relay publishes, the API follows.
//
// It guarantees that an event that was acknowledged is on the disk; that one that is
// published again within the window is stored once; and that a follower gets what is
// stored from its place on, in the order of the stream, each once. The stream drops
// its oldest events when it is full: they are notices, which the ledger and SQL know
// better, and a stream that refused would stop the relay and fill the outbox for the
// sake of a consumer who does not come.
package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"

	"crier/internal/bus/natsstream"
	"crier/job"
)

// Name is the stream's.
const Name = "EVENTS"

// Window is how long an event that is published again is known: the server keeps each
// id in memory so long. A relay repeats within seconds what another one left; what is
// left while all are down may come twice, and consumers drop it by job and version.
const Window = 2 * time.Minute

// Stored is an event in its place.
type Stored struct {
	Cursor uint64 // grows; what follows comes behind it
	job.Event
}

// Query says which events to follow.
type Query struct {
	After uint64    // cursor; 0: from the first that is stored
	Since time.Time // if not zero, published then or later; in the place of After
	Job   *job.ID   // of this one only; nil: of all
	Kind  string    // of this kind only; "": of all
}

func (q Query) wants(e job.Event) bool {
	return (q.Job == nil || *q.Job == e.Job) && (q.Kind == "" || q.Kind == e.Kind())
}

// beyond refuses a cursor that this stream never gave.
func beyond(cursor uint64) error {
	return job.Invalid("since", fmt.Sprintf("there is no event %d yet: the cursor is from another stream; begin without one", cursor), nil)
}

// Config describes the stream.
type Config struct {
	// MaxBytes is what it may have; beyond it the oldest events are dropped. Required.
	MaxBytes int64
	// Replicas is how many servers keep it, 1 or 3. Default 1.
	Replicas int
	// Wait bounds the wait for each answer of the server. Default 5 s.
	Wait time.Duration
	// Logger takes warnings. Default slog.Default().
	Logger *slog.Logger
}

// Stream is the stream of events on NATS.
type Stream struct {
	s   *natsstream.Stream
	log *slog.Logger
}

// Open creates the stream, or takes the one there is. The connection stays its
// caller's to close.
func Open(ctx context.Context, nc *nats.Conn, cfg Config) (*Stream, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	s, err := natsstream.Open(ctx, nc, natsstream.Config{Stream: Name, Subjects: []string{job.AllEvents}, MaxBytes: cfg.MaxBytes, Replicas: cfg.Replicas,
		DiscardOld: true, Duplicates: Window, Wait: cfg.Wait, Logger: cfg.Logger})
	if err != nil {
		return nil, err
	}
	return &Stream{s, cfg.Logger}, nil
}

// Publish stores an event. It is idempotent within Window, and of an alert or a control as
// long as the stream has it; after an error it is unknown whether the event was stored.
func (s *Stream) Publish(ctx context.Context, e job.Event) error {
	if err := e.Validate(); err != nil {
		return err
	}
	data, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encoding the event %s: %w", e.ID(), err)
	}
	if e.Once() { // its subject is of this one only
		_, err = s.s.Append(ctx, natsstream.Put{Subject: e.Subject(), Data: data})
		if err != nil && !errors.Is(err, natsstream.ErrConflict) {
			return fmt.Errorf("publishing the event %s: %w", e.ID(), err)
		}
		return nil
	}
	if _, _, err := s.s.Publish(ctx, e.Subject(), e.ID(), data); err != nil {
		return fmt.Errorf("publishing the event %s: %w", e.ID(), err)
	}
	return nil
}

// Follow calls fn for each event that a query asks for, in the order of the stream,
// until ctx ends or fn returns an error, which it returns. caughtUp, if not nil, is
// called when all that was stored when the follower looked has been seen, and then
// again and again. A cursor beyond the stream's end is job.CodeInvalid.
func (s *Stream) Follow(ctx context.Context, q Query, fn func(Stored) error, caughtUp func()) error {
	from := q.After + 1
	if !q.Since.IsZero() {
		var err error
		if from, err = s.s.Since(ctx, job.AllEvents, q.Since); err != nil {
			return err
		}
	} else if q.After > 0 {
		info, err := s.s.Info(ctx)
		if err != nil {
			return err
		}
		if q.After > info.Last {
			return beyond(q.After)
		}
	}
	err := s.s.Follow(ctx, from, job.AllEvents, func(r natsstream.Record) error {
		var e job.Event
		err := json.Unmarshal(r.Data, &e)
		if err = errors.Join(err, e.Validate()); err != nil {
			s.log.Warn("a record among the events is none; it is passed over", "sequence", r.Seq, "subject", r.Subject, "error", err)
			return nil
		}
		if !q.wants(e) {
			return nil
		}
		return fn(Stored{r.Seq, e})
	}, caughtUp)
	if errors.Is(err, natsstream.ErrShrunk) {
		return &job.Error{Code: job.CodeUnavailable, Message: "the stream of events was made anew; begin again without a cursor", Err: err}
	}
	return err
}
