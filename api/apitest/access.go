package apitest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"crier/api"
	"crier/job"
)

// who is the caller, or the admin of everything if nobody says who asks.
func who(ctx context.Context) api.Caller {
	if c, err := api.CallerOf(ctx); err == nil {
		return c
	}
	return api.Operator()
}

// Self implements api.Service.
func (f *Fake) Self(ctx context.Context) (api.Key, error) {
	if err := f.enter("Self"); err != nil {
		return api.Key{}, err
	}
	c := who(ctx)
	return api.Key{ID: c.Key, Name: c.Name, Role: c.Role, Tenant: c.Tenant, Recipient: c.Recipient}, nil
}

// CreateKey implements api.Service with keys that open nothing.
func (f *Fake) CreateKey(ctx context.Context, req api.CreateKey) (api.NewKey, error) {
	if err := f.enter("CreateKey"); err != nil {
		return api.NewKey{}, err
	}
	c := who(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	if req.Tenant == "" {
		req.Tenant = c.Tenant
	}
	if _, err := f.tenantLocked(req.Tenant); err != nil || !c.Sees(req.Tenant) {
		return api.NewKey{}, api.NoTenant(req.Tenant)
	}
	k := api.Key{ID: api.NewKeyID(f.Now(), [10]byte{9: byte(len(f.mu.keys) + 1)}), Name: req.Name, Role: req.Role, Tenant: req.Tenant, Recipient: req.Recipient,
		CreatedAt: f.Now(), CreatedBy: c.Key}
	f.mu.keys = append(f.mu.keys, k)
	f.auditLocked(ctx, "create-key", k.Tenant, "key/"+k.ID)
	return api.NewKey{Key: k, Secret: fmt.Sprintf("crk_secret-of-key-%d", len(f.mu.keys))}, nil
}

// auditLocked writes to the audit log, of which the fake has the part about keys and tenants.
func (f *Fake) auditLocked(ctx context.Context, operation, tenant, object string) {
	c := who(ctx)
	f.mu.acts = append(f.mu.acts, api.AuditEntry{Seq: uint64(len(f.mu.acts) + 1), At: f.Now(), Tenant: tenant, Key: c.Key, KeyName: c.Name, Operation: operation,
		Object: object, Result: "done", Reason: api.ActOf(ctx).Reason, Request: api.ActOf(ctx).Request})
}

// MakeWebhookSecret implements api.Service with secrets that sign nothing.
func (f *Fake) MakeWebhookSecret(ctx context.Context, tenant string) (api.WebhookSecret, error) {
	if err := f.enter("MakeWebhookSecret"); err != nil {
		return api.WebhookSecret{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.tenantLocked(tenant); err != nil || !who(ctx).Sees(tenant) {
		return api.WebhookSecret{}, api.NoTenant(tenant)
	}
	former := slices.ContainsFunc(f.mu.acts, func(a api.AuditEntry) bool { return a.Operation == "make-webhook-secret" && a.Tenant == tenant })
	f.auditLocked(ctx, "make-webhook-secret", tenant, "tenant/"+tenant)
	return api.WebhookSecret{Tenant: tenant, Secret: fmt.Sprintf("whsec_%d", len(f.mu.acts)), Former: former}, nil
}

// ListKeys implements api.Service.
func (f *Fake) ListKeys(ctx context.Context, tenant string, page api.Page) (api.KeyList, error) {
	if err := f.enter("ListKeys"); err != nil {
		return api.KeyList{}, err
	}
	c := who(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	if tenant != "" {
		if _, err := f.tenantLocked(tenant); err != nil || !c.Sees(tenant) {
			return api.KeyList{}, api.NoTenant(tenant)
		}
	}
	var match []api.Key
	for _, k := range f.mu.keys {
		if c.Sees(k.Tenant) && (tenant == "" || k.Tenant == tenant) {
			match = append(match, k)
		}
	}
	items, next, err := cut(match, page)
	return api.KeyList{Keys: items, Next: next}, err
}

// RevokeKey implements api.Service.
func (f *Fake) RevokeKey(ctx context.Context, id string) (api.Key, error) {
	if err := f.enter("RevokeKey"); err != nil {
		return api.Key{}, err
	}
	c := who(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.mu.keys {
		k := &f.mu.keys[i]
		if k.ID != id || !c.Sees(k.Tenant) {
			continue
		}
		if k.RevokedAt.IsZero() {
			k.RevokedAt = f.Now()
			f.auditLocked(ctx, "revoke-key", k.Tenant, "key/"+k.ID)
		}
		return *k, nil
	}
	return api.Key{}, api.NoKey()
}

func (f *Fake) tenantLocked(name string) (*api.Tenant, error) {
	for i := range f.mu.tenants {
		if f.mu.tenants[i].Name == name {
			return &f.mu.tenants[i], nil
		}
	}
	return nil, api.NoTenant(name)
}

// CreateTenant implements api.Service.
func (f *Fake) CreateTenant(ctx context.Context, req api.CreateTenant) (api.Tenant, error) {
	if err := f.enter("CreateTenant"); err != nil {
		return api.Tenant{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.tenantLocked(req.Name); err == nil {
		return api.Tenant{}, &job.Error{Code: job.CodeConflict, Field: "name", Message: fmt.Sprintf("the tenant %q exists already", req.Name)}
	}
	t := api.Tenant{Name: req.Name, CreatedAt: f.Now(), Limits: req.Limits}
	f.mu.tenants = append(f.mu.tenants, t)
	f.auditLocked(ctx, "create-tenant", t.Name, "tenant/"+t.Name)
	return t, nil
}

// ListTenants implements api.Service.
func (f *Fake) ListTenants(_ context.Context, page api.Page) (api.TenantList, error) {
	if err := f.enter("ListTenants"); err != nil {
		return api.TenantList{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	items, next, err := cut(f.mu.tenants, page)
	return api.TenantList{Tenants: items, Next: next}, err
}

// GetTenant implements api.Service.
func (f *Fake) GetTenant(ctx context.Context, name string) (api.Tenant, error) {
	if err := f.enter("GetTenant"); err != nil {
		return api.Tenant{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	t, err := f.tenantLocked(name)
	if err != nil || !who(ctx).Sees(name) {
		return api.Tenant{}, api.NoTenant(name)
	}
	return *t, nil
}

// SetLimits implements api.Service.
func (f *Fake) SetLimits(ctx context.Context, name string, req api.SetLimits) (api.Tenant, error) {
	if err := f.enter("SetLimits"); err != nil {
		return api.Tenant{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	t, err := f.tenantLocked(name)
	if err != nil {
		return api.Tenant{}, err
	}
	req.Apply(&t.Limits)
	f.auditLocked(ctx, "set-limits", name, "tenant/"+name)
	return *t, nil
}

// ListAudit implements api.Service.
func (f *Fake) ListAudit(ctx context.Context, req api.ListAudit) (api.AuditList, error) {
	if err := f.enter("ListAudit"); err != nil {
		return api.AuditList{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	match := slices.DeleteFunc(newestFirst(f.mu.acts), func(a api.AuditEntry) bool {
		return !who(ctx).Sees(a.Tenant) || req.Tenant != "" && a.Tenant != req.Tenant || req.Key != "" && a.Key != req.Key || req.Operation != "" && a.Operation != req.Operation ||
			req.Object != "" && a.Object != req.Object || req.Result != "" && a.Result != req.Result || req.Within != 0 && f.Now().Sub(a.At) > time.Duration(req.Within)
	})
	items, next, err := cut(match, req.Page)
	return api.AuditList{Acts: items, Next: next}, err
}

// Trail is a server's audit log that remembers how each act ended.
type Trail struct {
	// Ended is told of each act; nil is nobody.
	Ended func(a api.Act, inSQL bool, err error)
}

type inSQLKey struct{}

// Begin implements the server's port.
func (t Trail) Begin(ctx context.Context, _ *api.Act, inSQL bool) context.Context {
	return context.WithValue(ctx, inSQLKey{}, inSQL)
}

// End implements the server's port.
func (t Trail) End(ctx context.Context, a *api.Act, err error) {
	if t.Ended != nil {
		inSQL, _ := ctx.Value(inSQLKey{}).(bool)
		t.Ended(*a, inSQL, err)
	}
}

// Keys are a server's keys that know one: it is the admin key of everything.
type Keys string

// Identify implements the server's port.
func (k Keys) Identify(_ context.Context, key string) (api.Caller, error) {
	if key != string(k) {
		return api.Caller{}, &job.Error{Code: job.CodeDenied, Message: "this is another key"}
	}
	return api.Operator(), nil
}

// Admit implements the server's port.
func (k Keys) Admit(api.Caller) error { return nil }
