// Package access keeps in the SQL store who may use the API, and who did what: tenants
// with their limits, keys, and the audit log.
//
// It guarantees that of a key only its SHA-256 is stored; that each change of a key or
// a tenant has a number, and that who has read up to a number misses none that comes
// later; and that a row of the audit log, once there, is neither changed nor deleted,
// and is there once for each act however often it is written.
package access

import (
	"context"
	dbsql "database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"crier/job"
	"crier/state/sql/engine"
)

// maxPage is the most rows that a list gives at once.
const maxPage = 1000

// changeMark is the number of the newest change.
const changeMark = "access.change"

// Store is the store. It is safe for concurrent use.
type Store struct {
	e   *engine.Engine
	now func() time.Time
}

// New makes a store on a database whose tables are there.
func New(e *engine.Engine, now func() time.Time) *Store { return &Store{e, now} }

// Tenant owns accounts, packages, jobs and keys. Its name is its identity.
type Tenant struct {
	Name      string
	CreatedAt time.Time // zero: it was there from the start
	Limits    job.Limits
}

// Key is a key without the key itself.
type Key struct {
	ID        string
	Hash      job.Digest // SHA-256 of the key
	Name      string
	Role      job.Role
	Tenant    string
	Recipient *job.Recipient // of a device's key; else nil
	CreatedAt time.Time
	CreatedBy string    // id of a key
	UsedAt    time.Time // zero: never; else not before CreatedAt, whosever clock it is by
	RevokedAt time.Time // zero: it is in force
}

// Changes is what changed since a number.
type Changes struct {
	Through uint64 // the number of the newest
	Keys    []Key  // revoked ones, too
	Tenants []Tenant
}

// nextChange gives a change its number. It holds the mark until the transaction ends, so
// that the numbers come to light in their order.
func nextChange(ctx context.Context, tx *dbsql.Tx) (n uint64, err error) {
	if _, err := tx.ExecContext(ctx, `UPDATE marks SET value = value + 1 WHERE name = ?`, changeMark); err != nil {
		return 0, err
	}
	return n, tx.QueryRowContext(ctx, `SELECT value FROM marks WHERE name = ?`, changeMark).Scan(&n)
}

const (
	keyColumns    = `id, hash, name, role, tenant, recipient, created_at, created_by, used_at, revoked_at`
	tenantColumns = `name, created_at, limits`
)

func scanKey(r engine.Scanner) (k Key, err error) {
	var hash []byte
	var role string
	var recipient dbsql.NullInt64
	var created, used, revoked int64
	if err := r.Scan(&k.ID, &hash, &k.Name, &role, &k.Tenant, &recipient, &created, &k.CreatedBy, &used, &revoked); err != nil {
		return k, err
	}
	if len(hash) != len(k.Hash) {
		return k, fmt.Errorf("key %s has a hash of %d bytes", k.ID, len(hash))
	}
	k.Hash = job.Digest(hash)
	if recipient.Valid {
		r := job.Recipient(recipient.Int64)
		k.Recipient = &r
	}
	k.CreatedAt, k.RevokedAt = engine.FromNanos(created), engine.FromNanos(revoked)
	if used > 0 {
		k.UsedAt = engine.FromNanos(max(used, created))
	}
	k.Role, err = job.ParseRole(role)
	return k, err
}

func scanTenant(r engine.Scanner) (t Tenant, err error) {
	var created int64
	var limits string
	if err := r.Scan(&t.Name, &created, &limits); err != nil {
		return t, err
	}
	t.CreatedAt = engine.FromNanos(created)
	return t, json.Unmarshal([]byte(limits), &t.Limits)
}

// Since gives all that changed after a number; 0 is everything.
func (s *Store) Since(ctx context.Context, number uint64) (c Changes, err error) {
	q := s.e.Reader()
	// The mark is read first: what changes meanwhile is read now, and again next time.
	err = q.QueryRowContext(ctx, `SELECT value FROM marks WHERE name = ?`, changeMark).Scan(&c.Through)
	if err == nil && c.Through > number {
		c.Keys, err = engine.Collect(ctx, q, scanKey, `SELECT `+keyColumns+` FROM access_keys WHERE change_no > ?`, number)
		if err == nil {
			c.Tenants, err = engine.Collect(ctx, q, scanTenant, `SELECT `+tenantColumns+` FROM tenants WHERE change_no > ?`, number)
		}
	}
	return c, s.e.Wrap("reading what changed of keys and tenants", err)
}

// CreateKey stores a key. Its id and its hash are new; a tenant that is not there is
// job.CodeNotFound.
func (s *Store) CreateKey(ctx context.Context, k Key) (Key, error) {
	k.CreatedAt = s.now().UTC()
	err := s.e.TxReadBack(ctx, func(ctx context.Context, tx *dbsql.Tx, unknown bool) error {
		if unknown {
			if _, err := keyBy(ctx, tx, k.ID); !errors.Is(err, dbsql.ErrNoRows) {
				return err // it is there, or nothing is known
			}
		}
		if _, err := tenantBy(ctx, tx, k.Tenant); err != nil {
			return missing(err, noTenant(k.Tenant))
		}
		n, err := nextChange(ctx, tx)
		if err != nil {
			return err
		}
		var recipient any
		if k.Recipient != nil {
			recipient = uint32(*k.Recipient)
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO access_keys (`+keyColumns+`, change_no) VALUES `+engine.Tuples(1, 11), k.ID, k.Hash[:], k.Name,
			k.Role.String(), k.Tenant, recipient, engine.Nanos(k.CreatedAt), k.CreatedBy, 0, 0, n)
		return err
	})
	if err != nil {
		return Key{}, s.e.Wrap("storing a key", err)
	}
	return k, nil
}

func keyBy(ctx context.Context, q engine.Querier, id string) (Key, error) {
	return scanKey(q.QueryRowContext(ctx, `SELECT `+keyColumns+` FROM access_keys WHERE id = ?`, id))
}

func tenantBy(ctx context.Context, q engine.Querier, name string) (Tenant, error) {
	return scanTenant(q.QueryRowContext(ctx, `SELECT `+tenantColumns+` FROM tenants WHERE name = ?`, name))
}

// missing puts what a user is told in the place of an error about no row.
func missing(err, told error) error {
	if errors.Is(err, dbsql.ErrNoRows) {
		return told
	}
	return err
}

func noTenant(name string) error {
	return &job.Error{Code: job.CodeNotFound, Field: "tenant", Message: fmt.Sprintf("there is no tenant %q", name)}
}

// noKey does not repeat what was given for an id: it may be a key.
func noKey() error { return job.NotFound("there is no such key; crier key ls lists them") }

// ListKeys gives keys in the order of their ids, which is that of their making, those
// behind the id after; tenant "" is all tenants. limit is at most 1,000.
func (s *Store) ListKeys(ctx context.Context, tenant, after string, limit int) ([]Key, error) {
	where, args := "id > ?", []any{after}
	if tenant != "" {
		where, args = where+" AND tenant = ?", append(args, tenant)
	}
	all, err := engine.Collect(ctx, s.e.Reader(), scanKey, `SELECT `+keyColumns+` FROM access_keys WHERE `+where+` ORDER BY id LIMIT ?`, append(args, min(limit, maxPage))...)
	return all, s.e.Wrap("listing keys", err)
}

// GetKey gives a key; tenant "" is any tenant, and a key of another one is not found.
func (s *Store) GetKey(ctx context.Context, tenant, id string) (Key, error) {
	k, err := keyBy(ctx, s.e.Reader(), id)
	if err == nil && tenant != "" && k.Tenant != tenant {
		err = noKey()
	}
	if err = missing(err, noKey()); err != nil {
		return Key{}, s.e.Wrap("looking for a key", err)
	}
	return k, nil
}

// RevokeKey ends a key for good. Idempotent: the first time counts. tenant "" is any
// tenant; a key of another one is not found.
func (s *Store) RevokeKey(ctx context.Context, tenant, id string) (k Key, err error) {
	err = s.e.Tx(ctx, func(ctx context.Context, tx *dbsql.Tx) error {
		if k, err = keyBy(ctx, tx, id); err != nil {
			return missing(err, noKey())
		}
		if tenant != "" && k.Tenant != tenant {
			return noKey()
		}
		if !k.RevokedAt.IsZero() {
			return nil
		}
		n, err := nextChange(ctx, tx)
		if err != nil {
			return err
		}
		k.RevokedAt = s.now().UTC()
		_, err = tx.ExecContext(ctx, `UPDATE access_keys SET revoked_at = ?, change_no = ? WHERE id = ? AND revoked_at = 0`, engine.Nanos(k.RevokedAt), n, id)
		return err
	})
	if err != nil {
		return Key{}, s.e.Wrap("revoking a key", err)
	}
	return k, nil
}

// RevokeOf ends all keys of a recipient for good and tells how many were in force. Idempotent.
func (s *Store) RevokeOf(ctx context.Context, who job.Recipient) (n int, err error) {
	err = s.e.Tx(ctx, func(ctx context.Context, tx *dbsql.Tx) error {
		err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM access_keys WHERE recipient = ? AND revoked_at = 0`, uint32(who)).Scan(&n)
		if err != nil || n == 0 {
			return err
		}
		change, err := nextChange(ctx, tx)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE access_keys SET revoked_at = ?, change_no = ? WHERE recipient = ? AND revoked_at = 0`, engine.Nanos(s.now().UTC()), change, uint32(who))
		return err
	})
	return n, s.e.Wrap("revoking the keys of a recipient", err)
}

// Used notes when keys were used last. It is no change: nobody needs to hear of it, and
// none goes back.
func (s *Store) Used(ctx context.Context, at map[string]time.Time) error {
	err := s.e.Tx(ctx, func(ctx context.Context, tx *dbsql.Tx) error {
		for id, t := range at {
			if _, err := tx.ExecContext(ctx, `UPDATE access_keys SET used_at = ? WHERE id = ? AND used_at < ?`, engine.Nanos(t), id, engine.Nanos(t)); err != nil {
				return err
			}
		}
		return nil
	})
	return s.e.Wrap("noting the use of keys", err)
}

// CreateTenant makes a tenant. A name that is taken is job.CodeConflict.
func (s *Store) CreateTenant(ctx context.Context, name string, limits job.Limits) (Tenant, error) {
	t := Tenant{Name: name, CreatedAt: s.now().UTC(), Limits: limits}
	text, err := json.Marshal(limits)
	if err != nil {
		return Tenant{}, err
	}
	err = s.e.TxReadBack(ctx, func(ctx context.Context, tx *dbsql.Tx, unknown bool) error {
		switch old, err := tenantBy(ctx, tx, name); {
		case err == nil && unknown && old == t:
			return nil
		case err == nil:
			return &job.Error{Code: job.CodeConflict, Field: "name", Message: fmt.Sprintf("the tenant %q exists already", name)}
		case !errors.Is(err, dbsql.ErrNoRows):
			return err
		}
		n, err := nextChange(ctx, tx)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO tenants (`+tenantColumns+`, change_no) VALUES `+engine.Tuples(1, 4), name, engine.Nanos(t.CreatedAt), string(text), n)
		if s.e.Duplicate(err) {
			return fmt.Errorf("%w: %w", engine.ErrRaced, err)
		}
		return err
	})
	if err != nil {
		return Tenant{}, s.e.Wrap("making tenant "+name, err)
	}
	return t, nil
}

// GetTenant gives a tenant, or job.CodeNotFound.
func (s *Store) GetTenant(ctx context.Context, name string) (Tenant, error) {
	t, err := tenantBy(ctx, s.e.Reader(), name)
	return t, s.e.Wrap("looking for a tenant", missing(err, noTenant(name)))
}

// ListTenants gives tenants by name, those behind after; limit is at most 1,000.
func (s *Store) ListTenants(ctx context.Context, after string, limit int) ([]Tenant, error) {
	all, err := engine.Collect(ctx, s.e.Reader(), scanTenant, `SELECT `+tenantColumns+` FROM tenants WHERE name > ? ORDER BY name LIMIT ?`, after, min(limit, maxPage))
	return all, s.e.Wrap("listing tenants", err)
}

// SetLimits replaces what change makes of a tenant's limits. Idempotent if change is.
func (s *Store) SetLimits(ctx context.Context, name string, change func(*job.Limits)) (t Tenant, err error) {
	err = s.e.Tx(ctx, func(ctx context.Context, tx *dbsql.Tx) error {
		n, err := nextChange(ctx, tx) // from here on nobody else changes a tenant
		if err != nil {
			return err
		}
		if t, err = tenantBy(ctx, tx, name); err != nil {
			return missing(err, noTenant(name))
		}
		change(&t.Limits)
		text, err := json.Marshal(t.Limits)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE tenants SET limits = ?, change_no = ? WHERE name = ?`, string(text), n, name)
		return err
	})
	if err != nil {
		return Tenant{}, s.e.Wrap("changing the limits of tenant "+name, err)
	}
	return t, nil
}
