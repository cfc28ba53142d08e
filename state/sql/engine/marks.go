package engine

import (
	"context"
	dbsql "database/sql"
	"errors"
)

// RaiseMark sets a named number that is lower, or not there yet. Marks never go back.
func (e *Engine) RaiseMark(ctx context.Context, tx *dbsql.Tx, name string, value uint64) error {
	return e.Advance(func() (dbsql.Result, error) {
		return tx.ExecContext(ctx, `UPDATE marks SET value = ? WHERE name = ? AND value < ?`, value, name, value)
	}, func() (dbsql.Result, error) {
		return tx.ExecContext(ctx, e.insertIgnore+` INTO marks (name, value) VALUES (?, ?)`, name, value)
	})
}

// Advance moves a row forwards if it is behind, makes it if it is not there, and
// leaves it if it is as far: what another transaction makes of it meanwhile counts.
func (e *Engine) Advance(update, insert func() (dbsql.Result, error)) error {
	for _, do := range []func() (dbsql.Result, error){update, insert, update} {
		res, err := do()
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n > 0 {
			return err
		}
	}
	return nil
}

// Mark gives a mark, 0 if it was never set. lock ends the query.
func Mark(ctx context.Context, q Querier, name, lock string) (uint64, error) {
	var v uint64
	err := q.QueryRowContext(ctx, `SELECT value FROM marks WHERE name = ?`+lock, name).Scan(&v)
	if errors.Is(err, dbsql.ErrNoRows) {
		return 0, nil
	}
	return v, err
}
