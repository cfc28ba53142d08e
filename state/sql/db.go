// Package sql keeps in a relational database what must be looked up by more than
// its key: accounts, versioned sets, segments, packages, the projection of jobs and slices,
// and the outbox of events.
//
// It guarantees that each method is one transaction, durable when it returns,
// and all or nothing whatever is killed meanwhile; and that the projection of a
// job or a slice never moves backwards. The ledger stays the truth about jobs:
// everything projected here can be projected again.
//
// DB is the store on SQLite or MySQL; Memory is its twin for tests. The suite in
// sqltest holds all of them to the same behaviour. On MySQL a call returns within
// two times Config.Wait, and what it changes may, after an error, be done or not:
// job.CodeUnavailable says so, and everything but Append is safe to repeat.
package sql

import (
	"context"
	dbsql "database/sql"
	"embed"
	"errors"
	"io/fs"
	"time"

	"crier/state/sql/access"
	"crier/state/sql/engine"
	"crier/state/sql/groups"
	"crier/state/sql/hooks"
	"crier/state/sql/rows"
	"crier/state/sql/sets"
)

//go:embed migrations
var migrations embed.FS

// maxPage is the most rows that a list gives at once.
const maxPage = 1000

// Config says where the database is.
type Config struct {
	// Path is the SQLite file; it is made if it does not exist, its directory is not.
	Path string
	// DSN is a MySQL or MariaDB database, user:password@tcp(host:3306)/name; the store
	// sets timeouts, character set and SQL mode itself. Exactly one of Path and DSN is
	// given. The server must be MySQL 8.0 or MariaDB 10.6 at least; one with a binary
	// log needs log_bin_trust_function_creators=1, for there are triggers.
	DSN string
	// Wait bounds the wait for one answer of MySQL. Default engine.DefaultWait.
	Wait time.Duration
	// Now is the clock of created_at; default time.Now.
	Now func() time.Time
}

// DB is the store. All of its parts are safe for concurrent use.
type DB struct {
	Accounts *Accounts
	Sets     *sets.Sets
	Packages *Packages
	Jobs     *Jobs
	Outbox   *rows.Outbox
	Access   *access.Store
	Segments *groups.Segments
	Salts    *groups.Salts
	Hooks    *hooks.Store
	c        *conn
}

// Open opens the database and brings its tables to this version's form. What cannot
// be opened for a fault in the DSN is job.CodeInvalid, a server that is not there is
// job.CodeUnavailable; both name sql.dsn and say nothing of a password.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	e, err := engine.Open(ctx, engine.Config{Path: cfg.Path, DSN: cfg.DSN, Wait: cfg.Wait, Migrations: dir})
	if err != nil {
		return nil, err
	}
	c := &conn{Engine: e, read: e.Reader(), now: cfg.Now, salts: groups.NewSalts(e)}
	versioned, err := sets.New(ctx, e, cfg.Now, c.createMissing)
	if err != nil {
		return nil, errors.Join(c.wrap("opening the SQL store "+e.Name, err), e.Close())
	}
	return &DB{&Accounts{c: c}, versioned, &Packages{c: c}, &Jobs{c: c}, rows.New(e, cfg.Now), access.New(e, cfg.Now), groups.NewSegments(e, cfg.Now), c.salts, hooks.New(e, cfg.Now), c}, nil
}

// ReadMark gives the mark of the MySQL database of a DSN; see engine.ReadMark.
func ReadMark(ctx context.Context, dsn string) (string, error) {
	return engine.ReadMark(ctx, engine.Config{DSN: dsn})
}

// SetMark marks the database, which is MySQL's, unless it is marked, and gives its mark; see
// engine.Engine.
func (db *DB) SetMark(ctx context.Context, mark string) (string, error) {
	return db.c.SetMark(ctx, mark)
}

// Time asks the server, which is MySQL, for its time.
func (db *DB) Time(ctx context.Context) (time.Time, error) { return db.c.Time(ctx) }

// Close ends all connections; what is under way gets an error.
func (db *DB) Close() error { return errors.Join(db.Sets.Close(), db.c.Close()) }

// conn is what the parts of a DB share.
type conn struct {
	*engine.Engine
	read  engine.Querier
	now   func() time.Time
	salts *groups.Salts
}

// wrap says what was being done. A gap passes unchanged.
func (c *conn) wrap(doing string, err error) error {
	var gap *GapError
	if errors.As(err, &gap) {
		return err
	}
	return c.Wrap(doing, err)
}

// tx runs fn, which must be idempotent, in one writing transaction.
func (c *conn) tx(ctx context.Context, doing string, fn func(context.Context, *dbsql.Tx) error) error {
	return c.wrap(doing, c.Tx(ctx, fn))
}

// The words of the statements' makers.
type (
	querier = engine.Querier
	scanner = engine.Scanner
)

// collect runs a query and makes a value of each row.
func collect[T any](ctx context.Context, q querier, scan func(scanner) (T, error), query string, args ...any) ([]T, error) {
	return engine.Collect(ctx, q, scan, query, args...)
}

func tuples(n, columns int) string { return engine.Tuples(n, columns) }
func nanos(t time.Time) int64      { return engine.Nanos(t) }
func fromNanos(n int64) time.Time  { return engine.FromNanos(n) }

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
