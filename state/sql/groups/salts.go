package groups

import (
	"context"
	"crypto/rand"
	dbsql "database/sql"
	"errors"
	"fmt"

	"crier/job"
	"crier/state/sql/engine"
)

// Salts keeps the accounts' salts.
type Salts struct{ e *engine.Engine }

// NewSalts makes the store of a database.
func NewSalts(e *engine.Engine) *Salts { return &Salts{e} }

// Make gives a salt to each account that has none, at most some hundreds at once. It is
// part of the transaction that makes them, and idempotent.
func (s *Salts) Make(ctx context.Context, tx *dbsql.Tx, accounts ...uint32) error {
	args := make([]any, 0, 2*len(accounts))
	for _, a := range accounts {
		salt := newSalt()
		args = append(args, a, salt[:])
	}
	_, err := tx.ExecContext(ctx, s.e.InsertIgnore()+` INTO account_salts (account, salt) VALUES `+engine.Tuples(len(accounts), 2), args...)
	return err
}

func newSalt() (salt job.Digest) {
	rand.Read(salt[:]) // never fails
	return salt
}

// Of gives the salt of an account that exists. Whoever else asks gets the same, also
// where the account is older than salts and the first who asks makes it.
func (s *Salts) Of(ctx context.Context, account uint32) (job.Digest, error) {
	salt, err := s.read(ctx, account)
	if errors.Is(err, dbsql.ErrNoRows) {
		err = s.e.Tx(ctx, func(ctx context.Context, tx *dbsql.Tx) error { return s.Make(ctx, tx, account) })
		if err == nil {
			salt, err = s.read(ctx, account)
		}
	}
	return salt, s.e.Wrap(fmt.Sprintf("reading the salt of account %d", account), err)
}

func (s *Salts) read(ctx context.Context, account uint32) (salt job.Digest, err error) {
	var b []byte
	if err := s.e.Reader().QueryRowContext(ctx, `SELECT salt FROM account_salts WHERE account = ?`, account).Scan(&b); err != nil {
		return salt, err
	}
	if len(b) != len(salt) {
		return salt, fmt.Errorf("the salt has %d bytes, not %d; restore the SQL store", len(b), len(salt))
	}
	return job.Digest(b), nil
}
