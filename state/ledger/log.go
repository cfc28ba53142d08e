// Package ledger is the durable, ordered record of what was accepted, claimed,
// reserved and done: the only truth about who got what.
//
// It holds the forms of the records and the seam (Log) to the stream that keeps
// them. jetstream is the adapter for NATS; Memory is its twin for tests; the
// suite in ledgertest holds both to the same behaviour.
package ledger

import (
	"context"
	"errors"
	"time"
)

// Errors of a Log. Any error of Append other than these leaves it unknown
// whether the record was stored: read the subject's last record (rule 2).
var (
	// ErrConflict: the subject's last sequence is not the expected one. The
	// record may still have been stored by an earlier try of the same append.
	ErrConflict = errors.New("ledger: the subject has another last record")
	// ErrFull: the stream is at its limit; nothing was stored.
	ErrFull = errors.New("ledger: the stream is full")
	// ErrNoRecord: there is no such record.
	ErrNoRecord = errors.New("ledger: no such record")
)

// Stored is one stored record.
type Stored struct {
	Seq     uint64 // its place in the stream, from 1; not every number is a record's
	Subject string
	Time    time.Time // when the stream stored it
	Data    []byte
}

// Usage is the size of a stream against its limit, and who keeps it.
type Usage struct {
	First, Last uint64 // sequences; Last is 0 if nothing was ever stored
	Bytes       uint64
	Limit       uint64
	Replicas    int      // servers that are to keep each record; 0: nobody tells
	Missing     []string // why those that do not keep them now do not, each with its name
}

// fullAt is the share of the limit from which nothing new may be begun; the rest is
// kept for done, seal and fold, and for the next process to take over (rule 3).
const fullAt = 0.85

// Full reports whether the stream has no room for anything new.
func (u Usage) Full() bool { return u.Limit > 0 && float64(u.Bytes) > fullAt*float64(u.Limit) }

// Log is one stream of records. All methods are safe for concurrent use.
type Log interface {
	// Append stores data as the next record of subject if the sequence of the
	// subject's last record is last (0: it has none), and returns its sequence
	// once it is durable. It is not idempotent; see the errors above.
	Append(ctx context.Context, subject string, last uint64, data []byte) (uint64, error)
	// Last gives the last record of a subject (no wildcards), or ErrNoRecord.
	Last(ctx context.Context, subject string) (Stored, error)
	// Get gives the record with a sequence, or ErrNoRecord if it never was or is purged.
	Get(ctx context.Context, seq uint64) (Stored, error)
	// Follow calls fn for each record whose subject matches filter (NATS wildcards),
	// in order, each once, from sequence from on, and waits for more until ctx
	// ends or fn returns an error, which it returns. caughtUp, if not nil, is called
	// each time that the follower has seen all that was stored when it looked, at
	// least once and then at least every second while the stream answers.
	Follow(ctx context.Context, from uint64, filter string, fn func(Stored) error, caughtUp func()) error
	// Subjects lists the subjects that match filter with the number of their records.
	Subjects(ctx context.Context, filter string) (map[string]uint64, error)
	// Purge removes a subject's records below sequence before, but never its last
	// record (rule 6). Of several replicas, one that is behind may give them for a
	// while longer.
	Purge(ctx context.Context, subject string, before uint64) error
	// Usage tells the stream's size, and who keeps it.
	Usage(ctx context.Context) (Usage, error)
}

// ReadAll calls fn for each record that matches filter, from sequence from to
// the end of the stream as it is when it gets there, and returns.
func ReadAll(ctx context.Context, l Log, from uint64, filter string, fn func(Stored) error) error {
	done := errors.New("caught up")
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	err := l.Follow(ctx, from, filter, fn, func() { cancel(done) })
	if errors.Is(context.Cause(ctx), done) {
		return nil
	}
	return err
}
