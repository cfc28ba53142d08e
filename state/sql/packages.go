package sql

import (
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"
	"time"

	"crier/job"
)

// Package describes a recipient package that an account has imported.
type Package struct {
	Account     uint32     `json:"account"`
	Name        string     `json:"name"`
	Set         job.Digest `json:"sha256"` // of the canonical set: the package's identity
	Blob        job.Digest `json:"blob"`   // that holds it
	Cardinality uint64     `json:"cardinality"`
	Min         uint32     `json:"min"`
	Max         uint32     `json:"max"`
	Repeated    uint64     `json:"repeated"` // ids that its source gave more than once
	Bytes       uint64     `json:"bytes"`    // of the blob
	CreatedAt   time.Time  `json:"created_at"`
}

// Packages keeps the descriptions of packages. Names are unique in an account;
// the same set may have several names.
type Packages struct {
	c      *conn
	tenant string // whose packages these are, for Newest and BySet; "": all
}

// Of gives the part that a tenant sees: what another one's accounts have is not there.
func (s *Packages) Of(tenant string) *Packages { return &Packages{s.c, tenant} }

// ofTenant is a condition, which ends in AND, and its argument.
func (s *Packages) ofTenant() (string, []any) {
	if s.tenant == "" {
		return "", nil
	}
	return `account IN (SELECT number FROM accounts WHERE tenant = ?) AND `, []any{s.tenant}
}

const packageColumns = `account, name, set_digest, blob_digest, cardinality, min_id, max_id, repeated, bytes, created_at`

// Put records a package and gives what is recorded. It is idempotent: a package
// that the account has by that name stays as it is if it is the same set, and is
// job.CodeConflict if it is another.
func (s *Packages) Put(ctx context.Context, p Package) (stored Package, err error) {
	doing := fmt.Sprintf("recording package %q of account %d", p.Name, p.Account)
	err = s.c.tx(ctx, doing, func(ctx context.Context, tx *dbsql.Tx) error {
		old, err := packageBy(ctx, tx, `account = ? AND name = ?`, p.Account, p.Name)
		if err == nil {
			stored = old
			return samePackage(old, p)
		}
		if !errors.Is(err, dbsql.ErrNoRows) {
			return err
		}
		stored = p
		stored.CreatedAt = s.c.now().UTC()
		_, err = tx.ExecContext(ctx, `INSERT INTO packages (`+packageColumns+`) VALUES `+tuples(1, 10),
			p.Account, p.Name, p.Set[:], p.Blob[:], p.Cardinality, p.Min, p.Max, p.Repeated, p.Bytes, nanos(stored.CreatedAt))
		return s.c.raced(err)
	})
	if err != nil {
		return Package{}, err
	}
	return stored, nil
}

// samePackage refuses another set under a name that is taken.
func samePackage(old, p Package) error {
	if old.Set == p.Set {
		return nil
	}
	return job.Conflict(fmt.Sprintf("account %d has another package by the name %q (set %s); give this one another name",
		p.Account, p.Name, old.Set))
}

func scanPackage(r scanner) (p Package, err error) {
	var at int64
	err = r.Scan(&p.Account, &p.Name, digest{&p.Set}, digest{&p.Blob}, &p.Cardinality, &p.Min, &p.Max, &p.Repeated, &p.Bytes, &at)
	p.CreatedAt = fromNanos(at)
	return p, err
}

// packageBy finds one package, or sql.ErrNoRows. The condition is a constant.
func packageBy(ctx context.Context, q querier, condition string, args ...any) (Package, error) {
	return scanPackage(q.QueryRowContext(ctx, `SELECT `+packageColumns+` FROM packages WHERE `+condition, args...))
}

// Get gives an account's package by the digest of its set, the first by name if
// it has several; or job.CodeNotFound.
func (s *Packages) Get(ctx context.Context, account uint32, set job.Digest) (Package, error) {
	p, err := packageBy(ctx, s.c.read, `account = ? AND set_digest = ? ORDER BY name LIMIT 1`, account, set[:])
	if errors.Is(err, dbsql.ErrNoRows) {
		return Package{}, noPackage(account, set.String())
	}
	return p, s.c.wrap("looking for package "+set.String(), err)
}

// ByName gives an account's package by its name, or job.CodeNotFound.
func (s *Packages) ByName(ctx context.Context, account uint32, name string) (Package, error) {
	p, err := packageBy(ctx, s.c.read, `account = ? AND name = ?`, account, name)
	if errors.Is(err, dbsql.ErrNoRows) {
		return Package{}, noPackage(account, name)
	}
	return p, s.c.wrap(fmt.Sprintf("looking for package %q", name), err)
}

func noPackage(account uint32, which string) error {
	return job.NotFound(fmt.Sprintf("account %d has no package %q; import it first", account, which))
}

// List gives an account's packages in ascending order of name, those after a
// name ("" for the first page); limit is at most 1,000, and 0 means 100.
func (s *Packages) List(ctx context.Context, account uint32, after string, limit int) ([]Package, error) {
	all, err := collect(ctx, s.c.read, scanPackage,
		`SELECT `+packageColumns+` FROM packages WHERE account = ? AND name > ? ORDER BY name LIMIT ?`, account, after, page(limit))
	return all, s.c.wrap(fmt.Sprintf("listing packages of account %d", account), err)
}
