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
	"unicode"
	"unicode/utf8"

	"crier/job"
	"crier/state/sql/engine"
)

// MaxName is the longest name of an account, in bytes.
const MaxName = 100

// bulk is the number of rows that one statement inserts or looks up.
const bulk = 500

// nextAccount is the mark below which every account number is taken.
const nextAccount = "accounts.next"

// Account is a sender with its followers.
type Account struct {
	Number    uint32    `json:"number"`
	Tenant    string    `json:"tenant"`
	Name      string    `json:"name"`
	CreatedAt time.Time `json:"created_at"`
}

// Accounts keeps the accounts. They are never deleted and their numbers never
// used again. A name of digits only is the account's own number, so that what a
// user writes names one account, be it a name or a number. Names are unique in a
// tenant, numbers everywhere; only the default tenant has names of digits, for whoever
// took one would learn that a number is free.
type Accounts struct {
	c      *conn
	tenant string // whose accounts these are; "": all, and the default tenant's by name
}

// Of gives the part that a tenant sees: what another one has is not there.
func (s *Accounts) Of(tenant string) *Accounts { return &Accounts{s.c, tenant} }

// own is the tenant that names belong to.
func own(tenant string) string { return cmp.Or(tenant, job.DefaultTenant) }

// numberName is the name that an account gets that was never named.
func numberName(number uint32) string { return strconv.FormatUint(uint64(number), 10) }

// checkName refuses a name that no account can have. If the name is a number,
// that is the account's number and returned.
func checkName(tenant, name string, number *uint32) (*uint32, error) {
	switch {
	case name == "" || len(name) > MaxName:
		return nil, job.Invalid("name", fmt.Sprintf("an account's name has 1 to %d bytes, not %d", MaxName, len(name)), nil)
	case !utf8.ValidString(name):
		return nil, job.Invalid("name", fmt.Sprintf("account name %q is not UTF-8", name), nil)
	case strings.TrimSpace(name) != name || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
		return nil, job.Invalid("name", fmt.Sprintf("account name %q has space around it or characters that cannot be printed", name), nil)
	}
	if !digitsOnly(name) {
		return number, nil
	}
	if own(tenant) != job.DefaultTenant {
		return nil, job.Invalid("name", fmt.Sprintf("account name %q is of digits only, which only the tenant %s may have", name, job.DefaultTenant), nil)
	}
	own, err := job.ParseRecipient(name)
	if err != nil || numberName(uint32(own)) != name || number != nil && *number != uint32(own) {
		return nil, job.Invalid("name", fmt.Sprintf("account name %q is of digits only: then it must be the account's own number", name), nil)
	}
	n := uint32(own)
	return &n, nil
}

func digitsOnly(s string) bool { return strings.Trim(s, "0123456789") == "" }

func nameTaken(a Account) error {
	return &job.Error{Code: job.CodeConflict, Field: "name", Message: fmt.Sprintf("account name %q belongs to account %d", a.Name, a.Number)}
}

func numberTaken(a Account) error {
	return &job.Error{Code: job.CodeConflict, Field: "name", Message: fmt.Sprintf("account number %d is taken; another name is needed", a.Number)} // maybe by another tenant's
}

// Create makes an account; without a number it gets the smallest one, from 1,
// that nobody has. A name or number that is taken is job.CodeConflict. If the answer
// of a commit was lost, it is read back whether the account was made.
func (s *Accounts) Create(ctx context.Context, name string, number *uint32) (Account, error) {
	number, err := checkName(s.tenant, name, number)
	if err != nil {
		return Account{}, err
	}
	at, tenant := s.c.now().UTC(), own(s.tenant)
	var made Account
	err = s.c.TxReadBack(ctx, func(ctx context.Context, tx *dbsql.Tx, unknown bool) error {
		old, err := accountBy(ctx, tx, `tenant = ? AND name = ?`, tenant, name)
		switch {
		case err == nil && unknown && nanos(old.CreatedAt) == nanos(at) && (number == nil || *number == old.Number):
			made = old
			return nil
		case err == nil:
			return nameTaken(old)
		case !errors.Is(err, dbsql.ErrNoRows):
			return err
		}
		made = Account{Tenant: tenant, Name: name, CreatedAt: at}
		if made.Number, err = s.c.numberFor(ctx, tx, number); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO accounts (number, tenant, name, created_at) VALUES (?, ?, ?, ?)`,
			made.Number, made.Tenant, made.Name, nanos(made.CreatedAt))
		if err != nil {
			return s.c.raced(err)
		}
		return s.c.salts.Make(ctx, tx, made.Number)
	})
	if err != nil {
		return Account{}, s.c.wrap("creating account "+name, err)
	}
	return made, nil
}

// numberFor gives the number that is wanted, if it is free, or one that is.
func (c *conn) numberFor(ctx context.Context, tx *dbsql.Tx, wanted *uint32) (uint32, error) {
	if wanted == nil {
		return c.freeNumber(ctx, tx)
	}
	old, err := accountBy(ctx, tx, `number = ?`, *wanted)
	if err == nil {
		return 0, numberTaken(old)
	}
	if !errors.Is(err, dbsql.ErrNoRows) {
		return 0, err
	}
	return *wanted, nil
}

// freeNumber finds the smallest unused number from 1 and notes that all below
// the next one are taken, so that many creations do not search the same ground.
func (c *conn) freeNumber(ctx context.Context, tx *dbsql.Tx) (uint32, error) {
	from, err := engine.Mark(ctx, tx, nextAccount, c.ForUpdate())
	if err != nil {
		return 0, err
	}
	free := max(from, 1)
	for {
		taken, err := collect(ctx, tx, func(r scanner) (n uint64, err error) { return n, r.Scan(&n) },
			`SELECT number FROM accounts WHERE number >= ? ORDER BY number LIMIT ?`, free, bulk)
		if err != nil {
			return 0, err
		}
		before := free
		for _, n := range taken {
			if n != free {
				break
			}
			free++
		}
		if free-before < bulk {
			break
		}
	}
	if free > 1<<32-1 {
		return 0, job.Conflict("every account number is taken")
	}
	return uint32(free), c.RaiseMark(ctx, tx, nextAccount, free+1)
}

// CreateMissing makes an account of the default tenant, named by its number, for each
// number that has none, and tells how many it made. It is idempotent.
func (s *Accounts) CreateMissing(ctx context.Context, numbers []uint32) (created int, err error) {
	err = s.c.tx(ctx, "creating accounts", func(ctx context.Context, tx *dbsql.Tx) error {
		created = 0
		for chunk := range slices.Chunk(numbers, bulk) {
			n, err := s.c.createMissing(ctx, tx, chunk)
			if err != nil {
				return err
			}
			created += n
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return created, nil
}

// createMissing is CreateMissing for at most bulk numbers.
func (c *conn) createMissing(ctx context.Context, tx *dbsql.Tx, numbers []uint32) (int, error) {
	at := nanos(c.now())
	args := make([]any, 0, 4*len(numbers))
	for _, n := range numbers {
		args = append(args, n, job.DefaultTenant, numberName(n), at)
	}
	res, err := tx.ExecContext(ctx, c.InsertIgnore()+
		` INTO accounts (number, tenant, name, created_at) VALUES `+tuples(len(numbers), 4), args...)
	if err != nil {
		return 0, err
	}
	n, err := res.RowsAffected()
	if err != nil || n == 0 {
		return 0, err
	}
	return int(n), c.salts.Make(ctx, tx, numbers...)
}

func scanAccount(r scanner) (a Account, err error) {
	var at int64
	err = r.Scan(&a.Number, &a.Tenant, &a.Name, &at)
	a.CreatedAt = fromNanos(at)
	return a, err
}

// accountBy finds one account, or sql.ErrNoRows. The condition is a constant.
func accountBy(ctx context.Context, q querier, condition string, args ...any) (Account, error) {
	return scanAccount(q.QueryRowContext(ctx, `SELECT number, tenant, name, created_at FROM accounts WHERE `+condition, args...))
}

// Get gives the account with a number, or job.CodeNotFound.
func (s *Accounts) Get(ctx context.Context, number uint32) (Account, error) {
	a, err := accountBy(ctx, s.c.read, `number = ?`, number)
	if errors.Is(err, dbsql.ErrNoRows) || err == nil && s.tenant != "" && a.Tenant != s.tenant {
		return Account{}, noAccount(numberName(number))
	}
	return a, s.c.wrap("looking for account "+numberName(number), err)
}

// Find gives the account with a name or, if digits only are given, a number; or
// job.CodeNotFound.
func (s *Accounts) Find(ctx context.Context, nameOrNumber string) (Account, error) {
	if digitsOnly(nameOrNumber) {
		n, err := job.ParseRecipient(nameOrNumber)
		if err != nil || numberName(uint32(n)) != nameOrNumber {
			return Account{}, noAccount(nameOrNumber)
		}
		return s.Get(ctx, uint32(n))
	}
	a, err := accountBy(ctx, s.c.read, `tenant = ? AND name = ?`, own(s.tenant), nameOrNumber)
	if errors.Is(err, dbsql.ErrNoRows) {
		return Account{}, noAccount(nameOrNumber)
	}
	return a, s.c.wrap(fmt.Sprintf("looking for account %q", nameOrNumber), err)
}

func noAccount(nameOrNumber string) error {
	return &job.Error{Code: job.CodeNotFound, Field: "account", Message: fmt.Sprintf("there is no account %q; create it first", nameOrNumber)}
}

// List gives accounts in ascending order of number, starting with from; limit is
// at most 1,000, and 0 means 100.
func (s *Accounts) List(ctx context.Context, from uint32, limit int) ([]Account, error) {
	where, args := "number >= ?", []any{from}
	if s.tenant != "" {
		where, args = where+" AND tenant = ?", append(args, s.tenant)
	}
	all, err := collect(ctx, s.c.read, scanAccount,
		`SELECT number, tenant, name, created_at FROM accounts WHERE `+where+` ORDER BY number LIMIT ?`, append(args, page(limit))...)
	return all, s.c.wrap("listing accounts", err)
}

// Count tells how many accounts there are.
func (s *Accounts) Count(ctx context.Context) (n uint64, err error) {
	err = s.c.read.QueryRowContext(ctx, `SELECT COUNT(*) FROM accounts`).Scan(&n)
	return n, s.c.wrap("counting accounts", err)
}
