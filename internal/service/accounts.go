package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"crier/api"
	"crier/audience/members"
	"crier/audience/source"
	"crier/job"
	"crier/state/sql"
)

// CreateAccount implements api.Accounts.
func (s *Service) CreateAccount(ctx context.Context, req api.CreateAccount) (api.Account, error) {
	c, err := api.CallerOf(ctx)
	if err != nil {
		return api.Account{}, err
	}
	tenant, err := s.OfTenant(ctx, c, req.Tenant)
	if err != nil {
		return api.Account{}, err
	}
	api.ActOf(ctx).On(tenant, "account/"+req.Name) // its number comes with the change
	a, err := s.cfg.Store.Accounts.Of(tenant).Create(ctx, req.Name, nil)
	if err != nil {
		return api.Account{}, err
	}
	return s.describeAccount(ctx, a)
}

// ListAccounts implements api.Accounts.
func (s *Service) ListAccounts(ctx context.Context, page api.Page) (api.AccountList, error) {
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
	found, err := s.cfg.Store.Accounts.Of(c.Scope()).List(ctx, uint32(from), page.Size()+1)
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
func (s *Service) GetAccount(ctx context.Context, account string) (api.Account, error) {
	a, err := s.account(ctx, account)
	if err != nil {
		return api.Account{}, err
	}
	return s.describeAccount(ctx, a)
}

func (s *Service) describeAccount(ctx context.Context, a sql.Account) (api.Account, error) {
	head, err := s.cfg.Members.Head(ctx, members.Followers(a.Number))
	return api.Account{ID: a.Number, Name: a.Name, Tenant: a.Tenant, Followers: head.Cardinality, Revision: head.Revision, CreatedAt: a.CreatedAt}, err
}

// AddFollowers implements api.Followers.
func (s *Service) AddFollowers(ctx context.Context, account string, ids []job.Recipient) (api.FollowersChange, error) {
	return s.changeFollowers(ctx, account, ids, s.cfg.Members.Add)
}

// RemoveFollowers implements api.Followers.
func (s *Service) RemoveFollowers(ctx context.Context, account string, ids []job.Recipient) (api.FollowersChange, error) {
	return s.changeFollowers(ctx, account, ids, s.cfg.Members.Remove)
}

type change func(context.Context, members.Key, []uint32) (members.Result, error)

func (s *Service) changeFollowers(ctx context.Context, account string, ids []job.Recipient, do change) (api.FollowersChange, error) {
	a, err := s.account(ctx, account)
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
func (s *Service) ImportFollowers(ctx context.Context, req api.ImportFollowers, body io.Reader) (api.FollowersImport, error) {
	if req.Format == api.FormatEdges {
		r, err := s.importEdges(ctx, req, body)
		return r, refused(err)
	}
	a, err := s.account(ctx, req.Account)
	if err != nil {
		return api.FollowersImport{}, err
	}
	src := source.NewText(source.Input{Name: "input", File: "input", R: io.NopCloser(body), Skip: req.Skip})
	defer src.Close()
	r, err := s.cfg.Members.ImportIDs(ctx, members.Followers(a.Number), src)
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

func (s *Service) importEdges(ctx context.Context, req api.ImportFollowers, body io.Reader) (api.FollowersImport, error) {
	c, err := api.CallerOf(ctx)
	if err != nil {
		return api.FollowersImport{}, err
	}
	if req.Account == "" && !c.IsOperator() {
		return api.FollowersImport{}, job.Invalid("account", "edges of all accounts, of whichever tenant, are for the admin key of the data directory; name an account", nil)
	}
	opts := members.EdgeOptions{Skip: req.Skip}
	if req.Account != "" {
		a, err := s.account(ctx, req.Account)
		if err != nil {
			return api.FollowersImport{}, err
		}
		opts.Account = &a.Number
	}
	r, err := s.cfg.Members.ImportEdges(ctx, body, opts)
	return api.FollowersImport{Read: r.Edges, SelfLoops: r.SelfLoops, OtherAccounts: r.OtherAccounts, Repeated: r.Repeated, Already: r.Already,
		Added: r.Added, AccountsCreated: uint64(r.AccountsCreated), AccountsTouched: uint64(r.AccountsTouched)}, err
}

// AddSuppressed implements api.Suppression.
func (s *Service) AddSuppressed(ctx context.Context, req api.SuppressionChange) (api.SuppressionList, error) {
	return s.changeSuppression(ctx, req, s.cfg.Members.Add)
}

// RemoveSuppressed implements api.Suppression.
func (s *Service) RemoveSuppressed(ctx context.Context, req api.SuppressionChange) (api.SuppressionList, error) {
	return s.changeSuppression(ctx, req, s.cfg.Members.Remove)
}

func (s *Service) changeSuppression(ctx context.Context, req api.SuppressionChange, do change) (api.SuppressionList, error) {
	list, key, err := s.suppression(ctx, req.Account)
	if err != nil {
		return list, err
	}
	r, err := do(ctx, key, plain(req.IDs))
	list.Entries, list.Changed, list.Revision = r.Cardinality, r.Changed, r.Revision
	return list, err
}

// GetSuppression implements api.Suppression.
func (s *Service) GetSuppression(ctx context.Context, account string) (api.SuppressionList, error) {
	list, key, err := s.suppression(ctx, account)
	if err != nil {
		return list, err
	}
	head, err := s.cfg.Members.Head(ctx, key)
	list.Entries, list.Revision = head.Cardinality, head.Revision
	return list, err
}

// suppression names a list: an account's, or the global one.
func (s *Service) suppression(ctx context.Context, account string) (api.SuppressionList, members.Key, error) {
	if account == "" {
		c, err := api.CallerOf(ctx)
		if err == nil && !c.IsOperator() {
			err = &job.Error{Code: job.CodeDenied, Field: "account", Message: "the global list is for the admin key of the data directory only; name an account"}
		}
		api.ActOf(ctx).On(job.DefaultTenant, "suppression/global")
		return api.SuppressionList{}, members.GlobalSuppression(), err
	}
	a, err := s.account(ctx, account)
	if err != nil {
		return api.SuppressionList{}, members.Key{}, err
	}
	api.ActOf(ctx).On(a.Tenant, fmt.Sprintf("suppression/%d", a.Number))
	return api.SuppressionList{Account: a.Name, AccountID: &a.Number}, members.Suppression(a.Number), nil
}
