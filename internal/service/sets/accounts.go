package sets

import (
	"context"
	"errors"
	"io"
	"strconv"

	"crier/api"
	"crier/audience/members"
	"crier/audience/source"
	"crier/job"
	"crier/state/sql"
)

// CreateAccount implements api.Accounts.
func (s *Sets) CreateAccount(ctx context.Context, req api.CreateAccount) (api.Account, error) {
	c, err := api.CallerOf(ctx)
	if err != nil {
		return api.Account{}, err
	}
	tenant, err := s.OfTenant(ctx, c, req.Tenant)
	if err != nil {
		return api.Account{}, err
	}
	api.ActOf(ctx).On(tenant, "account/"+req.Name)
	a, err := s.Store.Accounts.Of(tenant).Create(ctx, req.Name, nil)
	if err != nil {
		return api.Account{}, err
	}
	return s.describeAccount(ctx, a)
}

// ListAccounts implements api.Accounts.
func (s *Sets) ListAccounts(ctx context.Context, page api.Page) (api.AccountList, error) {
	c, err := api.CallerOf(ctx)
	if err != nil {
		return api.AccountList{}, err
	}
	var from uint64
	if page.Cursor != "" {
		var err error
		if from, err = strconv.ParseUint(page.Cursor, 10, 32); err != nil {
			return api.AccountList{}, job.Invalid("cursor", "that cursor is no account list's; start without one", nil)
		}
	}
	found, err := s.Store.Accounts.Of(c.Scope()).List(ctx, uint32(from), page.Size()+1)
	if err != nil {
		return api.AccountList{}, err
	}
	list := api.AccountList{Accounts: []api.Account{}}
	for i, a := range found {
		if i == page.Size() {
			list.Next = strconv.FormatUint(uint64(a.Number), 10)
			break
		}
		x, err := s.describeAccount(ctx, a)
		if err != nil {
			return list, err
		}
		list.Accounts = append(list.Accounts, x)
	}
	return list, nil
}

// GetAccount implements api.Accounts.
func (s *Sets) GetAccount(ctx context.Context, account string) (api.Account, error) {
	a, err := s.Account(ctx, account)
	if err != nil {
		return api.Account{}, err
	}
	return s.describeAccount(ctx, a)
}

func (s *Sets) describeAccount(ctx context.Context, a sql.Account) (api.Account, error) {
	head, err := s.Members.Head(ctx, members.Followers(a.Number))
	return api.Account{ID: a.Number, Name: a.Name, Tenant: a.Tenant, Followers: head.Cardinality, Revision: head.Revision, CreatedAt: a.CreatedAt}, err
}

// AddFollowers implements api.Followers.
func (s *Sets) AddFollowers(ctx context.Context, account string, ids []job.Recipient) (api.FollowersChange, error) {
	return s.changeFollowers(ctx, account, ids, s.Members.Add)
}

// RemoveFollowers implements api.Followers.
func (s *Sets) RemoveFollowers(ctx context.Context, account string, ids []job.Recipient) (api.FollowersChange, error) {
	return s.changeFollowers(ctx, account, ids, s.Members.Remove)
}

type change func(context.Context, members.Key, []uint32) (members.Result, error)

func (s *Sets) changeFollowers(ctx context.Context, account string, ids []job.Recipient, do change) (api.FollowersChange, error) {
	a, err := s.Account(ctx, account)
	if err != nil {
		return api.FollowersChange{}, err
	}
	r, err := do(ctx, members.Followers(a.Number), plain(ids))
	return api.FollowersChange{Account: a.Name, AccountID: a.Number, Changed: r.Changed, Unchanged: r.Already + r.Repeated,
		Followers: r.Cardinality, Revision: r.Revision}, err
}

func plain(ids []job.Recipient) []uint32 {
	out := make([]uint32, len(ids))
	for i, id := range ids {
		out[i] = uint32(id)
	}
	return out
}

// ImportFollowers implements api.Followers.
func (s *Sets) ImportFollowers(ctx context.Context, req api.ImportFollowers, body io.Reader) (api.FollowersImport, error) {
	if req.Format == api.FormatEdges {
		r, err := s.importEdges(ctx, req, body)
		return r, refused(err)
	}
	a, err := s.Account(ctx, req.Account)
	if err != nil {
		return api.FollowersImport{}, err
	}
	src := source.NewText(source.Input{Name: "input", File: "input", R: io.NopCloser(body), Skip: req.Skip})
	defer src.Close()
	r, err := s.Members.ImportIDs(ctx, members.Followers(a.Number), src)
	return api.FollowersImport{Read: r.Read, Repeated: r.Repeated, Already: r.Already, Added: r.Added, AccountsTouched: touched(r.Added)}, refused(err)
}

// refused words the refusal of a file: where and why, and that nothing was kept.
func refused(err error) error {
	var at *source.SyntaxError
	if errors.As(err, &at) {
		return job.Invalid("file", at.Error()+"; nothing was kept", nil)
	}
	return err
}

func touched(added uint64) uint64 { return min(added, 1) }

func (s *Sets) importEdges(ctx context.Context, req api.ImportFollowers, body io.Reader) (api.FollowersImport, error) {
	c, err := api.CallerOf(ctx)
	if err != nil {
		return api.FollowersImport{}, err
	}
	if req.Account == "" && !c.IsOperator() {
		return api.FollowersImport{}, job.Invalid("account", "edges of all accounts, of whichever tenant, are for the admin key of the data directory; name an account", nil)
	}
	opts := members.EdgeOptions{Skip: req.Skip}
	if req.Account != "" {
		a, err := s.Account(ctx, req.Account)
		if err != nil {
			return api.FollowersImport{}, err
		}
		opts.Account = &a.Number
	}
	r, err := s.Members.ImportEdges(ctx, body, opts)
	return api.FollowersImport{Read: r.Edges, SelfLoops: r.SelfLoops, OtherAccounts: r.OtherAccounts, Repeated: r.Repeated, Already: r.Already,
		Added: r.Added, AccountsCreated: uint64(r.AccountsCreated), AccountsTouched: uint64(r.AccountsTouched)}, err
}
