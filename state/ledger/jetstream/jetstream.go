// Package jetstream keeps the ledger in a JetStream stream of NATS.
//
// A record is on disk when Append returns its sequence, if the server syncs
// always, as natsbus does. The stream never discards: at its limit it refuses.
package jetstream

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"crier/internal/bus/natsstream"
	"crier/state/ledger"

	"github.com/nats-io/nats.go"
)

// MaxRecord is the most bytes of one record.
const MaxRecord = natsstream.MaxRecord

// Config describes the stream.
type Config struct {
	// Stream is its name, e.g. LEDGER. Required.
	Stream string
	// Subjects are the patterns of its records' subjects, e.g. led.>. Required.
	Subjects []string
	// MaxBytes bounds the stream; beyond it appends are refused. Required. A
	// larger one than before is taken over, a smaller one if the stream fits.
	MaxBytes int64
	// Keep takes MaxBytes for a stream that is made; one that is there keeps its own.
	Keep bool
	// Replicas is how many servers keep it, 1 or 3; with 3 it goes on, and keeps all
	// that it acknowledged, when one of them dies. Default 1.
	Replicas int
	// Unsynced acknowledges records before the disk has them. For controls that
	// are stored elsewhere as well, and for benchmarks; never for the ledger.
	Unsynced bool
	// Wait bounds the wait for an answer of the server when the caller's context
	// does not end sooner. Default 5 s.
	Wait time.Duration
	// Logger takes warnings of followers. Default slog.Default().
	Logger *slog.Logger
}

// Log is the stream; see ledger.Log for what its methods promise.
type Log struct{ s *natsstream.Stream }

var _ ledger.Log = (*Log)(nil)

// Open creates the stream, or takes the one there is after a look at its
// settings. The connection stays its caller's to close.
func Open(ctx context.Context, nc *nats.Conn, cfg Config) (*Log, error) {
	s, err := natsstream.Open(ctx, nc, natsstream.Config{
		Stream:   cfg.Stream,
		Subjects: cfg.Subjects,
		MaxBytes: cfg.MaxBytes,
		Keep:     cfg.Keep,
		Replicas: cfg.Replicas,
		Unsynced: cfg.Unsynced,
		Wait:     cfg.Wait,
		Logger:   cfg.Logger,
	})
	if err != nil {
		return nil, err
	}
	return &Log{s}, nil
}

// Append implements ledger.Log. The server keeps no copy of data.
func (l *Log) Append(ctx context.Context, subject string, last uint64, data []byte) (uint64, error) {
	seq, err := l.s.Append(ctx, natsstream.Put{Subject: subject, Last: last, Data: data})
	return seq, named(err)
}

// Last implements ledger.Log.
func (l *Log) Last(ctx context.Context, subject string) (ledger.Stored, error) {
	r, err := l.s.Last(ctx, subject)
	return ledger.Stored(r), named(err)
}

// Get implements ledger.Log.
func (l *Log) Get(ctx context.Context, seq uint64) (ledger.Stored, error) {
	r, err := l.s.Get(ctx, seq)
	return ledger.Stored(r), named(err)
}

// Follow implements ledger.Log. fn may keep the record's data. 2 MiB and one
// record are read ahead of fn, far from the end of the stream up to 32 MiB.
func (l *Log) Follow(ctx context.Context, from uint64, filter string, fn func(ledger.Stored) error, caughtUp func()) error {
	return l.s.Follow(ctx, from, filter, func(r natsstream.Record) error { return fn(ledger.Stored(r)) }, caughtUp)
}

// Subjects implements ledger.Log.
func (l *Log) Subjects(ctx context.Context, filter string) (map[string]uint64, error) {
	return l.s.Subjects(ctx, filter)
}

// Purge implements ledger.Log.
func (l *Log) Purge(ctx context.Context, subject string, before uint64) error {
	return l.s.Purge(ctx, subject, before)
}

// Usage implements ledger.Log.
func (l *Log) Usage(ctx context.Context) (ledger.Usage, error) {
	i, err := l.s.Info(ctx)
	return ledger.Usage(i), err
}

// Snapshot is a copy of the stream.
type Snapshot = natsstream.Snapshot

// Snapshot writes a copy of the stream as it is when begun is called, for natsbus's Restore.
func (l *Log) Snapshot(ctx context.Context, w io.Writer, begun func()) (Snapshot, error) {
	return l.s.Snapshot(ctx, w, begun)
}

// Time asks the server that leads the stream for its time.
func (l *Log) Time(ctx context.Context) (time.Time, error) { return l.s.Time(ctx) }

// named gives an error its name in the ledger, if it has one.
func named(err error) error {
	if err == nil {
		return nil
	}
	for _, n := range names {
		if errors.Is(err, n.stream) {
			return &namedError{n.ledger, err}
		}
	}
	return err
}

var names = []struct{ stream, ledger error }{
	{natsstream.ErrConflict, ledger.ErrConflict},
	{natsstream.ErrFull, ledger.ErrFull},
	{natsstream.ErrNoRecord, ledger.ErrNoRecord},
}

// namedError is an error that is also one of the ledger's; the text says it once.
type namedError struct{ name, err error }

// Error writes what happened.
func (e *namedError) Error() string { return "ledger: " + e.err.Error() }

// Unwrap gives both.
func (e *namedError) Unwrap() []error { return []error{e.name, e.err} }
