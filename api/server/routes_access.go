package server

import (
	"cmp"
	"context"
	"net/http"

	"crier/api"
	"crier/api/decision"
	"crier/job"
)

// TenantInput is the part of an input that names a tenant in the path.
type TenantInput struct {
	Tenant string `path:"tenant" doc:"Name of the tenant."`
}

func (s *Server) accessRoutes() {
	s.keyRoutes()
	s.tenantRoutes()
	svc := s.cfg.Service
	handle(s, operation{"list-audit", http.MethodGet, "/v1/audit", "access", "List who did what, the newest first", http.StatusOK},
		func(ctx context.Context, in *struct {
			PageInput
			Tenant    string `query:"tenant" doc:"Whose objects; absent means all that the key sees."`
			Key       string `query:"key" doc:"Id of the key with which it was done."`
			Operation string `query:"operation" doc:"Id of the operation, such as submit-job."`
			Object    string `query:"object" doc:"Such as account/news, suppression/account/news or job/job_..."`
			Result    string `query:"result" doc:"done, or the code of an error."`
			Since     string `query:"since" doc:"A length of time such as 1h: what was done within it."`
		}) (api.AuditList, error) {
			req := api.ListAudit{Page: in.page(), Tenant: in.Tenant, Key: in.Key, Operation: in.Operation, Object: in.Object, Result: in.Result}
			if in.Since != "" {
				var err error
				if req.Within, err = api.ParseDuration(in.Since); err != nil || req.Within <= 0 {
					return api.AuditList{}, job.Invalid("since", "want a length of time such as 1h", nil)
				}
			}
			if err := cmp.Or(req.Validate(), decision.ValidateAudit(req)); err != nil {
				return api.AuditList{}, err
			}
			return svc.ListAudit(ctx, req)
		})
}

func (s *Server) keyRoutes() {
	svc := s.cfg.Service
	handle(s, operation{"get-self", http.MethodGet, "/v1/self", "access", "Describe the key that asks", http.StatusOK},
		func(ctx context.Context, _ *struct{}) (api.Key, error) {
			return svc.Self(ctx)
		})
	handleBody(s, operation{"create-key", http.MethodPost, "/v1/keys", "access", "Make a key; it is shown this once", http.StatusCreated},
		func(ctx context.Context, in *struct {
			Body strictBody[api.CreateKey]
		}) (api.NewKey, error) {
			return svc.CreateKey(ctx, in.Body.Value)
		})
	handle(s, operation{"list-keys", http.MethodGet, "/v1/keys", "access", "List keys in the order of their making", http.StatusOK},
		func(ctx context.Context, in *struct {
			PageInput
			Tenant string `query:"tenant" doc:"Whose keys; absent means all that the key sees."`
		}) (api.KeyList, error) {
			return svc.ListKeys(ctx, in.Tenant, in.page())
		})
	handle(s, operation{"revoke-key", http.MethodPost, "/v1/keys/{key}/revoke", "access", "End a key for good", http.StatusOK},
		func(ctx context.Context, in *struct {
			Key string `path:"key" doc:"Id of the key, key_ and 26 characters; never the key itself."`
		}) (api.Key, error) {
			return svc.RevokeKey(ctx, in.Key)
		})
}

func (s *Server) tenantRoutes() {
	svc := s.cfg.Service
	handleBody(s, operation{"create-tenant", http.MethodPost, "/v1/tenants", "access", "Make a tenant", http.StatusCreated},
		func(ctx context.Context, in *struct {
			Body strictBody[api.CreateTenant]
		}) (api.Tenant, error) {
			return svc.CreateTenant(ctx, in.Body.Value)
		})
	handle(s, operation{"list-tenants", http.MethodGet, "/v1/tenants", "access", "List tenants by name", http.StatusOK},
		func(ctx context.Context, in *struct{ PageInput }) (api.TenantList, error) {
			return svc.ListTenants(ctx, in.page())
		})
	handle(s, operation{"get-tenant", http.MethodGet, "/v1/tenants/{tenant}", "access", "Show a tenant with its limits", http.StatusOK},
		func(ctx context.Context, in *TenantInput) (api.Tenant, error) {
			return svc.GetTenant(ctx, in.Tenant)
		})
	handle(s, operation{"make-webhook-secret", http.MethodPost, "/v1/tenants/{tenant}/webhook-secret", "access", "Make the secret that signs a tenant's webhooks; it is shown this once", http.StatusCreated},
		func(ctx context.Context, in *TenantInput) (api.WebhookSecret, error) {
			return svc.MakeWebhookSecret(ctx, in.Tenant)
		})
	handleBody(s, operation{"set-limits", http.MethodPut, "/v1/tenants/{tenant}/limits", "access", "Change limits of a tenant; what is absent stays", http.StatusOK},
		func(ctx context.Context, in *struct {
			TenantInput
			Body strictBody[api.SetLimits]
		}) (api.Tenant, error) {
			return svc.SetLimits(ctx, in.Tenant, in.Body.Value)
		})
}
