package sql

import (
	dbsql "database/sql"
	"embed"
	"errors"
	"net/url"
	"path/filepath"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlitelib "modernc.org/sqlite/lib"
)

//go:embed migrations
var migrations embed.FS

// dialect is what differs between databases. The statements themselves keep to
// what SQLite, MySQL and MariaDB have in common.
type dialect struct {
	goose  goose.Dialect
	folder string // of the migrations
	// insertIgnore begins an INSERT that passes over rows whose key exists.
	insertIgnore string
	// duplicate reports whether a statement was refused because a key exists.
	duplicate func(error) bool
	// full reports whether a statement was refused for want of disk space.
	full func(error) bool
}

var sqliteDialect = dialect{
	goose:        goose.DialectSQLite3,
	folder:       "migrations/sqlite",
	insertIgnore: "INSERT OR IGNORE",
	duplicate: func(err error) bool {
		code := sqliteCode(err)
		return code == sqlitelib.SQLITE_CONSTRAINT_PRIMARYKEY || code == sqlitelib.SQLITE_CONSTRAINT_UNIQUE
	},
	full: func(err error) bool { return sqliteCode(err)&0xff == sqlitelib.SQLITE_FULL },
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
func openSQLite(path string) (write, read *dbsql.DB, err error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, nil, err
	}
	file := (&url.URL{Scheme: "file", OmitHost: true, Path: abs}).String() +
		"?_txlock=immediate&_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)" +
		"&_pragma=journal_size_limit(67108864)"
	if write, err = dbsql.Open("sqlite", file); err != nil {
		return nil, nil, err
	}
	write.SetMaxOpenConns(1)
	if read, err = dbsql.Open("sqlite", file+"&_pragma=query_only(1)"); err != nil {
		return nil, nil, errors.Join(err, write.Close())
	}
	read.SetMaxOpenConns(readers)
	read.SetMaxIdleConns(readers)
	return write, read, nil
}
