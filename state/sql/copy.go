package sql

import (
	"context"
	dbsql "database/sql"
	"errors"
)

// CopyTo writes the database, which is an SQLite file, as it is now, to a new file;
// writers go on meanwhile. The file is whole, and not yet durable, when it returns.
func (db *DB) CopyTo(ctx context.Context, path string) error {
	return db.c.wrap("copying the SQL store", db.c.CopyTo(ctx, path))
}

// Rewound opens the copy of a database and forgets what of it was projected from where
// no copy is of: the statuses of slices, and counts that may be ahead of the ledger that
// goes with it. Projecting begins anew with these.
func Rewound(ctx context.Context, path string) (err error) {
	db, err := Open(ctx, Config{Path: path})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return db.c.tx(ctx, "rewinding the SQL store", func(ctx context.Context, tx *dbsql.Tx) error {
		for _, q := range []string{`DELETE FROM slices`, `UPDATE jobs SET counts = '{}', counts_as_of = 0`, `UPDATE outbox SET leased_until = 0, leased_by = ''`, `UPDATE webhook_deliveries SET leased_until = 0, leased_by = ''`} {
			if _, err := tx.ExecContext(ctx, q); err != nil {
				return err
			}
		}
		return nil
	})
}
