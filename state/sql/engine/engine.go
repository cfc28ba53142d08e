// Package engine opens the database under the SQL store, SQLite or MySQL (MariaDB),
// and runs transactions on it.
//
// It guarantees that a call returns within a bound whatever the database does, that
// what the database asks to have repeated is repeated, a bounded number of times,
// and that processes which open a new database at once make its tables once.
package engine

import (
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"crier/job"
)

// DefaultWait is the longest wait for one answer of MySQL.
const DefaultWait = 5 * time.Second

// Config says which database to open.
type Config struct {
	// Path is the SQLite file; it is made if it does not exist, its directory is not.
	Path string
	// DSN is a MySQL database: user:password@tcp(host:3306)/name. Exactly one of Path
	// and DSN is given.
	DSN string
	// Wait bounds the wait for one answer of MySQL, a call at two of them. Default
	// DefaultWait.
	Wait time.Duration
	// Migrations has a folder for each dialect, sqlite and mysql.
	Migrations fs.FS
}

// Validate names the field that is wrong and fills in the default.
func (c *Config) Validate() error {
	switch {
	case c.Path == "" && c.DSN == "":
		return job.Invalid("path", "the SQL store needs a file, or sql.dsn", nil)
	case c.Path != "" && c.DSN != "":
		return job.Invalid("sql.dsn", "the SQL store is either a file or the database of sql.dsn, not both", nil)
	case c.Wait < 0:
		return job.Invalid("wait", fmt.Sprintf("the SQL store cannot wait %s", c.Wait), nil)
	}
	if c.Wait == 0 {
		c.Wait = DefaultWait
	}
	return nil
}

// dialect is what differs between databases. The statements themselves keep to
// what SQLite, MySQL and MariaDB have in common.
type dialect struct {
	folder string // of the migrations, and goose's name
	// insertIgnore begins an INSERT that passes over rows whose key exists.
	insertIgnore string
	// forUpdate ends a SELECT of rows that the transaction will change.
	forUpdate string
	// skipLocked ends a SELECT of rows to work on that passes over those of others.
	skipLocked string
	// duplicate reports whether a statement was refused because a key exists.
	duplicate func(error) bool
	// full reports whether a statement was refused for want of disk space.
	full func(error) bool
	// again reports whether the transaction was given up for another one.
	again func(error) bool
	// cut reports whether the database does not answer.
	cut func(error) bool
}

// Engine is an open database.
type Engine struct {
	// Name says which database it is, without secrets.
	Name  string
	file  string // how a connection to an SQLite file is opened; "": it is no file
	write *dbsql.DB
	read  *dbsql.DB
	dialect
	patience time.Duration // of a call; 0: no bound but the database's own
}

// Open opens the database and brings its tables to this version's form.
func Open(ctx context.Context, cfg Config) (*Engine, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	open := openSQLite
	if cfg.DSN != "" {
		open = openMySQL
	}
	e, err := open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := e.migrate(ctx, cfg); err != nil {
		return nil, errors.Join(e.Wrap("opening the SQL store "+e.Name, err), e.Close())
	}
	return e, nil
}

// Close ends all connections; what is under way gets an error. What MySQL says to it
// does not matter: nothing is kept here that it could lose.
func (e *Engine) Close() error {
	if e.patience > 0 {
		_ = e.write.Close()
		return nil
	}
	return errors.Join(e.read.Close(), e.write.Close())
}

// InsertIgnore begins an INSERT that passes over rows whose key exists.
func (e *Engine) InsertIgnore() string { return e.insertIgnore }

// ForUpdate ends a SELECT of rows that the transaction will change.
func (e *Engine) ForUpdate() string { return e.forUpdate }

// SkipLocked ends a SELECT of rows to work on: those that another transaction has
// in its hands are passed over.
func (e *Engine) SkipLocked() string { return e.skipLocked }

// Duplicate reports whether a statement was refused because a key exists.
func (e *Engine) Duplicate(err error) bool { return e.duplicate(err) }

// Wrap says what was being done, and gives a code to what a user can act on.
func (e *Engine) Wrap(doing string, err error) error {
	switch {
	case err == nil, job.CodeOf(err) != "":
		return err
	case e.full(err):
		return &job.Error{Code: job.CodeFull, Err: err,
			Message: doing + ": the disk of the SQL store is full; free some space and try again"}
	case e.again(err) || errors.Is(err, ErrRaced):
		return &job.Error{Code: job.CodeUnavailable, Err: err, Message: doing + ": others change the same; try again"}
	case e.cut(err):
		return &job.Error{Code: job.CodeUnavailable, Err: err,
			Message: doing + ": the SQL store does not answer; try again"}
	}
	return fmt.Errorf("%s: %w", doing, err)
}
