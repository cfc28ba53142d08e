// Package sql keeps in a relational database what must be looked up by more than
// its key: accounts, versioned sets, packages, and the projection of jobs.
//
// It guarantees that each method is one transaction, durable when it returns,
// and all or nothing whatever is killed meanwhile; and that the projection of a
// job never moves backwards. The ledger stays the truth about jobs: everything
// projected here can be projected again.
//
// DB is the store on SQLite; Memory is its twin for tests. The suite in sqltest
// holds both to the same behaviour.
package sql

import (
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/pressly/goose/v3"

	"crier/audience/members"
	"crier/job"
)

// readers is the number of connections that read.
const readers = 4

// maxPage is the most rows that a list gives at once.
const maxPage = 1000

// Config says where the database is.
type Config struct {
	// Path is the SQLite file; it is made if it does not exist, its directory is not.
	Path string
	// Now is the clock of created_at; default time.Now.
	Now func() time.Time
}

// Validate names the field that is missing and fills in the default.
func (c *Config) Validate() error {
	if c.Path == "" {
		return job.Invalid("path", "the SQL store needs a file", nil)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return nil
}

// DB is the store. All of its parts are safe for concurrent use.
type DB struct {
	Accounts *Accounts
	Sets     *Sets
	Packages *Packages
	Jobs     *Jobs
	c        *conn
}

// Open opens the database and brings its tables to this version's form.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	write, read, err := openSQLite(cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("opening the SQL store %s: %w", cfg.Path, err)
	}
	c := &conn{write: write, read: read, dialect: sqliteDialect, now: cfg.Now}
	if err := c.migrate(ctx); err != nil {
		return nil, errors.Join(c.wrap("opening the SQL store "+cfg.Path, err), c.close())
	}
	load, err := read.PrepareContext(ctx, loadQuery)
	if err != nil {
		return nil, errors.Join(c.wrap("opening the SQL store "+cfg.Path, err), c.close())
	}
	return &DB{&Accounts{c}, &Sets{c, load}, &Packages{c}, &Jobs{c}, c}, nil
}

// Close ends all connections; what is under way gets an error.
func (db *DB) Close() error { return errors.Join(db.Sets.load.Close(), db.c.close()) }

// conn is what the parts of a DB share.
type conn struct {
	write, read *dbsql.DB
	dialect     dialect
	now         func() time.Time
}

func (c *conn) close() error { return errors.Join(c.read.Close(), c.write.Close()) }

// migrate applies what migrations the database lacks.
func (c *conn) migrate(ctx context.Context) error {
	dir, err := fs.Sub(migrations, c.dialect.folder)
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(c.dialect.goose, c.write, dir)
	if err != nil {
		return err
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrating: %w", err)
	}
	return nil
}

// wrap says what was being done. Errors that callers tell apart pass unchanged.
func (c *conn) wrap(doing string, err error) error {
	var gap *GapError
	switch {
	case err == nil, job.CodeOf(err) != "", errors.Is(err, members.ErrStale),
		errors.Is(err, members.ErrNoSnapshot), errors.As(err, &gap):
		return err
	case c.dialect.full(err):
		return &job.Error{Code: job.CodeFull, Err: err,
			Message: doing + ": the disk is full; free some space and try again"}
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// tx runs fn in one writing transaction: all of it is durable, or none of it is.
func (c *conn) tx(ctx context.Context, doing string, fn func(*dbsql.Tx) error) error {
	tx, err := c.write.BeginTx(ctx, nil)
	if err != nil {
		return c.wrap(doing, err)
	}
	if err := fn(tx); err != nil {
		if e := tx.Rollback(); e != nil && !errors.Is(e, dbsql.ErrTxDone) {
			err = errors.Join(err, fmt.Errorf("rolling back: %w", e))
		}
		return c.wrap(doing, err)
	}
	return c.wrap(doing, tx.Commit())
}

// querier is a transaction or a pool.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*dbsql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *dbsql.Row
}

// collect runs a query and makes a value of each row.
func collect[T any](ctx context.Context, q querier, scan func(scanner) (T, error), query string, args ...any) ([]T, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, rows.Err()
}

// scanner is one row.
type scanner interface{ Scan(dest ...any) error }

// tuples writes n times "(?, ?)" with as many marks as there are columns.
func tuples(n, columns int) string {
	one := "(" + strings.TrimSuffix(strings.Repeat("?, ", columns), ", ") + "), "
	return strings.TrimSuffix(strings.Repeat(one, n), ", ")
}

// page is the number of rows to give when limit are asked for; 0 means 100.
func page(limit int) int {
	if limit <= 0 {
		limit = 100
	}
	return min(limit, maxPage)
}

// cutPage makes a page of what was found when one more than limit was looked for:
// the page, and the cursor of its last item if something follows it, or "".
func cutPage[T any](found []T, limit int, cursorOf func(T) string) ([]T, string) {
	if len(found) <= limit {
		return found, ""
	}
	return found[:limit], cursorOf(found[limit-1])
}

// raiseMark sets a mark that is lower, or not there yet.
func raiseMark(ctx context.Context, tx *dbsql.Tx, name string, value uint64) error {
	old, err := readMark(ctx, tx, name)
	if err != nil || old >= value {
		return err
	}
	if old > 0 {
		_, err = tx.ExecContext(ctx, `UPDATE marks SET value = ? WHERE name = ?`, value, name)
	} else {
		_, err = tx.ExecContext(ctx, `INSERT INTO marks (name, value) VALUES (?, ?)`, name, value)
	}
	return err
}

// readMark gives a mark, 0 if it was never set.
func readMark(ctx context.Context, q querier, name string) (uint64, error) {
	var v uint64
	err := q.QueryRowContext(ctx, `SELECT value FROM marks WHERE name = ?`, name).Scan(&v)
	if errors.Is(err, dbsql.ErrNoRows) {
		return 0, nil
	}
	return v, err
}

// nanos is a time as it is stored; the zero time is 0.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// fromNanos reads what nanos wrote.
func fromNanos(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

// digest scans 32 bytes.
type digest struct{ d *job.Digest }

// Scan implements database/sql.Scanner.
func (s digest) Scan(v any) error {
	b, ok := v.([]byte)
	if !ok || len(b) != len(s.d) {
		return fmt.Errorf("a digest of 32 bytes is expected, not %T of %d", v, len(b))
	}
	*s.d = job.Digest(b)
	return nil
}
