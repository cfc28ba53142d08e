// Package query reads the ids of a recipient package from a SQL query, on SQLite or
// MySQL.
//
// It guarantees that the query changes nothing (the file is opened for reading, or the
// session is made so), that a row is read at a time, and that no error shows the password
// of a DSN.
package query

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"crier/job"
)

// What a DSN starts with.
const (
	onSQLite = "sqlite:"
	onMySQL  = "mysql:"
)

// dialWithin bounds connecting to a server.
const dialWithin = 10 * time.Second

// Config says what to ask.
type Config struct {
	Name string // of the package
	// DSN is sqlite:PATH or mysql:user:password@tcp(host:3306)/database.
	DSN string
	SQL string
	// Column is the column of the result that has the ids: a number from 1 on, or a name.
	// Default 1.
	Column string
}

// Source is the answer to a query, as an audience.Source. The query runs when it is first
// read.
type Source struct {
	cfg      Config
	open     func() (*sql.DB, error)
	readOnly string // makes the session one for reading, if its database needs that
	db       *sql.DB
	conn     *sql.Conn
	rows     *sql.Rows
	cell     []sql.RawBytes // of the row under way
	into     []any          // pointers to these
	at       int            // column of the ids
	row      uint64
	err      error // sticky
}

// New makes a source; it names what is wrong with the configuration.
func New(cfg Config) (*Source, error) {
	s := &Source{cfg: cfg}
	switch {
	case strings.TrimSpace(cfg.SQL) == "":
		return nil, job.Invalid("query", "the query is empty", nil)
	case strings.HasPrefix(cfg.DSN, onSQLite):
		path := strings.TrimPrefix(cfg.DSN, onSQLite)
		if path == "" {
			return nil, job.Invalid("dsn", "the DSN names no file; want sqlite:PATH", nil)
		}
		s.open = func() (*sql.DB, error) { return openSQLite(path) }
	case strings.HasPrefix(cfg.DSN, onMySQL):
		my, err := mysql.ParseDSN(strings.TrimPrefix(cfg.DSN, onMySQL))
		if err != nil { // it may have the password
			return nil, job.Invalid("dsn", "the DSN cannot be read; want mysql:user:password@tcp(host:3306)/database", nil)
		}
		my.Timeout, my.MultiStatements = dialWithin, false
		s.open = func() (*sql.DB, error) { return openMySQL(my) }
		s.readOnly = "SET SESSION TRANSACTION READ ONLY" // a DROP TABLE would end START TRANSACTION READ ONLY first
	default:
		return nil, job.Invalid("dsn", "the DSN is of no database that is known; want sqlite:PATH or mysql:user:password@tcp(host:3306)/database", nil)
	}
	return s, nil
}

func openSQLite(path string) (*sql.DB, error) {
	if st, err := os.Stat(path); err != nil {
		return nil, job.NotFound(fmt.Sprintf("there is no database at %s", path))
	} else if st.IsDir() {
		return nil, job.Invalid("dsn", path+" is a directory, not a database", nil)
	}
	return sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?mode=ro&_pragma=query_only(1)&_pragma=busy_timeout(10000)")
}

func openMySQL(cfg *mysql.Config) (*sql.DB, error) {
	c, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, job.Invalid("dsn", "the DSN cannot be used; see to its tls and server key settings", nil)
	}
	return sql.OpenDB(c), nil
}

// Name is the package's name.
func (s *Source) Name() string { return s.cfg.Name }

// NextBatch reads ids.
func (s *Source) NextBatch(ctx context.Context, ids []uint32) (n int, err error) {
	if s.err == nil && s.rows == nil {
		s.err = s.start(ctx)
	}
	for n < len(ids) && s.err == nil {
		if ids[n], s.err = s.next(); s.err == nil {
			n++
		}
	}
	if s.err == nil || errors.Is(s.err, io.EOF) && n > 0 {
		return n, nil
	}
	return 0, s.err
}

// start asks.
func (s *Source) start(ctx context.Context) (err error) {
	if s.db, err = s.open(); err != nil {
		return err
	}
	if s.conn, err = s.db.Conn(ctx); err != nil {
		return job.Unreachable("connecting to the database of the DSN", err)
	}
	if s.readOnly != "" {
		if _, err := s.conn.ExecContext(ctx, s.readOnly); err != nil {
			return fmt.Errorf("making the session one for reading: %w", err)
		}
	}
	if s.rows, err = s.conn.QueryContext(ctx, s.cfg.SQL); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return job.Invalid("query", "the database refuses the query", err)
	}
	names, err := s.rows.Columns()
	if err != nil {
		return fmt.Errorf("reading the columns of the query: %w", err)
	}
	if s.at, err = column(names, s.cfg.Column); err != nil {
		return err
	}
	s.cell, s.into = make([]sql.RawBytes, len(names)), make([]any, len(names))
	for i := range s.cell {
		s.into[i] = &s.cell[i]
	}
	return nil
}

// column finds the column of the ids.
func column(names []string, want string) (int, error) {
	if len(names) == 0 {
		return 0, job.Invalid("query", "the query gives no columns; want a SELECT", nil)
	}
	if want == "" {
		return 0, nil
	}
	if i := slices.Index(names, want); i >= 0 {
		return i, nil
	}
	n, err := strconv.Atoi(want)
	if err != nil || n < 1 || n > len(names) {
		return 0, job.Invalid("column", fmt.Sprintf("the query gives no column %q; it gives %s", want, strings.Join(names, ", ")), nil)
	}
	return n - 1, nil
}

// next reads one id; io.EOF at the end.
func (s *Source) next() (uint32, error) {
	if !s.rows.Next() {
		if err := s.rows.Err(); err != nil {
			return 0, fmt.Errorf("reading the answer to the query after row %d: %w", s.row, err)
		}
		return 0, io.EOF
	}
	s.row++
	if err := s.rows.Scan(s.into...); err != nil {
		return 0, fmt.Errorf("reading row %d of the answer to the query: %w", s.row, err)
	}
	cell := s.cell[s.at]
	if cell == nil {
		return 0, s.refuse(errors.New("NULL is no recipient"))
	}
	id, err := job.ParseRecipient(string(cell))
	if err != nil {
		return 0, s.refuse(err)
	}
	return uint32(id), nil
}

func (s *Source) refuse(err error) error {
	return job.Invalid("query", fmt.Sprintf("row %d of the answer cannot be used; nothing was kept", s.row), err)
}

// Close ends the query.
func (s *Source) Close() (err error) {
	if s.rows != nil {
		err = s.rows.Close()
	}
	if s.conn != nil {
		err = errors.Join(err, s.conn.Close())
	}
	if s.db != nil {
		err = errors.Join(err, s.db.Close())
	}
	s.rows, s.conn, s.db = nil, nil, nil
	if s.err == nil {
		s.err = io.EOF
	}
	return err
}
