package sql

import (
	"cmp"
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"crier/job"
	"crier/state/sql/engine"
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
	return &job.Error{Code: job.CodeConflict, Field: "name", Message: fmt.Sprintf("account %d has another package by the name %q (set %s); give this one another name",
		p.Account, p.Name, old.Set)}
}

func scanPackage(r scanner) (p Package, err error) {
	var at int64
	err = r.Scan(&p.Account, &p.Name, engine.Digest{D: &p.Set}, engine.Digest{D: &p.Blob}, &p.Cardinality, &p.Min, &p.Max, &p.Repeated, &p.Bytes, &at)
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

// packageCursor marks a place between two packages, the newest first.
type packageCursor struct {
	created int64
	account uint32
	name    string
}

func (c packageCursor) String() string {
	return fmt.Sprintf("%d.%d.%s", c.created, c.account, c.name)
}

func parsePackageCursor(s string) (c packageCursor, err error) {
	if s == "" {
		return packageCursor{created: 1<<63 - 1}, nil
	}
	created, rest, ok1 := strings.Cut(s, ".")
	account, name, ok2 := strings.Cut(rest, ".")
	at, err1 := strconv.ParseInt(created, 10, 64)
	number, err2 := strconv.ParseUint(account, 10, 32)
	if !ok1 || !ok2 || err1 != nil || err2 != nil {
		return c, job.Invalid("cursor", fmt.Sprintf("cursor %q is none that a list gave", s), nil)
	}
	return packageCursor{at, uint32(number), name}, nil
}

// packageCursorOf is the cursor for what follows a package.
func packageCursorOf(p Package) string {
	return packageCursor{nanos(p.CreatedAt), p.Account, p.Name}.String()
}

// Newest gives packages, those imported last first, of one account or (nil) of
// all, and the cursor for the next page, "" if this was the last; limit is as List's.
func (s *Packages) Newest(ctx context.Context, account *uint32, cursor string, limit int) ([]Package, string, error) {
	c, err := parsePackageCursor(cursor)
	if err != nil {
		return nil, "", err
	}
	where, args := s.ofTenant()
	if account != nil {
		where, args = where+"account = ? AND ", append(args, *account)
	}
	args = append(args, c.created, c.created, c.account, c.account, c.name, page(limit)+1)
	all, err := collect(ctx, s.c.read, scanPackage, `SELECT `+packageColumns+` FROM packages WHERE `+where+
		`(created_at < ? OR (created_at = ? AND (account > ? OR (account = ? AND name > ?)))) ORDER BY created_at DESC, account, name LIMIT ?`, args...)
	if err != nil {
		return nil, "", s.c.wrap("listing packages", err)
	}
	all, next := cutPage(all, page(limit), packageCursorOf)
	return all, next, nil
}

// BySet gives a package by the digest of its set, whichever account has it, the
// one imported first; or job.CodeNotFound.
func (s *Packages) BySet(ctx context.Context, set job.Digest) (Package, error) {
	where, args := s.ofTenant()
	p, err := packageBy(ctx, s.c.read, where+`set_digest = ? ORDER BY created_at, account, name LIMIT 1`, append(args, set[:])...)
	if errors.Is(err, dbsql.ErrNoRows) {
		return Package{}, noPackageAnywhere(set)
	}
	return p, s.c.wrap("looking for package "+set.String(), err)
}

func noPackageAnywhere(set job.Digest) error {
	return job.NotFound(fmt.Sprintf("there is no package %s; import it first", set))
}

// allLocked lists packages, those imported last first.
func (s *MemoryPackages) allLocked(account *uint32) []Package {
	var all []Package
	for _, p := range s.m.packages {
		if (account == nil || p.Account == *account) && (s.tenant == "" || s.m.byNumber[p.Account].Tenant == s.tenant) {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b Package) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(a.Account, b.Account), cmp.Compare(a.Name, b.Name))
	})
	return all
}

// Newest is as Packages'.
func (s *MemoryPackages) Newest(_ context.Context, account *uint32, cursor string, limit int) ([]Package, string, error) {
	c, err := parsePackageCursor(cursor)
	if err != nil {
		return nil, "", err
	}
	s.m.Lock()
	defer s.m.Unlock()
	all := slices.DeleteFunc(s.allLocked(account), func(p Package) bool {
		return cmp.Or(cmp.Compare(c.created, nanos(p.CreatedAt)), cmp.Compare(p.Account, c.account), cmp.Compare(p.Name, c.name)) <= 0
	})
	all, next := cutPage(all, page(limit), packageCursorOf)
	return all, next, nil
}

// BySet is as Packages'.
func (s *MemoryPackages) BySet(_ context.Context, set job.Digest) (Package, error) {
	s.m.Lock()
	defer s.m.Unlock()
	same := slices.DeleteFunc(s.allLocked(nil), func(p Package) bool { return p.Set != set })
	if len(same) == 0 {
		return Package{}, noPackageAnywhere(set)
	}
	return slices.MinFunc(same, func(a, b Package) int { // the first of equal ones
		return a.CreatedAt.Compare(b.CreatedAt)
	}), nil
}
