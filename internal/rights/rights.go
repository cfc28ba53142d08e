// Package rights is who may use the server, and who did what: it implements api.Access on
// the store of keys, tenants and the audit log.
//
// It guarantees that a caller sees and changes what is its tenant's only, and that a key
// is shown when it is made, and is not kept.
package rights

import (
	"cmp"
	"context"
	"crypto/rand"
	"strconv"
	"time"

	"crier/api"
	"crier/internal/auth"
	"crier/internal/webhook"
	"crier/job"
	"crier/state/sql/access"
	"crier/state/sql/hooks"
)

// Authority knows which keys are in force.
type Authority interface {
	// Refresh takes in what was changed of keys and tenants.
	Refresh(ctx context.Context) error
}

// Rights implements api.Access.
type Rights struct {
	Store     *access.Store
	Hooks     *hooks.Store
	Authority Authority
	// UnderWay counts each tenant's jobs that are neither sent nor over.
	UnderWay func() map[string]uint64
}

var _ api.Access = (*Rights)(nil)

// now is the time as it is recorded.
func now() time.Time { return time.Now().UTC().Round(0) }

// OfTenant is the tenant that is asked for, which is the caller's if none is, and there
// for it.
func (s *Rights) OfTenant(ctx context.Context, c api.Caller, name string) (string, error) {
	name = cmp.Or(name, c.Tenant)
	if !c.Sees(name) {
		return "", api.NoTenant(name)
	}
	if name == job.DefaultTenant || name == c.Tenant {
		return name, nil
	}
	t, err := s.Store.GetTenant(ctx, name)
	return t.Name, err
}

// changed takes in at once what this process changed; the others see it soon.
func (s *Rights) changed(ctx context.Context) { _ = s.Authority.Refresh(ctx) } // it is looked for again soon

// Self implements api.Access.
func (s *Rights) Self(ctx context.Context) (api.Key, error) {
	c, err := api.CallerOf(ctx)
	return api.Key{ID: c.Key, Name: c.Name, Role: c.Role, Tenant: c.Tenant, Recipient: c.Recipient}, err
}

func describeKey(k access.Key) api.Key {
	return api.Key{ID: k.ID, Name: k.Name, Role: k.Role, Tenant: k.Tenant, Recipient: k.Recipient, CreatedAt: k.CreatedAt, CreatedBy: k.CreatedBy,
		UsedAt: k.UsedAt, RevokedAt: k.RevokedAt}
}

// CreateKey implements api.Access. Of the key itself only the SHA-256 is kept.
func (s *Rights) CreateKey(ctx context.Context, req api.CreateKey) (api.NewKey, error) {
	c, err := api.CallerOf(ctx)
	if err != nil {
		return api.NewKey{}, err
	}
	tenant, err := s.OfTenant(ctx, c, req.Tenant)
	if err != nil {
		return api.NewKey{}, err
	}
	secret, err := auth.NewKey(rand.Reader)
	if err != nil {
		return api.NewKey{}, err
	}
	var random [10]byte
	rand.Read(random[:]) // never fails
	k := access.Key{ID: api.NewKeyID(now(), random), Hash: auth.HashKey(secret), Name: req.Name, Role: req.Role, Tenant: tenant, Recipient: req.Recipient, CreatedBy: c.Key}
	api.ActOf(ctx).On(tenant, "key/"+k.ID)
	if k, err = s.Store.CreateKey(ctx, k); err != nil {
		return api.NewKey{}, err
	}
	s.changed(ctx)
	return api.NewKey{Key: describeKey(k), Secret: secret}, nil
}

// page gives a list and its next cursor, of what was found when one more was looked for.
func page[T, O any](found []T, size int, describe func(T) O, cursor func(T) string) (items []O, next string) {
	items = []O{}
	for i, x := range found {
		if i == size {
			return items, cursor(found[i-1])
		}
		items = append(items, describe(x))
	}
	return items, ""
}

// ListKeys implements api.Access.
func (s *Rights) ListKeys(ctx context.Context, tenant string, p api.Page) (api.KeyList, error) {
	c, err := api.CallerOf(ctx)
	if err != nil {
		return api.KeyList{}, err
	}
	if tenant == "" {
		tenant = c.Scope()
	} else if tenant, err = s.OfTenant(ctx, c, tenant); err != nil {
		return api.KeyList{}, err
	}
	found, err := s.Store.ListKeys(ctx, tenant, p.Cursor, p.Size()+1)
	var list api.KeyList
	list.Keys, list.Next = page(found, p.Size(), describeKey, func(k access.Key) string { return k.ID })
	return list, err
}

// RevokeKey implements api.Access.
func (s *Rights) RevokeKey(ctx context.Context, id string) (api.Key, error) {
	act := api.ActOf(ctx)
	c, err := api.CallerOf(ctx)
	if err == nil {
		err = api.ValidateKeyID(id)
	}
	if err != nil {
		act.On(act.Tenant, "key/") // what was given may be a key, which the log is not to have
		return api.Key{}, err
	}
	found, err := s.Store.GetKey(ctx, c.Scope(), id)
	if err != nil {
		return api.Key{}, err
	}
	act.On(found.Tenant, "key/"+id)
	k, err := s.Store.RevokeKey(ctx, c.Scope(), id)
	if err != nil {
		return api.Key{}, err
	}
	s.changed(ctx)
	return describeKey(k), nil
}

// RevokeDevices ends all keys of a recipient's devices, whoever's they are, and tells how many
// were in force.
func (s *Rights) RevokeDevices(ctx context.Context, who job.Recipient) (n int, err error) {
	if n, err = s.Store.RevokeOf(ctx, who); n > 0 && err == nil {
		s.changed(ctx)
	}
	return n, err
}

func (s *Rights) describeTenant(t access.Tenant) api.Tenant {
	return describeTenant(t, s.UnderWay())
}

func describeTenant(t access.Tenant, underWay map[string]uint64) api.Tenant {
	return api.Tenant{Name: t.Name, CreatedAt: t.CreatedAt, Limits: t.Limits, Jobs: underWay[t.Name]}
}

// CreateTenant implements api.Access.
func (s *Rights) CreateTenant(ctx context.Context, req api.CreateTenant) (api.Tenant, error) {
	api.ActOf(ctx).On(req.Name, "tenant/"+req.Name)
	t, err := s.Store.CreateTenant(ctx, req.Name, req.Limits)
	if err != nil {
		return api.Tenant{}, err
	}
	s.changed(ctx)
	return s.describeTenant(t), nil
}

// ListTenants implements api.Access.
func (s *Rights) ListTenants(ctx context.Context, p api.Page) (api.TenantList, error) {
	found, err := s.Store.ListTenants(ctx, p.Cursor, p.Size()+1)
	var list api.TenantList
	underWay := s.UnderWay()
	list.Tenants, list.Next = page(found, p.Size(), func(t access.Tenant) api.Tenant { return describeTenant(t, underWay) }, func(t access.Tenant) string { return t.Name })
	return list, err
}

// GetTenant implements api.Access.
func (s *Rights) GetTenant(ctx context.Context, name string) (api.Tenant, error) {
	c, err := api.CallerOf(ctx)
	if err != nil {
		return api.Tenant{}, err
	}
	if !c.Sees(name) {
		return api.Tenant{}, api.NoTenant(name)
	}
	t, err := s.Store.GetTenant(ctx, name)
	if err != nil {
		return api.Tenant{}, err
	}
	return s.describeTenant(t), nil
}

// SetLimits implements api.Access.
func (s *Rights) SetLimits(ctx context.Context, name string, req api.SetLimits) (api.Tenant, error) {
	if !job.ValidName(name) {
		return api.Tenant{}, api.NoTenant(name)
	}
	api.ActOf(ctx).On(name, "tenant/"+name)
	t, err := s.Store.SetLimits(ctx, name, req.Apply)
	if err != nil {
		return api.Tenant{}, err
	}
	s.changed(ctx)
	return s.describeTenant(t), nil
}

// MakeWebhookSecret implements api.Access. Requests are signed with the secret itself, so
// that it is kept.
func (s *Rights) MakeWebhookSecret(ctx context.Context, tenant string) (api.WebhookSecret, error) {
	c, err := api.CallerOf(ctx)
	if err != nil {
		return api.WebhookSecret{}, err
	}
	if !job.ValidName(tenant) {
		return api.WebhookSecret{}, api.NoTenant(tenant)
	}
	if tenant, err = s.OfTenant(ctx, c, tenant); err != nil {
		return api.WebhookSecret{}, err
	}
	secret := make(webhook.Secret, webhook.SecretBytes)
	rand.Read(secret) // never fails
	api.ActOf(ctx).On(tenant, "tenant/"+tenant)
	former, err := s.Hooks.MakeSecret(ctx, tenant, secret)
	return api.WebhookSecret{Tenant: tenant, Secret: secret.String(), Former: former}, err
}

// ListAudit implements api.Access.
func (s *Rights) ListAudit(ctx context.Context, req api.ListAudit) (api.AuditList, error) {
	list := api.AuditList{Acts: []api.AuditEntry{}}
	c, err := api.CallerOf(ctx)
	if err != nil || req.Tenant != "" && !c.Sees(req.Tenant) {
		return list, err
	}
	f := access.Filter{Tenant: cmp.Or(req.Tenant, c.Scope()), Key: req.Key, Operation: req.Operation, Object: req.Object, Result: req.Result, Limit: req.Size() + 1}
	if req.Within != 0 {
		f.Since = now().Add(-time.Duration(req.Within))
	}
	if req.Cursor != "" {
		if f.Before, err = strconv.ParseUint(req.Cursor, 10, 63); err != nil || f.Before == 0 {
			return list, job.Invalid("cursor", "that cursor is no audit log's; start without one", nil)
		}
	}
	found, err := s.Store.List(ctx, f)
	list.Acts, list.Next = page(found, req.Size(), describeAct, func(a access.Act) string { return strconv.FormatUint(a.Seq, 10) })
	return list, err
}

func describeAct(a access.Act) api.AuditEntry {
	return api.AuditEntry{Seq: a.Seq, At: a.At, Tenant: a.Tenant, Key: a.Key, KeyName: a.KeyName, Operation: a.Operation, Object: a.Object,
		Result: a.Result, Reason: a.Reason, Request: a.Request, Detail: a.Detail}
}
