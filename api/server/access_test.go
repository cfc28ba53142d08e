package server_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"crier/api"
	"crier/api/apitest"
	"crier/api/server"
	"crier/job"
)

// ended collects what the audit log is told.
type ended struct {
	sync.Mutex
	acts []string
}

func (e *ended) trail() apitest.Trail {
	return apitest.Trail{Ended: func(a api.Act, inSQL bool, err error) {
		e.Lock()
		defer e.Unlock()
		e.acts = append(e.acts, fmt.Sprintf("%s %s %s %s %t %s", a.Operation, a.Object, a.Caller.Key, a.Reason, inSQL, job.CodeOf(err)))
	}}
}

func (e *ended) take() []string {
	e.Lock()
	defer e.Unlock()
	acts := e.acts
	e.acts = nil
	return acts
}

// The audit log is told of what changes something, once, also if it fails or is denied;
// of what only looks, and of what is no request at all, it is not told.
func TestTheAuditLogIsTold(t *testing.T) {
	var e ended
	h := start(t, func(c *server.Config) { c.Trail = e.trail() })
	if _, err := h.fake.CreateAccount(t.Context(), api.CreateAccount{Name: "news"}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		method, path, body string
		want               []string
	}{
		{"GET", "/v1/accounts", "", nil},
		{"GET", "/v1/audit", "", nil},
		{"POST", "/v1/accounts", `{"name":"more"}`, []string{"create-account  bootstrap why true "}},
		{"POST", "/v1/accounts", `{"name":"more"}`, []string{"create-account  bootstrap why true conflict"}},
		{"POST", "/v1/accounts", `{"name":""}`, nil},
		{"POST", "/v1/accounts", `{"nam`, nil},
		{"POST", "/v1/accounts/news/followers/add", `{"ids":[1]}`, []string{"add-followers account/news bootstrap why true "}},
		{"POST", "/v1/followers/import?format=ids&account=news", "1\n", []string{"import-followers  bootstrap why true "}},
		{"POST", "/v1/packages?account=nobody", "x", []string{"import-package  bootstrap why true not_found"}},
		{"POST", "/v1/jobs", `{"account":"news","audience":"followers","body":"x"}`, []string{"submit-job  bootstrap why false "}},
		{"POST", "/v1/jobs/job_00000000000000000000000000/cancel", "", []string{"cancel-job job/job_00000000000000000000000000 bootstrap why false not_found"}},
		{"POST", "/v1/tokens", `{"recipient":1}`, []string{"mint-token  bootstrap why false "}},
		{"POST", "/v1/keys/crk_not-an-id/revoke", "", []string{"revoke-key  bootstrap why true not_found"}},
		{"DELETE", "/v1/accounts", "", nil},
	} {
		h.do(c.method, c.path, c.body, "Crier-Reason", "why")
		if got := e.take(); !slices.Equal(got, c.want) {
			t.Errorf("%s %s: it is told %q, want %q", c.method, c.path, got, c.want)
		}
	}
	h.do("POST", "/v1/accounts", `{"name":"x"}`, "Authorization", "Bearer crk_wrong")
	if got := e.take(); got != nil {
		t.Errorf("of somebody who is nobody it is told %q", got)
	}
	a := h.do("POST", "/v1/accounts", `{"name":"long"}`, "Crier-Reason", strings.Repeat("x", job.MaxReason+1))
	if p := a.problem(t); a.status != 422 || p.Errors[0].Parameter != "Crier-Reason" || e.take() != nil {
		t.Errorf("a reason that is too long: %d %s", a.status, a.body)
	}
	if a := h.do("GET", "/v1/accounts/long", ""); a.status != 404 {
		t.Errorf("what was refused for its reason was done: %d", a.status)
	}
}

// limitedKeys are keys of a viewer whose tenant may ask no more.
type limitedKeys struct {
	apitest.Keys
	role job.Role
	err  error
}

func (k limitedKeys) Identify(ctx context.Context, key string) (api.Caller, error) {
	c, err := k.Keys.Identify(ctx, key)
	c.Key, c.Tenant, c.Role = "key_1", "acme", k.role
	return c, err
}

func (k limitedKeys) Admit(api.Caller) error { return k.err }

// A request over the limit is refused before anything else, and is no act.
func TestOverTheLimit(t *testing.T) {
	var e ended
	over := &job.Error{Code: job.CodeLimited, Message: "too many", After: 2500 * time.Millisecond}
	h := start(t, func(c *server.Config) {
		c.Trail, c.Keys = e.trail(), limitedKeys{goodKey, job.Viewer, over}
	})
	h.fake.Fail = func(string) error { t.Error("it reached the service"); return errors.New("x") }
	for _, op := range h.operations() {
		path := strings.NewReplacer("{account}", "a", "{job}", "job_00000000000000000000000000", "{package}", strings.Repeat("a", 64), "{member}", "m1",
			"{segment}", "s", "{kind}", "segment", "{key}", "key_00000000000000000000000000", "{tenant}", "default", "{recipient}", "1").Replace(op.path)
		a := h.do(op.method, path, "{}")
		if p := a.problem(t); a.status != http.StatusTooManyRequests || p.Code != "limited" || a.header.Get("Retry-After") != "3" {
			t.Errorf("%s %s: %d, Retry-After %q", op.method, op.path, a.status, a.header.Get("Retry-After"))
		}
	}
	if got := e.take(); got != nil {
		t.Errorf("the audit log is told %q", got)
	}
}

// Who is denied an operation is told which role it takes; the audit log is told, too.
func TestDenied(t *testing.T) {
	var e ended
	h := start(t, func(c *server.Config) { c.Trail, c.Keys = e.trail(), limitedKeys{goodKey, job.Viewer, nil} })
	a := h.do("POST", "/v1/jobs", `{}`)
	if p := a.problem(t); a.status != 403 || p.Code != "denied" || !strings.Contains(p.Detail, "submitter or admin") {
		t.Errorf("%d %s", a.status, a.body)
	}
	if got := e.take(); !slices.Equal(got, []string{"submit-job  key_1  false denied"}) {
		t.Errorf("the audit log is told %q", got)
	}
	for _, c := range []struct{ path, body, want string }{
		{"/v1/recipients/7/erase", `{"reason":"x"}`, "erase-recipient recipient/7 key_1  false denied"},
		{"/v1/tokens", `{"recipient":7}`, "mint-token recipient/7 key_1  false denied"},
		{"/v1/accounts", `{"name":"news"}`, "create-account account/news key_1  true denied"},
		{"/v1/segments", `{"name":"vip"}`, "create-segment segment/vip key_1  true denied"},
		{"/v1/tenants", `{"name":"acme","limits":{}}`, "create-tenant tenant/acme key_1  true denied"},
		{"/v1/keys", `{"name":"app","recipient":7}`, "create-key key/app key_1  true denied"},
		{"/v1/keys", `{"name":"crk_0123"}`, "create-key key/crk_... key_1  true denied"},
		{"/v1/jobs", `{"body":"hear ye","account":"news","audience":"followers"}`, "submit-job account/news key_1  false denied"},
		{"/v1/jobs", `{"account":"news","body":"` + strings.Repeat("x", 9000) + `"}`, "submit-job account/news key_1  false denied"},
		{"/v1/jobs", `{"body":"` + strings.Repeat("x", 9000) + `","account":"news"}`, "submit-job  key_1  false denied"},
		{"/v1/jobs", `{"account":7}`, "submit-job  key_1  false denied"},
		{"/v1/jobs", `[{"account":"news"}]`, "submit-job  key_1  false denied"},
		{"/v1/tokens", `{"name":"news"}`, "mint-token  key_1  false denied"},
		{"/v1/accounts", `{"name":7}`, "create-account  key_1  true denied"},
		{"/v1/accounts", `{"name":"` + strings.Repeat("x", 5000) + `"}`, "create-account  key_1  true denied"},
		{"/v1/accounts", "", "create-account  key_1  true denied"},
	} {
		if a, got := h.do("POST", c.path, c.body), e.take(); a.status != 403 || !slices.Equal(got, []string{c.want}) {
			t.Errorf("POST %s %.40s: %d, the audit log is told %q, want %q", c.path, c.body, a.status, got, c.want)
		}
	}
	for path, want := range map[string]string{"/v1/tenants": "admin key of the data directory", "/v1/members": "tenant default"} {
		a := h.do("GET", path, "")
		if p := a.problem(t); a.status != 403 || !strings.Contains(p.Detail, want) {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
}
