// Package groups keeps how recipients are grouped for jobs: the names of segments, whose
// sets audience/members keeps by their numbers, and the salts that decide who is in the
// accounts' control groups.
//
// It guarantees that a segment's number is never used for another one, so that what jobs
// recorded of it stays true, and that a salt, once it was given, never changes.
package groups

import (
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"crier/job"
	"crier/state/sql/engine"
)

// MaxName is the longest name of a segment, in bytes.
const MaxName = 128

// maxPage is the most segments that a list gives at once.
const maxPage = 1000

// Segment is a named set of recipients. It is never deleted, for jobs name it: one that
// is archived is not for use any more, until it is restored.
type Segment struct {
	Number     uint32
	Name       string
	CreatedAt  time.Time
	ArchivedAt time.Time // zero: it is not
}

// Segments keeps the segments' names.
type Segments struct {
	e   *engine.Engine
	now func() time.Time
}

// NewSegments makes the store of a database; now is the clock of its times.
func NewSegments(e *engine.Engine, now func() time.Time) *Segments { return &Segments{e, now} }

func checkName(name string) error {
	if name == "" || len(name) > MaxName || !utf8.ValidString(name) {
		return job.Invalid("name", fmt.Sprintf("a segment's name is UTF-8 of 1 to %d bytes, not %q", MaxName, name), nil)
	}
	return nil
}

func nameTaken(s Segment) error {
	archived := ""
	if !s.ArchivedAt.IsZero() {
		archived = "; it is archived, and can be restored"
	}
	return &job.Error{Code: job.CodeConflict, Field: "name", Message: fmt.Sprintf("there is a segment %q already%s", s.Name, archived)}
}

func noSegment(name string) error {
	return job.NotFound(fmt.Sprintf("there is no segment %q; create it first", name))
}

// Create makes a segment, with the smallest number that no segment ever had. A name that
// is taken is job.CodeConflict. If the answer of a commit was lost, it is read back
// whether the segment was made.
func (s *Segments) Create(ctx context.Context, name string) (Segment, error) {
	if err := checkName(name); err != nil {
		return Segment{}, err
	}
	at := s.now().UTC()
	var made Segment
	err := s.e.TxReadBack(ctx, func(ctx context.Context, tx *dbsql.Tx, unknown bool) error {
		old, err := segmentBy(ctx, tx, name)
		switch {
		case err == nil && unknown && engine.Nanos(old.CreatedAt) == engine.Nanos(at):
			made = old
			return nil
		case err == nil:
			return nameTaken(old)
		case !errors.Is(err, dbsql.ErrNoRows):
			return err
		}
		made = Segment{Name: name, CreatedAt: at}
		if made.Number, err = s.nextNumber(ctx, tx); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO segments (number, name, created_at, archived_at) VALUES (?, ?, ?, 0)`,
			made.Number, made.Name, engine.Nanos(at))
		if s.e.Duplicate(err) {
			return fmt.Errorf("%w: %w", engine.ErrRaced, err)
		}
		return err
	})
	if err != nil {
		return Segment{}, s.e.Wrap("creating segment "+name, err)
	}
	return made, nil
}

// nextNumber gives the number after the last. None is deleted, so that the largest is the last.
func (s *Segments) nextNumber(ctx context.Context, tx *dbsql.Tx) (uint32, error) {
	var last uint64
	if err := tx.QueryRowContext(ctx, `SELECT COALESCE(MAX(number), 0) FROM segments`).Scan(&last); err != nil {
		return 0, err
	}
	if last >= 1<<32-1 {
		return 0, job.Conflict("every number of a segment is taken")
	}
	return uint32(last + 1), nil
}

const columns = `number, name, created_at, archived_at`

func scan(r engine.Scanner) (s Segment, err error) {
	var created, archived int64
	err = r.Scan(&s.Number, &s.Name, &created, &archived)
	s.CreatedAt = engine.FromNanos(created)
	if archived != 0 {
		s.ArchivedAt = engine.FromNanos(archived)
	}
	return s, err
}

// segmentBy finds a segment by its name, or sql.ErrNoRows.
func segmentBy(ctx context.Context, q engine.Querier, name string) (Segment, error) {
	return scan(q.QueryRowContext(ctx, `SELECT `+columns+` FROM segments WHERE name = ?`, name))
}

// Find gives the segment with a name, archived or not, or job.CodeNotFound.
func (s *Segments) Find(ctx context.Context, name string) (Segment, error) {
	found, err := segmentBy(ctx, s.e.Reader(), name)
	if errors.Is(err, dbsql.ErrNoRows) {
		return Segment{}, noSegment(name)
	}
	return found, s.e.Wrap(fmt.Sprintf("looking for segment %q", name), err)
}

// List gives segments, or those that are archived, by name, from the one after a name;
// limit is at most 1,000.
func (s *Segments) List(ctx context.Context, archived bool, after string, limit int) ([]Segment, error) {
	is := `=`
	if archived {
		is = `<>`
	}
	all, err := engine.Collect(ctx, s.e.Reader(), scan, `SELECT `+columns+` FROM segments WHERE archived_at `+is+
		` 0 AND name > ? ORDER BY name LIMIT ?`, after, min(limit, maxPage))
	return all, s.e.Wrap("listing segments", err)
}

// Archive takes a segment out of use, or restores it, and gives it as it then is; or
// job.CodeNotFound. It is idempotent: what is archived keeps its time.
func (s *Segments) Archive(ctx context.Context, name string, archived bool) (Segment, error) {
	query, args := `UPDATE segments SET archived_at = 0 WHERE name = ?`, []any{name}
	if archived {
		query, args = `UPDATE segments SET archived_at = ? WHERE name = ? AND archived_at = 0`, []any{engine.Nanos(s.now()), name}
	}
	err := s.e.Tx(ctx, func(ctx context.Context, tx *dbsql.Tx) error {
		_, err := tx.ExecContext(ctx, query, args...)
		return err
	})
	if err != nil {
		return Segment{}, s.e.Wrap(fmt.Sprintf("archiving segment %q", name), err)
	}
	return s.Find(ctx, name)
}
