// Package erased is the table of recipients who asked to be forgotten, as the ledger tells
// it: for each, the sequence of the last record that says so. What was before that record
// does not count for them any more: tokens that were made, and jobs that were accepted.
//
// It follows the ledger, so that every process has the same table without asking anybody,
// some moments later. It guarantees that an erasure which was answered without an error is
// in the ledger and in this process's table, and that the record of a recipient only grows.
package erased

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"crier/internal/idset"
	"crier/job"
	"crier/state/ledger"
)

// Table is the table: some 50 bytes for each recipient that was ever erased. It is safe for
// concurrent use.
type Table struct {
	log ledger.Log
	// OnErased, if set before Run, is told of each erasure after the table has it, of some
	// twice; it must not block for long.
	OnErased func(job.Recipient)
	ready    chan struct{}
	mu       struct {
		sync.RWMutex
		ranges map[job.Range]marks
	}
}

// marks are the sequences of the last erasures in one range.
type marks map[job.Recipient]uint64

// New makes an empty table; Run fills it.
func New(log ledger.Log) *Table {
	t := &Table{log: log, ready: make(chan struct{})}
	t.mu.ranges = map[job.Range]marks{}
	return t
}

// Ready is closed when the table has all that stood in the ledger when Run began.
func (t *Table) Ready() <-chan struct{} { return t.ready }

// Run follows the ledger until ctx ends.
func (t *Table) Run(ctx context.Context) error {
	var once sync.Once
	err := t.log.Follow(ctx, 1, ledger.AllErasures, t.take, func() { once.Do(func() { close(t.ready) }) })
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("following the erasures: %w", err)
}

// take takes in a record that was followed, or one that was just made.
func (t *Table) take(st ledger.Stored) error {
	e, err := ledger.ParseErasure(st)
	if err != nil {
		return err
	}
	t.mu.Lock()
	of := t.mu.ranges[e.Recipient.Range()]
	if of == nil {
		of = marks{}
		t.mu.ranges[e.Recipient.Range()] = of
	}
	of[e.Recipient] = max(of[e.Recipient], st.Seq)
	t.mu.Unlock()
	if t.OnErased != nil {
		t.OnErased(e.Recipient)
	}
	return nil
}

// Last is the sequence of a recipient's last erasure, 0 if there is none.
func (t *Table) Last(who job.Recipient) uint64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.mu.ranges[who.Range()][who]
}

// Any reports whether anybody of a range was ever erased.
func (t *Table) Any(r job.Range) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.mu.ranges[r]) > 0
}

// After gives who of a range was erased behind a record of the ledger, as the caller's set.
func (t *Table) After(seq uint64, r job.Range) *idset.Set {
	t.mu.RLock()
	defer t.mu.RUnlock()
	out := idset.New(r)
	for who, at := range t.mu.ranges[r] {
		if at > seq {
			out.Add(uint32(who))
		}
	}
	return out
}

// Erase records that a recipient asked to be forgotten, by means of a key, and gives the
// record's sequence. It may be repeated: the last time counts. An error other than that the
// ledger is full leaves it unknown whether it is recorded.
func (t *Table) Erase(ctx context.Context, who job.Recipient, key string, at time.Time) (seq uint64, err error) {
	subject := ledger.ErasureSubject(who)
	before, err := t.lastOf(ctx, subject)
	if err != nil {
		return 0, err
	}
	st := ledger.Stored{Subject: subject, Data: ledger.Erasure{Recipient: who, At: at.UTC(), Key: key}.Bytes()}
	st.Seq, err = t.log.Append(ctx, subject, before, st.Data)
	switch {
	case errors.Is(err, ledger.ErrFull):
		return 0, &job.Error{Code: job.CodeFull, Message: "the ledger is full; nobody was erased", Err: err}
	case err != nil:
		// A conflict, or an answer that got lost. A record behind the one before says what
		// was asked for, whoever made it meanwhile (rule 2).
		now, failed := t.lastOf(ctx, subject)
		if failed != nil || now == before {
			return 0, &job.Error{Code: job.CodeUnavailable, Err: errors.Join(err, failed),
				Message: "the ledger did not say whether the erasure was stored; erase again"}
		}
		st.Seq = now
	}
	return st.Seq, t.take(st)
}

// lastOf is the sequence of the last record of a subject, 0 if there is none.
func (t *Table) lastOf(ctx context.Context, subject string) (uint64, error) {
	st, err := t.log.Last(ctx, subject)
	if errors.Is(err, ledger.ErrNoRecord) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("reading the last erasure: %w", err)
	}
	return st.Seq, nil
}

// Nobody knows of nobody who asked, as where nobody can.
type Nobody struct{}

// Ready is closed.
func (Nobody) Ready() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// Any is false.
func (Nobody) Any(job.Range) bool { return false }

// After gives nobody.
func (Nobody) After(_ uint64, r job.Range) *idset.Set { return idset.New(r) }
