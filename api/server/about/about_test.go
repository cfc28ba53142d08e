package about_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"crier/api/server/about"
)

func TestLoggable(t *testing.T) {
	for path, want := range map[string]string{
		"/v1/jobs":                       "/v1/jobs",
		"/v1/keys/crk_0123-abc/revoke":   "/v1/keys/crk_.../revoke",
		"/v1/accounts/crier_token":       "/v1/accounts/crier_...",
		"/v1/recipients/42":              "/v1/recipients/_",
		"/v1/recipients/crk_a/erase":     "/v1/recipients/_/erase",
		"/v1/segments/x/recipients/4294": "/v1/segments/x/recipients/_",
	} {
		if got := about.Loggable(path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

// What somebody is denied is known by the beginning of the body, and no key is.
func TestBody(t *testing.T) {
	for _, c := range []struct{ operation, body, want string }{
		{"create-account", `{"name":"news"}`, "account/news"},
		{"create-key", `{"name":"crk_0123"}`, "key/crk_..."},
		{"mint-token", `{"recipient":7}`, "recipient/7"},
		{"mint-token", `{"name":"x"}`, ""},
		{"create-tenant", `{"name":`, ""},
		{"create-segment", `{"name":"` + strings.Repeat("x", 5000) + `"}`, ""},
		{"submit-job", `{"class":"normal","account":"news","body":"` + strings.Repeat("x", 5000), "account/news"},
		{"submit-job", `{"body":"` + strings.Repeat("x", 5000) + `","account":"news"}`, ""},
		{"submit-job", `[`, ""},
		{"pause-job", `{"name":"x"}`, ""},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(c.body))
		if got := about.Body(r, c.operation); got != c.want {
			t.Errorf("%s %.40s: %q, want %q", c.operation, c.body, got, c.want)
		}
	}
}

func TestPath(t *testing.T) {
	for _, c := range []struct{ kind, value, want string }{
		{"account", "news", "account/news"},
		{"job", "job_1", "job/job_1"},
		{"key", "crk_0123456789", ""}, // a key that somebody took for its id
		{"key", "key_1", ""},
		{"recipient", "42", "recipient/42"},
		{"recipient", "-1", ""},
		{"member", strings.Repeat("m", 300), "member/" + strings.Repeat("m", 200)},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil)
		r.SetPathValue(c.kind, c.value)
		if got := about.Path(r); got != c.want {
			t.Errorf("%s %.20s: %q, want %q", c.kind, c.value, got, c.want)
		}
	}
}
