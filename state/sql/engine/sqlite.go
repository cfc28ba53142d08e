package engine

import (
	"context"
	dbsql "database/sql"
	"errors"
	"net/url"
	"path/filepath"

	"modernc.org/sqlite"
	sqlitelib "modernc.org/sqlite/lib"
)

// readers is the number of connections that read an SQLite file.
const readers = 4

var sqliteDialect = dialect{
	folder:       "sqlite",
	insertIgnore: "INSERT OR IGNORE",
	duplicate: func(err error) bool {
		code := sqliteCode(err)
		return code == sqlitelib.SQLITE_CONSTRAINT_PRIMARYKEY || code == sqlitelib.SQLITE_CONSTRAINT_UNIQUE
	},
	full: func(err error) bool { return sqliteCode(err)&0xff == sqlitelib.SQLITE_FULL },
	// A writer waits for its turn (busy_timeout) before it begins.
	again: func(error) bool { return false },
	cut:   func(error) bool { return false },
}

// sqliteCode is the extended result code in a chain of errors, or 0.
func sqliteCode(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code()
	}
	return 0
}

// openSQLite opens a file twice: one connection that writes, as SQLite has one
// writer at a time anyway, and a few that read beside it. The log of changes is
// synced at every commit and cut back to 64 MiB after a large one.
func openSQLite(_ context.Context, cfg Config) (*Engine, error) {
	abs, err := filepath.Abs(cfg.Path)
	if err != nil {
		return nil, err
	}
	file := (&url.URL{Scheme: "file", OmitHost: true, Path: abs}).String() +
		"?_txlock=immediate&_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)" +
		"&_pragma=journal_size_limit(67108864)"
	e := &Engine{Name: cfg.Path, file: file, dialect: sqliteDialect}
	if e.write, err = dbsql.Open("sqlite", file); err != nil {
		return nil, err
	}
	e.write.SetMaxOpenConns(1)
	if e.read, err = dbsql.Open("sqlite", file+"&_pragma=query_only(1)"); err != nil {
		return nil, errors.Join(err, e.write.Close())
	}
	e.read.SetMaxOpenConns(readers)
	e.read.SetMaxIdleConns(readers)
	return e, nil
}

// errNotAFile is that only SQLite's database is one file.
var errNotAFile = errors.New("it is no file, and its server makes copies of it")

// CopyTo writes an SQLite database as it is now to a new file. It has a connection of its
// own, for it takes as long as reading all of it, and the others may not write.
func (e *Engine) CopyTo(ctx context.Context, path string) error {
	if e.file == "" {
		return errNotAFile
	}
	db, err := dbsql.Open("sqlite", e.file)
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, `VACUUM INTO ?`, path)
	return errors.Join(err, db.Close())
}
