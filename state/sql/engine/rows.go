package engine

import (
	"context"
	dbsql "database/sql"
	"fmt"
	"strings"
	"time"

	"crier/job"
)

// Scanner is one row.
type Scanner interface{ Scan(dest ...any) error }

// Collect runs a query and makes a value of each row.
func Collect[T any](ctx context.Context, q Querier, scan func(Scanner) (T, error), query string, args ...any) ([]T, error) {
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

// Tuples writes n times "(?, ?)" with as many marks as there are columns.
func Tuples(n, columns int) string {
	one := "(" + strings.TrimSuffix(strings.Repeat("?, ", columns), ", ") + "), "
	return strings.TrimSuffix(strings.Repeat(one, n), ", ")
}

// Nanos is a time as it is stored; the zero time is 0.
func Nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// FromNanos reads what Nanos wrote.
func FromNanos(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

// Digest scans 32 bytes.
type Digest struct{ D *job.Digest }

// Scan implements database/sql.Scanner.
func (s Digest) Scan(v any) error {
	b, ok := v.([]byte)
	if !ok || len(b) != len(s.D) {
		return fmt.Errorf("a digest of 32 bytes is expected, not %T of %d", v, len(b))
	}
	*s.D = job.Digest(b)
	return nil
}

// Statement is a prepared query that reads.
type Statement struct {
	stmt *dbsql.Stmt
	e    *Engine
}

// Prepare prepares a query that reads.
func (e *Engine) Prepare(ctx context.Context, query string) (*Statement, error) {
	stmt, err := e.read.PrepareContext(ctx, query)
	return &Statement{stmt, e}, err
}

// Query runs the statement, bounded as the Reader's queries are.
func (s *Statement) Query(ctx context.Context, args ...any) (*dbsql.Rows, error) {
	if s.e.patience > 0 {
		ctx = reader{patience: s.e.patience}.bound(ctx)
	}
	return s.stmt.QueryContext(ctx, args...)
}

// Close frees the statement. A database that is gone has freed it.
func (s *Statement) Close() error {
	if err := s.stmt.Close(); err != nil && !s.e.cut(err) {
		return err
	}
	return nil
}
