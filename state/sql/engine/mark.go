package engine

import (
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"
	"time"
)

// myNoTable is MySQL's number for a table that is not there.
const myNoTable = 1146

// ReadMark gives the mark of a MySQL database, "" if it has none, and changes nothing:
// what has another's mark, or none although it should have one, is to stay as it is.
func ReadMark(ctx context.Context, cfg Config) (mark string, err error) {
	if err := cfg.Validate(); err != nil {
		return "", err
	}
	e, err := openMySQL(ctx, cfg)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	err = e.Reader().QueryRowContext(ctx, `SELECT mark FROM cluster_mark`).Scan(&mark)
	if mysqlCode(err) == myNoTable || errors.Is(err, dbsql.ErrNoRows) {
		return "", nil
	}
	return mark, e.Wrap("reading the mark of the SQL store "+e.Name, err)
}

// SetMark marks a MySQL database, whose tables are there, unless it is marked, and gives the
// mark that it has then: another's, if that was faster. The table has one row at most; one that
// an older program made has its row.
func (e *Engine) SetMark(ctx context.Context, mark string) (have string, err error) {
	what := "marking the SQL store " + e.Name
	_, err = e.write.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS cluster_mark (mark CHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
		only TINYINT NOT NULL DEFAULT 1 UNIQUE)`)
	if err != nil {
		return "", e.Wrap(what, err)
	}
	err = e.Tx(ctx, func(ctx context.Context, tx *dbsql.Tx) error {
		err := tx.QueryRowContext(ctx, `SELECT mark FROM cluster_mark`).Scan(&have)
		if errors.Is(err, dbsql.ErrNoRows) {
			_, err = tx.ExecContext(ctx, `INSERT IGNORE INTO cluster_mark (mark) VALUES (?)`, mark)
		}
		return err
	})
	if err == nil {
		err = e.write.QueryRowContext(ctx, `SELECT mark FROM cluster_mark`).Scan(&have)
	}
	return have, e.Wrap(what, err)
}

// Time asks a MySQL server for its time.
func (e *Engine) Time(ctx context.Context) (time.Time, error) {
	var at time.Time
	if err := e.Reader().QueryRowContext(ctx, `SELECT UTC_TIMESTAMP(6)`).Scan(&at); err != nil {
		return at, fmt.Errorf("asking the SQL store %s for the time: %w", e.Name, err)
	}
	return at, nil
}
