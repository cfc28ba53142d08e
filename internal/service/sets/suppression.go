package sets

import (
	"context"
	"io"
	"strconv"

	"crier/api"
	"crier/audience/members"
	"crier/job"
)

// AddSuppressed implements api.Suppression.
func (s *Sets) AddSuppressed(ctx context.Context, req api.SuppressionChange) (api.SuppressionList, error) {
	return s.changeSuppression(ctx, req, s.Members.Add)
}

// RemoveSuppressed implements api.Suppression.
func (s *Sets) RemoveSuppressed(ctx context.Context, req api.SuppressionChange) (api.SuppressionList, error) {
	return s.changeSuppression(ctx, req, s.Members.Remove)
}

func (s *Sets) changeSuppression(ctx context.Context, req api.SuppressionChange, do change) (api.SuppressionList, error) {
	list, key, err := s.suppression(ctx, req.Account)
	if err != nil {
		return list, err
	}
	r, err := do(ctx, key, plain(req.IDs))
	list.Entries, list.Changed, list.Revision = r.Cardinality, r.Changed, r.Revision
	return list, err
}

// GetSuppression implements api.Suppression.
func (s *Sets) GetSuppression(ctx context.Context, account string) (api.SuppressionList, error) {
	list, key, err := s.suppression(ctx, account)
	if err != nil {
		return list, err
	}
	head, err := s.Members.Head(ctx, key)
	list.Entries, list.Revision = head.Cardinality, head.Revision
	return list, err
}

// suppression names a list: an account's, or the global one.
func (s *Sets) suppression(ctx context.Context, account string) (api.SuppressionList, members.Key, error) {
	if account == "" {
		c, err := api.CallerOf(ctx)
		if err == nil && !c.IsOperator() {
			err = &job.Error{Code: job.CodeDenied, Field: "account", Message: "the global list is for the admin key of the data directory only; name an account"}
		}
		api.ActOf(ctx).On(job.DefaultTenant, "suppression/global")
		return api.SuppressionList{}, members.GlobalSuppression(), err
	}
	a, err := s.Account(ctx, account)
	if err != nil {
		return api.SuppressionList{}, members.Key{}, err
	}
	api.ActOf(ctx).On(a.Tenant, "suppression/account/"+a.Name)
	return api.SuppressionList{Account: a.Name, AccountID: &a.Number}, members.Suppression(a.Number), nil
}

// ImportSuppressed implements api.Suppression.
func (s *Sets) ImportSuppressed(ctx context.Context, account string, req api.ImportIDs, body io.Reader) (api.IDsImport, error) {
	_, key, err := s.suppression(ctx, account)
	if err != nil {
		return api.IDsImport{}, err
	}
	return s.importIDs(ctx, key, req, body)
}

// ListSuppression implements api.Suppression. The first page begins with the global list;
// a cursor is the account that comes next.
func (s *Sets) ListSuppression(ctx context.Context, page api.Page) (api.SuppressionLists, error) {
	list := api.SuppressionLists{Lists: []api.SuppressionList{}}
	if err := page.Validate(); err != nil {
		return list, err
	}
	c, err := api.CallerOf(ctx)
	if err != nil {
		return list, err
	}
	from := uint64(0)
	if page.Cursor != "" {
		if from, err = strconv.ParseUint(page.Cursor, 10, 32); err != nil {
			return list, job.Invalid("cursor", "that cursor is no list's of suppression lists; start without one", nil)
		}
	} else if c.IsOperator() {
		if err := s.globalList(ctx, &list); err != nil {
			return list, err
		}
	}
	most := page.Size() - len(list.Lists)
	heads, err := s.Store.Sets.Scan(ctx, members.KindSuppression, uint32(from), most+1)
	if err != nil {
		return list, err
	}
	for i, h := range heads {
		if i == most {
			list.Next = strconv.FormatUint(uint64(h.Owner), 10)
			break
		}
		a, err := s.Store.Accounts.Of(c.Scope()).Get(ctx, h.Owner)
		if err != nil && job.CodeOf(err) == job.CodeNotFound {
			continue // another tenant's: a page may have fewer than it was asked for
		}
		if err != nil {
			return list, err
		}
		list.Lists = append(list.Lists, api.SuppressionList{Account: a.Name, AccountID: &a.Number, Entries: h.Cardinality, Revision: h.Revision})
	}
	return list, nil
}

// globalList begins a list of lists.
func (s *Sets) globalList(ctx context.Context, list *api.SuppressionLists) error {
	global, err := s.GetSuppression(ctx, "")
	if err == nil && global.Revision > 0 {
		list.Lists = append(list.Lists, global)
	}
	return err
}
