// Package sets is what the server can be asked about sets of recipients: it implements
// api.Accounts, api.Followers, api.Segments, api.Suppression and api.Packages on the
// stores.
//
// It guarantees that what belongs to another tenant than the caller's is answered as what
// is not there, and that a file that is refused leaves nothing behind.
package sets

import (
	"context"

	"crier/api"
	"crier/audience/members"
	"crier/job"
	"crier/state/blob"
	"crier/state/sql"
)

// Sets implements the operations on sets. All methods are safe for concurrent use.
type Sets struct {
	Store   *sql.DB
	Blobs   *blob.Dir
	Members *members.Store
	// OfTenant is the tenant that is asked for, if the caller sees it.
	OfTenant func(ctx context.Context, c api.Caller, name string) (string, error)
	// Scratch is a directory on the disk of the blobs, for uploads under way.
	Scratch string
}

// Account finds an account that the caller sees, by its name or number.
func (s *Sets) Account(ctx context.Context, name string) (sql.Account, error) {
	c, err := api.CallerOf(ctx)
	if err != nil {
		return sql.Account{}, err
	}
	if name == "" {
		return sql.Account{}, job.Invalid("account", "an account is needed", nil)
	}
	a, err := s.Store.Accounts.Of(c.Scope()).Find(ctx, name)
	if err == nil {
		api.ActOf(ctx).On(a.Tenant, "account/"+a.Name)
	}
	return a, err
}
