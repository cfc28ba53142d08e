// Package rows keeps the outbox: the events that the triggers of the SQL store wrote
// in the transactions of the projections, until they are published, and a while
// longer.
//
// It guarantees that a row is given until it is marked, whatever its id: a row with a
// lower id than others may be committed after them. A lease only keeps two relays
// from doing the same work; a row may be given to two of them.
package rows

import (
	"context"
	dbsql "database/sql"
	"errors"
	"time"

	"crier/job"
	"crier/state/outbox"
	"crier/state/sql/engine"
)

// MaxRows is the most rows that are taken or deleted at once.
const MaxRows = 1000

// Outbox is the outbox of an SQL store.
type Outbox struct {
	e   *engine.Engine
	now func() time.Time
}

var _ outbox.Rows = (*Outbox)(nil)

// New makes the outbox of a database; now is the clock of leases and marks.
func New(e *engine.Engine, now func() time.Time) *Outbox { return &Outbox{e, now} }

// The condition of a row that an owner may take at a time, and the order: what is about
// jobs does not wait for the sets that an import changed.
const free = ` FROM outbox WHERE published_at = 0 AND (leased_until <= ? OR leased_by = ?) ORDER BY behind, id LIMIT ?`

// What is read of a row. Names and owners of sets never change.
const columns = `id, job, slice, version, state, reason, at, set_kind, set_number, cardinality, changed,
	COALESCE(CASE set_kind WHEN 'segment' THEN (SELECT s.name FROM segments s WHERE s.number = set_number)
		WHEN 'followers' THEN (SELECT a.name FROM accounts a WHERE a.number = set_number)
		WHEN 'suppression' THEN (SELECT a.name FROM accounts a WHERE a.number = set_number) END, ''),
	COALESCE(CASE set_kind WHEN 'segment' THEN '` + job.DefaultTenant + `'
		WHEN 'followers' THEN (SELECT a.tenant FROM accounts a WHERE a.number = set_number)
		WHEN 'suppression' THEN (SELECT a.tenant FROM accounts a WHERE a.number = set_number) END, '')`

// Take implements outbox.Rows.
func (o *Outbox) Take(ctx context.Context, l outbox.Lease) ([]outbox.Row, error) {
	const doing = "taking rows of the outbox"
	at := o.now()
	limit := min(l.Limit, MaxRows)
	// Most often there is nothing, and to look needs no transaction.
	var one int
	err := o.e.Reader().QueryRowContext(ctx, `SELECT 1`+free, engine.Nanos(at), l.Owner, 1).Scan(&one)
	if errors.Is(err, dbsql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, o.e.Wrap(doing, err)
	}
	var taken []outbox.Row
	err = o.e.Tx(ctx, func(ctx context.Context, tx *dbsql.Tx) error {
		taken, err = engine.Collect(ctx, tx, scan, `SELECT `+columns+free+o.e.SkipLocked(),
			engine.Nanos(at), l.Owner, limit)
		if err != nil || len(taken) == 0 {
			return err
		}
		args := []any{engine.Nanos(at.Add(l.For)), l.Owner}
		for _, r := range taken {
			args = append(args, r.ID)
		}
		_, err = tx.ExecContext(ctx, `UPDATE outbox SET leased_until = ?, leased_by = ? WHERE id IN `+engine.Tuples(1, len(taken)), args...)
		return err
	})
	if err != nil {
		return nil, o.e.Wrap(doing, err)
	}
	return taken, nil
}

func scan(r engine.Scanner) (row outbox.Row, err error) {
	var id string
	var slice dbsql.NullInt64
	var at int64
	var set job.SetChange
	e := &row.Event
	if err := r.Scan(&row.ID, &id, &slice, &e.Version, &e.State, &e.Reason, &at, &set.Kind, &set.Number, &set.Recipients, &set.Changed, &set.Name, &set.Tenant); err != nil {
		return row, err
	}
	e.At = engine.FromNanos(at)
	if set.Kind != "" {
		e.Set = &set
		return row, nil
	}
	if slice.Valid {
		n := uint32(slice.Int64)
		e.Slice = &n
	}
	e.Job, err = job.ParseID(id)
	return row, err
}

// Mark implements outbox.Rows.
func (o *Outbox) Mark(ctx context.Context, ids []uint64) error {
	if len(ids) == 0 {
		return nil
	}
	args := []any{engine.Nanos(o.now())}
	for _, id := range ids {
		args = append(args, id)
	}
	return o.e.Wrap("marking rows of the outbox", o.e.Tx(ctx, func(ctx context.Context, tx *dbsql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE outbox SET published_at = ? WHERE published_at = 0 AND id IN `+engine.Tuples(1, len(ids)), args...)
		return err
	}))
}

// Sweep implements outbox.Rows. The rows are looked for first and deleted by their
// ids, because not every database deletes up to a limit.
func (o *Outbox) Sweep(ctx context.Context, age time.Duration, limit int) (int, error) {
	const doing = "deleting old rows of the outbox"
	old, err := engine.Collect(ctx, o.e.Reader(), func(r engine.Scanner) (id uint64, err error) { return id, r.Scan(&id) },
		`SELECT id FROM outbox WHERE published_at > 0 AND published_at < ? ORDER BY published_at LIMIT ?`, engine.Nanos(o.now().Add(-age)), min(limit, MaxRows))
	if err != nil || len(old) == 0 {
		return 0, o.e.Wrap(doing, err)
	}
	args := make([]any, len(old))
	for i, id := range old {
		args[i] = id
	}
	err = o.e.Tx(ctx, func(ctx context.Context, tx *dbsql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM outbox WHERE id IN `+engine.Tuples(1, len(old)), args...)
		return err
	})
	if err != nil {
		return 0, o.e.Wrap(doing, err)
	}
	return len(old), nil
}
