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

	"crier/job"
)

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
