package client

import (
	"context"
	"net/http"

	"crier/api"
	"crier/job"
)

// Self implements Service.
func (c *Client) Self(ctx context.Context) (api.Key, error) {
	return call[api.Key](ctx, c, request{method: http.MethodGet, path: "/v1/self"})
}

// CreateKey implements Service.
func (c *Client) CreateKey(ctx context.Context, req api.CreateKey) (api.NewKey, error) {
	return call[api.NewKey](ctx, c, request{method: http.MethodPost, path: "/v1/keys", json: req, once: true})
}

// ListKeys implements Service.
func (c *Client) ListKeys(ctx context.Context, tenant string, page api.Page) (api.KeyList, error) {
	return call[api.KeyList](ctx, c, request{method: http.MethodGet, path: "/v1/keys", query: paged(page, "tenant", tenant)})
}

// RevokeKey implements Service. What cannot be an id, and may be a key, is not sent.
func (c *Client) RevokeKey(ctx context.Context, id string) (api.Key, error) {
	if err := api.ValidateKeyID(id); err != nil {
		return api.Key{}, err
	}
	return call[api.Key](ctx, c, request{method: http.MethodPost, path: "/v1/keys/" + id + "/revoke"})
}

// MakeWebhookSecret implements Service.
func (c *Client) MakeWebhookSecret(ctx context.Context, tenant string) (api.WebhookSecret, error) {
	if !job.ValidName(tenant) {
		return api.WebhookSecret{}, api.NoTenant(tenant)
	}
	return call[api.WebhookSecret](ctx, c, request{method: http.MethodPost, path: "/v1/tenants/" + tenant + "/webhook-secret", once: true})
}

// CreateTenant implements Service.
func (c *Client) CreateTenant(ctx context.Context, req api.CreateTenant) (api.Tenant, error) {
	return call[api.Tenant](ctx, c, request{method: http.MethodPost, path: "/v1/tenants", json: req, once: true})
}

// ListTenants implements Service.
func (c *Client) ListTenants(ctx context.Context, page api.Page) (api.TenantList, error) {
	return call[api.TenantList](ctx, c, request{method: http.MethodGet, path: "/v1/tenants", query: paged(page)})
}

// GetTenant implements Service.
func (c *Client) GetTenant(ctx context.Context, name string) (api.Tenant, error) {
	return ofTenant(ctx, c, name, request{method: http.MethodGet})
}

// SetLimits implements Service.
func (c *Client) SetLimits(ctx context.Context, name string, req api.SetLimits) (api.Tenant, error) {
	return ofTenant(ctx, c, name, request{method: http.MethodPut, path: "/limits", json: req})
}

// ofTenant makes a request whose path goes on behind the tenant.
func ofTenant(ctx context.Context, c *Client, name string, r request) (api.Tenant, error) {
	if !job.ValidName(name) {
		return api.Tenant{}, api.NoTenant(name)
	}
	r.path = "/v1/tenants/" + name + r.path
	return call[api.Tenant](ctx, c, r)
}

// ListAudit implements Service.
func (c *Client) ListAudit(ctx context.Context, req api.ListAudit) (api.AuditList, error) {
	within := ""
	if req.Within != 0 {
		within = req.Within.String()
	}
	return call[api.AuditList](ctx, c, request{method: http.MethodGet, path: "/v1/audit",
		query: paged(req.Page, "tenant", req.Tenant, "key", req.Key, "operation", req.Operation, "object", req.Object, "result", req.Result, "since", within)})
}
