// Package sets keeps versioned sets in the SQL store: their heads, increments and the
// places of their snapshots. It is the store that audience/members declares as its port,
// where the methods' promises stand.
//
// It guarantees that each change is one transaction, and that whoever listens is told of
// each revision: a trigger writes it to the outbox in the same transaction.
package sets

import (
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"
	"iter"
	"time"

	"crier/audience/members"
	"crier/state/sql/engine"
)

// bulk is the number of rows that one statement inserts.
const bulk = 500

// batchBytes bounds the size of the sets that one statement inserts, and with
// that the memory of an Append of any length.
const batchBytes = 4 << 20

// Accounts makes the accounts that are missing of at most 500 numbers, in a transaction,
// and tells how many it made.
type Accounts func(ctx context.Context, tx *dbsql.Tx, numbers []uint32) (int, error)

// Sets implements members.Sets.
type Sets struct {
	e        *engine.Engine
	now      func() time.Time
	accounts Accounts
	load     *engine.Statement // loadQuery: parsing it would take most of a Load
}

// New makes the store of a database, which Close ends before the database is; now is the
// clock of changes.
func New(ctx context.Context, e *engine.Engine, now func() time.Time, accounts Accounts) (*Sets, error) {
	load, err := e.Prepare(ctx, loadQuery)
	return &Sets{e, now, accounts, load}, err
}

// Close frees what the store holds of the database.
func (s *Sets) Close() error { return s.load.Close() }

// wrap says what was being done. Errors that callers tell apart pass unchanged.
func (s *Sets) wrap(doing string, err error) error {
	if errors.Is(err, members.ErrStale) || errors.Is(err, members.ErrNoSnapshot) {
		return err
	}
	return s.e.Wrap(doing, err)
}

var _ members.Sets = (*Sets)(nil)

const headColumns = `s.kind, s.owner, s.revision, s.cardinality, s.snapshot_revision, s.increments, s.increment_bytes,
	p.blob_digest, p.cardinality, p.pinned`

const headTables = ` FROM member_sets s LEFT JOIN member_snapshots p
	ON p.kind = s.kind AND p.owner = s.owner AND p.revision = s.snapshot_revision`

// scanHead reads headColumns, and what follows them in the row into more.
func scanHead(r engine.Scanner, more ...any) (h members.Head, err error) {
	var kind string
	var blob []byte
	var card, pinned dbsql.NullInt64
	if err := r.Scan(append([]any{&kind, &h.Owner, &h.Revision, &h.Cardinality, &h.Snapshot.Revision, &h.Increments,
		&h.IncrementBytes, &blob, &card, &pinned}, more...)...); err != nil {
		return h, err
	}
	if h.Kind, err = members.ParseKind(kind); err != nil {
		return h, err
	}
	if h.Snapshot.Revision > 0 {
		h.Snapshot.Cardinality, h.Snapshot.Pinned = uint64(card.Int64), pinned.Int64 == 1
		err = engine.Digest{D: &h.Snapshot.Blob}.Scan(blob)
	}
	return h, err
}

// Head implements members.Sets.
func (s *Sets) Head(ctx context.Context, key members.Key) (members.Head, error) {
	h, err := readHead(ctx, s.e.Reader(), key)
	return h, s.wrap("reading the "+key.String(), err)
}

func readHead(ctx context.Context, q engine.Querier, key members.Key) (members.Head, error) {
	h, err := scanHead(q.QueryRowContext(ctx, `SELECT `+headColumns+headTables+` WHERE s.kind = ? AND s.owner = ?`,
		key.Kind.String(), key.Owner))
	if errors.Is(err, dbsql.ErrNoRows) {
		return members.Head{Key: key}, nil
	}
	return h, err
}

// Scan implements members.Sets.
func (s *Sets) Scan(ctx context.Context, kind members.Kind, from uint32, limit int) ([]members.Head, error) {
	heads, err := engine.Collect(ctx, s.e.Reader(), func(r engine.Scanner) (members.Head, error) { return scanHead(r) }, `SELECT `+headColumns+headTables+
		` WHERE s.kind = ? AND s.owner >= ? ORDER BY s.owner LIMIT ?`, kind.String(), from, limit)
	return heads, s.wrap("listing versioned sets", err)
}

// loadQuery gives a set's head, once for each increment after its snapshot or
// once if it has none. One statement sees one state of the database.
const loadQuery = `SELECT ` + headColumns + `, i.revision, i.adds, i.removes, i.cardinality` + headTables + `
	LEFT JOIN member_increments i ON i.kind = s.kind AND i.owner = s.owner AND i.revision > s.snapshot_revision
	WHERE s.kind = ? AND s.owner = ? ORDER BY i.revision`

// Load implements members.Sets.
func (s *Sets) Load(ctx context.Context, key members.Key) (members.Head, []members.Increment, error) {
	head := members.Head{Key: key}
	var incs []members.Increment
	err := func() error {
		rows, err := s.load.Query(ctx, key.Kind.String(), key.Owner)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var inc members.Increment
			var revision, card dbsql.NullInt64
			if head, err = scanHead(rows, &revision, &inc.Adds, &inc.Removes, &card); err != nil {
				return err
			}
			if revision.Valid {
				inc.Revision, inc.Cardinality = uint64(revision.Int64), uint64(card.Int64)
				incs = append(incs, inc)
			}
		}
		return rows.Err()
	}()
	if err != nil {
		return members.Head{}, nil, s.wrap("reading the "+key.String(), err)
	}
	return head, incs, nil
}

// Append implements members.Sets. The changes come once only, so that it is not run
// again: others who change the same make it members.ErrStale, for which callers look
// again; and after a lost answer the caller's own operation is repeated, which makes
// its changes anew of what there is.
func (s *Sets) Append(ctx context.Context, changes iter.Seq2[members.Change, error]) (accounts int, err error) {
	err = s.e.TxOnce(ctx, func(ctx context.Context, tx *dbsql.Tx) error {
		a := appender{ctx: ctx, s: s, tx: tx, at: engine.Nanos(s.now())}
		for change, err := range changes {
			if err != nil {
				return err
			}
			if err := a.add(change); err != nil {
				return err
			}
		}
		err := a.flush()
		accounts = a.made
		return err
	})
	if s.e.Conflicting(err) {
		err = fmt.Errorf("%w: %w", members.ErrStale, err)
	}
	if err != nil {
		return 0, s.wrap("changing versioned sets", err)
	}
	return accounts, nil
}

// appender gathers changes into statements of many rows.
type appender struct {
	ctx      context.Context
	s        *Sets
	tx       *dbsql.Tx
	at       int64 // of the changes
	accounts []uint32
	created  []members.Change // first revisions
	grown    []members.Change // increments
	bytes    int              // of them
	made     int              // accounts
}

func (a *appender) add(c members.Change) error {
	if c.MakeAccount {
		a.accounts = append(a.accounts, c.Owner)
	}
	if !c.IsEmpty() {
		if err := a.addRevision(c); err != nil {
			return err
		}
	}
	if max(len(a.accounts), len(a.created), len(a.grown)) >= bulk || a.bytes >= batchBytes {
		return a.flush()
	}
	return nil
}

func (a *appender) addRevision(c members.Change) error {
	if c.Base == 0 {
		a.created = append(a.created, c)
	} else if err := a.advance(c); err != nil {
		return err
	}
	if !c.Snapshot.IsZero() {
		return a.exec(`INSERT INTO member_snapshots (kind, owner, revision, blob_digest, cardinality, pinned) VALUES (?, ?, ?, ?, ?, 0)`,
			c.Kind.String(), c.Owner, c.Base+1, c.Snapshot[:], c.Cardinality)
	}
	a.grown = append(a.grown, c)
	a.bytes += len(c.Adds) + len(c.Removes)
	return nil
}

// advance moves a head that exists to its next revision.
func (a *appender) advance(c members.Change) error {
	query := `UPDATE member_sets SET changed_at = ?, revision = ?, cardinality = ?, increments = increments + 1,
		increment_bytes = increment_bytes + ? WHERE kind = ? AND owner = ? AND revision = ?`
	third := uint64(len(c.Adds) + len(c.Removes))
	if !c.Snapshot.IsZero() {
		query = `UPDATE member_sets SET changed_at = ?, revision = ?, cardinality = ?, increments = 0,
			increment_bytes = 0, snapshot_revision = ? WHERE kind = ? AND owner = ? AND revision = ?`
		third = c.Base + 1
	}
	res, err := a.tx.ExecContext(a.ctx, query, a.at, c.Base+1, c.Cardinality, third, c.Kind.String(), c.Owner, c.Base)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		return errors.Join(err, Stale(c.Key, c.Base))
	}
	if c.Snapshot.IsZero() {
		return nil
	}
	return forget(a.ctx, a.tx, c.Key, c.Base+1)
}

// forget drops what a snapshot of a revision makes needless.
func forget(ctx context.Context, tx *dbsql.Tx, key members.Key, revision uint64) error {
	_, err := tx.ExecContext(ctx, `DELETE FROM member_increments WHERE kind = ? AND owner = ? AND revision <= ?`,
		key.Kind.String(), key.Owner, revision)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `DELETE FROM member_snapshots WHERE kind = ? AND owner = ? AND revision < ? AND pinned = 0`,
		key.Kind.String(), key.Owner, revision)
	return err
}

// Stale says that a set is not at a revision.
func Stale(key members.Key, base uint64) error {
	return fmt.Errorf("%s: revision %d: %w", key, base, members.ErrStale)
}

func (a *appender) exec(query string, args ...any) error {
	_, err := a.tx.ExecContext(a.ctx, query, args...)
	return err
}

func (a *appender) flush() error {
	if len(a.accounts) > 0 {
		n, err := a.s.accounts(a.ctx, a.tx, a.accounts)
		if err != nil {
			return err
		}
		a.made += n
	}
	if err := a.insertHeads(); err != nil {
		return err
	}
	if err := a.insertIncrements(); err != nil {
		return err
	}
	a.accounts, a.created, a.grown, a.bytes = a.accounts[:0], a.created[:0], a.grown[:0], 0
	return nil
}

func (a *appender) insertHeads() error {
	if len(a.created) == 0 {
		return nil
	}
	args := make([]any, 0, 8*len(a.created))
	for _, c := range a.created {
		snapshot, increments, size := 1, 0, 0
		if c.Snapshot.IsZero() {
			snapshot, increments, size = 0, 1, len(c.Adds)+len(c.Removes)
		}
		args = append(args, c.Kind.String(), c.Owner, 1, c.Cardinality, snapshot, increments, size, a.at)
	}
	err := a.exec(`INSERT INTO member_sets (kind, owner, revision, cardinality, snapshot_revision, increments, increment_bytes, changed_at) VALUES `+
		engine.Tuples(len(a.created), 8), args...)
	if a.s.e.Duplicate(err) {
		return fmt.Errorf("a set that was empty: %w", members.ErrStale)
	}
	return err
}

func (a *appender) insertIncrements() error {
	if len(a.grown) == 0 {
		return nil
	}
	args := make([]any, 0, 6*len(a.grown))
	for _, c := range a.grown {
		args = append(args, c.Kind.String(), c.Owner, c.Base+1, c.Cardinality, nonNil(c.Adds), nonNil(c.Removes))
	}
	return a.exec(`INSERT INTO member_increments (kind, owner, revision, cardinality, adds, removes) VALUES `+
		engine.Tuples(len(a.grown), 6), args...)
}

// nonNil makes an empty byte string of nil, which would be stored as NULL.
func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// AddSnapshot implements members.Sets.
func (s *Sets) AddSnapshot(ctx context.Context, key members.Key, snap members.Snapshot) error {
	err := s.e.Tx(ctx, func(ctx context.Context, tx *dbsql.Tx) error {
		if err := s.lockHead(ctx, tx, key); err != nil {
			return err
		}
		h, err := readHead(ctx, tx, key)
		if err != nil {
			return err
		}
		if h.Revision < snap.Revision || snap.Revision == 0 {
			return Stale(key, snap.Revision)
		}
		if snap.Revision < h.Snapshot.Revision && !snap.Pinned {
			return nil
		}
		if err := putSnapshot(ctx, tx, key, snap); err != nil || snap.Revision <= h.Snapshot.Revision {
			return err
		}
		if err := forget(ctx, tx, key, snap.Revision); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE member_sets SET snapshot_revision = ?,
			increments = (SELECT COUNT(*) FROM member_increments i WHERE i.kind = ? AND i.owner = ?),
			increment_bytes = (SELECT COALESCE(SUM(LENGTH(i.adds) + LENGTH(i.removes)), 0) FROM member_increments i WHERE i.kind = ? AND i.owner = ?)
			WHERE kind = ? AND owner = ?`, snap.Revision, key.Kind.String(), key.Owner, key.Kind.String(), key.Owner, key.Kind.String(), key.Owner)
		return err
	})
	return s.wrap("recording a snapshot of the "+key.String(), err)
}

// lockHead keeps others from changing a set that exists until the transaction ends.
func (s *Sets) lockHead(ctx context.Context, tx *dbsql.Tx, key members.Key) error {
	var revision uint64
	err := tx.QueryRowContext(ctx, `SELECT revision FROM member_sets WHERE kind = ? AND owner = ?`+s.e.ForUpdate(),
		key.Kind.String(), key.Owner).Scan(&revision)
	if errors.Is(err, dbsql.ErrNoRows) {
		return nil
	}
	return err
}

// putSnapshot inserts the row, or pins the one that is there.
func putSnapshot(ctx context.Context, tx *dbsql.Tx, key members.Key, snap members.Snapshot) error {
	old, err := snapshotAt(ctx, tx, key, snap.Revision)
	switch {
	case errors.Is(err, members.ErrNoSnapshot):
		_, err = tx.ExecContext(ctx, `INSERT INTO member_snapshots (kind, owner, revision, blob_digest, cardinality, pinned) VALUES (?, ?, ?, ?, ?, ?)`,
			key.Kind.String(), key.Owner, snap.Revision, snap.Blob[:], snap.Cardinality, bit(snap.Pinned))
	case err == nil && snap.Pinned && !old.Pinned:
		_, err = tx.ExecContext(ctx, `UPDATE member_snapshots SET pinned = 1 WHERE kind = ? AND owner = ? AND revision = ?`,
			key.Kind.String(), key.Owner, snap.Revision)
	}
	return err
}

func bit(v bool) int {
	if v {
		return 1
	}
	return 0
}

// SnapshotAt implements members.Sets.
func (s *Sets) SnapshotAt(ctx context.Context, key members.Key, revision uint64) (members.Snapshot, error) {
	snap, err := snapshotAt(ctx, s.e.Reader(), key, revision)
	return snap, s.wrap("looking for a snapshot of the "+key.String(), err)
}

func snapshotAt(ctx context.Context, q engine.Querier, key members.Key, revision uint64) (members.Snapshot, error) {
	snap := members.Snapshot{Revision: revision}
	var pinned int
	err := q.QueryRowContext(ctx, `SELECT blob_digest, cardinality, pinned FROM member_snapshots WHERE kind = ? AND owner = ? AND revision = ?`,
		key.Kind.String(), key.Owner, revision).Scan(engine.Digest{D: &snap.Blob}, &snap.Cardinality, &pinned)
	if errors.Is(err, dbsql.ErrNoRows) {
		return members.Snapshot{}, fmt.Errorf("%s: revision %d: %w", key, revision, members.ErrNoSnapshot)
	}
	snap.Pinned = pinned == 1
	return snap, err
}
