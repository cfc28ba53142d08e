package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"crier/api"
	"crier/api/apitest"
	"crier/api/problem"
	"crier/api/server"
	"crier/job"
)

const goodKey = "crier_good"

// harness is a server over a fake, on a real listener.
type harness struct {
	t      *testing.T
	fake   *apitest.Fake
	server http.Handler
	url    string
	log    *bytes.Buffer
}

func start(t *testing.T, change func(*server.Config)) *harness {
	t.Helper()
	h := &harness{t: t, fake: apitest.New(), log: &bytes.Buffer{}}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(h.log.String())
		}
	})
	cfg := server.Config{Service: h.fake, Keys: apitest.Keys(goodKey), Trail: apitest.Trail{}, Version: "1.2.3", Log: slog.New(slog.NewTextHandler(h.log, nil))}
	if change != nil {
		change(&cfg)
	}
	s, err := server.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ts := httptest.NewServer(s)
	t.Cleanup(ts.Close)
	h.server, h.url = s, ts.URL
	return h
}

type answer struct {
	status int
	header http.Header
	body   string
}

// problem decodes the answer as a problem and checks its form.
func (a answer) problem(t *testing.T) (p struct {
	Type, Title, Detail, Code string
	Status                    int
	RequestID                 string `json:"request_id"`
	Errors                    []struct{ Detail, Pointer, Parameter string }
}) {
	t.Helper()
	if ct := a.header.Get("Content-Type"); ct != "application/problem+json" {
		t.Fatalf("status %d has content type %q: %s", a.status, ct, a.body)
	}
	if err := json.Unmarshal([]byte(a.body), &p); err != nil {
		t.Fatalf("%v in %s", err, a.body)
	}
	if p.Status != a.status || p.Type != "about:blank" || p.Title != http.StatusText(a.status) || p.Detail == "" || p.Code == "" {
		t.Errorf("malformed problem of status %d: %s", a.status, a.body)
	}
	if p.RequestID == "" || p.RequestID != a.header.Get("X-Request-Id") {
		t.Errorf("request id %q in the body, %q in the header", p.RequestID, a.header.Get("X-Request-Id"))
	}
	return p
}

func (h *harness) do(method, path, body string, header ...string) answer {
	h.t.Helper()
	a, err := h.try(method, path, body, header...)
	if err != nil {
		h.t.Fatal(err)
	}
	return a
}

// try makes a request with the good key; an empty header takes one away.
func (h *harness) try(method, path, body string, header ...string) (answer, error) {
	req, err := http.NewRequest(method, h.url+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Authorization", "Bearer "+goodKey)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
		if header[i+1] == "" {
			req.Header.Del(header[i])
		}
	}
	resp, err := (&http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(data)}, err
}

type operation struct{ method, path string }

// Each status of an error that the document lists is one of a code, and so explained; and a
// state that is none is answered with those there are.
func TestErrorsAreExplained(t *testing.T) {
	h := start(t, nil)
	var doc struct {
		Paths map[string]map[string]struct{ Responses map[string]any }
	}
	if err := json.Unmarshal([]byte(h.do(http.MethodGet, "/openapi.json", "", "Authorization", "").body), &doc); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for path, methods := range doc.Paths {
		for method, op := range methods {
			for text := range op.Responses {
				status, _ := strconv.Atoi(text)
				if seen[text] = true; status >= 400 && !slices.ContainsFunc(problem.Kinds(), func(k problem.Kind) bool { return k.Has(status) }) {
					t.Errorf("%s %s: nothing explains %s", method, path, text)
				}
			}
		}
	}
	if !seen["400"] || !seen["401"] || !seen["415"] {
		t.Errorf("the document lists just %v", seen)
	}
	if a := h.do("GET", "/v1/jobs?state=dancing", ""); !strings.Contains(a.problem(t).Detail, `"submitted, scheduled, `) {
		t.Errorf("a state that is none: %s", a.body)
	}
}

// operations reads the OpenAPI document, so that no operation can be forgotten.
func (h *harness) operations() []operation {
	h.t.Helper()
	a := h.do(http.MethodGet, "/openapi.json", "", "Authorization", "")
	var doc struct {
		OpenAPI string
		Info    struct{ Version string }
		Paths   map[string]map[string]struct{ OperationID string }
	}
	if err := json.Unmarshal([]byte(a.body), &doc); err != nil || a.status != 200 {
		h.t.Fatalf("openapi.json: status %d, %v", a.status, err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1") || doc.Info.Version != "1.2.3" {
		h.t.Errorf("the document is OpenAPI %q of version %q", doc.OpenAPI, doc.Info.Version)
	}
	var all []operation
	var ids []string
	for path, methods := range doc.Paths {
		for method, op := range methods {
			all = append(all, operation{strings.ToUpper(method), path})
			ids = append(ids, op.OperationID)
		}
	}
	want := strings.Fields(`create-account list-accounts get-account add-followers remove-followers import-followers
		add-suppressed remove-suppressed import-suppressed list-suppression get-suppression
		create-segment list-segments get-segment add-to-segment remove-from-segment import-segment archive-segment restore-segment
		import-package list-packages get-package export-set
		submit-job list-jobs get-job watch-job wait-job pause-job resume-job cancel-job recall-job set-rate resolve-job explain-job export-job reconcile-job get-recipient erase-recipient
		tail-ledger tail-events verify-ledger status mint-token backup
		list-members get-member silence-member resume-member get-ring list-journals list-lanes
		get-self create-key list-keys revoke-key create-tenant list-tenants get-tenant set-limits make-webhook-secret list-audit`)
	slices.Sort(ids)
	slices.Sort(want)
	if !slices.Equal(ids, want) {
		h.t.Errorf("operations of the document:\n%v\nwant\n%v", ids, want)
	}
	return all
}

// What a generator of clients reads: ids above 2^31 fit, each parameter is described,
// each operation has its errors, and only what was made has a place.
func TestDocument(t *testing.T) {
	a := start(t, nil).do(http.MethodGet, "/openapi.json", "", "Authorization", "")
	if strings.Contains(a.body, `"int32"`) {
		t.Error("the document has an int32, which does not hold a recipient")
	}
	var doc struct {
		Paths map[string]map[string]struct {
			Parameters []struct{ Name, Description string }
			Responses  map[string]struct{ Headers map[string]any }
		}
	}
	if err := json.Unmarshal([]byte(a.body), &doc); err != nil {
		t.Fatal(err)
	}
	for path, methods := range doc.Paths {
		for method, op := range methods {
			for _, p := range op.Parameters {
				if p.Description == "" {
					t.Errorf("%s %s: %s has no description", method, path, p.Name)
				}
			}
			if _, ok := op.Responses["401"]; !ok {
				t.Errorf("%s %s has no 401", method, path)
			}
			for _, status := range []string{"405", "413", "415", "507"} {
				if _, ok := op.Responses[status]; !ok && (method != "get" || status == "405" || status == "507") {
					t.Errorf("%s %s has no %s", method, path, status)
				}
			}
			if op.Responses["200"].Headers["Location"] != nil {
				t.Errorf("%s %s makes nothing and has a Location", method, path)
			}
		}
	}
}

// What can only be one of some words says which.
func TestDocumentOfWords(t *testing.T) {
	a := start(t, nil).do(http.MethodGet, "/openapi.json", "", "Authorization", "")
	for _, want := range []string{`"enum":["sent","completed"]`, `"enum":["edges","ids"]`, `"maximum":99,"minimum":1`} {
		if !strings.Contains(a.body, want) {
			t.Errorf("the document lacks %s", want)
		}
	}
	if n := strings.Count(a.body, `"enum":["`+strings.Join(api.JobStates(), `","`)+`"]`); n != 4 {
		t.Errorf("the states of a job are listed %d times, want those of a job, of a list, and of webhooks asked for and shown", n)
	}
}

// A reason for silence need not be given, and then neither need a body.
func TestSilenceWithoutAReason(t *testing.T) {
	h := start(t, nil)
	if a := h.do(http.MethodPost, "/v1/members/m1/silence", ""); a.status != http.StatusOK || !strings.Contains(a.body, `"m1"`) {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := h.do(http.MethodPut, "/v1/jobs/job_00000000000000000000000000/rate", ""); a.status != http.StatusBadRequest {
		t.Errorf("a rate without a body: %d", a.status)
	}
}

// The front door leads to the description.
func TestTheRootLeadsToTheDocs(t *testing.T) {
	h := start(t, nil)
	if a := h.do(http.MethodGet, "/", "", "Authorization", ""); a.status != http.StatusFound || a.header.Get("Location") != "/docs" {
		t.Errorf("%d, %v", a.status, a.header)
	}
	if a := h.do(http.MethodGet, "/elsewhere", "", "Authorization", ""); a.status != http.StatusNotFound {
		t.Errorf("another path: %d", a.status)
	}
}

// Who hangs up is no error of the server's; what goes wrong besides is.
func TestACallerWhoHangsUp(t *testing.T) {
	for err, logged := range map[error]bool{context.Canceled: false, errors.New("the disk is gone"): true} {
		h := start(t, nil)
		ctx, hangUp := context.WithCancel(t.Context())
		done := make(chan struct{})
		h.fake.Fail = func(string) error {
			defer close(done)
			hangUp()
			return err
		}
		req := httptest.NewRequestWithContext(ctx, http.MethodGet, "/v1/status", nil)
		req.Header.Set("Authorization", "Bearer "+goodKey)
		h.server.ServeHTTP(httptest.NewRecorder(), req)
		<-done
		if got := strings.Contains(h.log.String(), "level=ERROR"); got != logged {
			t.Errorf("%v: in the log %t, want %t:\n%s", err, got, logged, h.log)
		}
	}
}

// Every operation × (no key, not a key, another scheme, a wrong key, the key).
func TestEveryOperationNeedsTheKey(t *testing.T) {
	h := start(t, nil)
	calls := 0
	h.fake.Fail = func(string) error { calls++; return nil }
	for _, op := range h.operations() {
		path := strings.NewReplacer("{account}", "a", "{job}", "job_00000000000000000000000000", "{package}", strings.Repeat("a", 64), "{segment}", "s", "{kind}", "segment", "{member}", "m1", "{key}", "key_00000000000000000000000000", "{tenant}", "default",
			"{recipient}", "1").Replace(op.path)
		for _, auth := range []string{"", "Bearer", "Bearer ", "Basic " + goodKey, goodKey, "Bearer crier_bad", "Bearer " + goodKey + "x", "Bearer  " + goodKey} {
			a := h.do(op.method, path, "{}", "Authorization", auth)
			if p := a.problem(t); a.status != 401 || p.Code != "denied" {
				t.Errorf("%s %s with %q: status %d, code %s; want 401 denied", op.method, op.path, auth, a.status, p.Code)
			}
			if a.header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s %s with %q: no WWW-Authenticate", op.method, op.path, auth)
			}
		}
		if calls != 0 {
			t.Fatalf("%s %s reached the service without a key", op.method, op.path)
		}
		if a := h.do(op.method, path, "{}"); a.status == 401 {
			t.Errorf("%s %s: 401 with the good key", op.method, op.path)
		}
		calls = 0
	}
	if a := h.do(http.MethodGet, "/v1/no/such/path", "", "Authorization", ""); a.status != 401 {
		t.Errorf("a path that does not exist tells so without a key: %d", a.status)
	}
}

func TestPathsAndMethods(t *testing.T) {
	h := start(t, nil)
	for _, c := range []struct {
		method, path string
		status       int
		code         string
	}{
		{"GET", "/v1/nothing", 404, "not_found"},
		{"GET", "/nothing", 404, "not_found"},
		{"DELETE", "/v1/jobs", 405, "method_not_allowed"},
		{"POST", "/v1/status", 405, "method_not_allowed"},
		{"GET", "/v1/tokens", 405, "method_not_allowed"},
		{"GET", "/v1//jobs", 404, "not_found"},
		{"GET", "/v1/../v1/jobs", 404, "not_found"},
		{"GET", "/v1/accounts/%2e%2e", 404, "not_found"},
		{"GET", "/v1/accounts/a%2fb", 404, "not_found"},
		{"GET", "/v1/accounts/%ff", 400, "invalid"},
		{"GET", "/v1/suppression?account=%ff", 400, "invalid"},
		{"GET", "/v1/suppression?account=a&account=b", 400, "invalid"},
		{"GET", "/v1/suppression?account=%zz", 400, "invalid"},
		{"GET", "/v1/suppression?acount=a", 422, "invalid"},
		{"GET", "/v1/jobs?limit=0", 422, "invalid"},
		{"GET", "/v1/jobs?limit=501", 422, "invalid"},
		{"GET", "/v1/jobs?limit=many", 422, "invalid"},
		{"GET", "/v1/jobs?state=dancing", 422, "invalid"},
		{"GET", "/v1/jobs/nope", 404, "not_found"},
		{"GET", "/v1/jobs/job_00000000000000000000000000", 404, "not_found"},
		{"GET", "/v1/jobs/nope/watch", 404, "not_found"},
		{"GET", "/v1/jobs/nope/wait", 404, "not_found"},
		{"GET", "/v1/jobs/job_00000000000000000000000000/wait?for=queued", 422, "invalid"},
		{"GET", "/v1/jobs/job_00000000000000000000000000/wait?timeout=-1s", 422, "invalid"},
		{"GET", "/v1/jobs/job_00000000000000000000000000/recipients/4294967296", 422, "invalid"},
		{"GET", "/v1/packages/nope", 404, "not_found"},
		{"GET", "/v1/ledger?from=x", 422, "invalid"},
		{"GET", "/v1/members/nobody", 404, "not_found"},
		{"GET", "/v1/members/%2e%2e", 404, "not_found"},
		{"DELETE", "/v1/members/m1", 405, "method_not_allowed"},
		{"GET", "/v1/members/m1/silence", 405, "method_not_allowed"},
		{"GET", "/v1/members?limit=1", 422, "invalid"},
		{"GET", "/v1/ring?kind=king", 422, "invalid"},
		{"GET", "/v1/ring?diff=maybe", 422, "invalid"},
		{"GET", "/v1/ring?limit=501", 422, "invalid"},
		{"GET", "/v1/ring?cursor=nonsense", 422, "invalid"},
		{"GET", "/v1/journals?cursor=nonsense", 422, "invalid"},
		{"GET", "/v1/lanes?worker=w", 422, "invalid"},
		{"GET", "/v1/ledger?follow=maybe", 422, "invalid"},
		{"GET", "/v1/ledger?since=1", 422, "invalid"},
		{"POST", "/v1/followers/import?format=xml", 422, "invalid"},
		{"POST", "/v1/followers/import?format=edges&skip=x", 422, "invalid"},
		{"POST", "/v1/packages", 422, "invalid"},
		{"POST", "/v1/packages?account=nobody", 404, "not_found"},
	} {
		a := h.do(c.method, c.path, "")
		if p := a.problem(t); a.status != c.status || p.Code != c.code {
			t.Errorf("%s %s: %d %s; want %d %s", c.method, c.path, a.status, a.body, c.status, c.code)
		} else if a.status == 422 && len(p.Errors) == 0 {
			t.Errorf("%s %s: no field named: %s", c.method, c.path, a.body)
		}
		if c.status == 405 && a.header.Get("Allow") == "" {
			t.Errorf("%s %s: no Allow header", c.method, c.path)
		}
	}
}

func TestErrorsOfTheService(t *testing.T) {
	h := start(t, nil)
	h.fake.Fail = func(string) error { return errors.New("dial tcp 10.0.0.1: the inside") }
	a := h.do("GET", "/v1/status", "", "X-Request-Id", "my-id.1")
	if p := a.problem(t); a.status != 500 || p.Code != "internal" || strings.Contains(a.body, "inside") {
		t.Errorf("an internal error shows as %d %s", a.status, a.body)
	}
	if a.header.Get("X-Request-Id") != "my-id.1" || !strings.Contains(h.log.String(), "my-id.1") || !strings.Contains(h.log.String(), "the inside") {
		t.Errorf("request id %q; log: %s", a.header.Get("X-Request-Id"), h.log)
	}
	for _, bad := range []string{"a b", strings.Repeat("x", 65), "é", "<script>"} {
		if a := h.do("GET", "/healthz", "", "X-Request-Id", bad); a.header.Get("X-Request-Id") == bad {
			t.Errorf("the id %q was taken over", bad)
		}
	}
}

func TestPanicCostsOneRequest(t *testing.T) {
	h := start(t, nil)
	h.fake.Fail = func(m string) error {
		if m == "GetAccount" || m == "GetRecipient" {
			panic("the inside")
		}
		return nil
	}
	a := h.do("GET", "/v1/accounts/a", "")
	if p := a.problem(t); a.status != 500 || p.Code != "internal" || strings.Contains(a.body, "inside") {
		t.Errorf("a panic shows as %d %s", a.status, a.body)
	}
	if !strings.Contains(h.log.String(), "the inside") {
		t.Errorf("the log lacks the panic: %s", h.log)
	}
	if a := h.do("GET", "/v1/recipients/314159", ""); a.status != 500 || strings.Contains(h.log.String(), "314159") || !strings.Contains(h.log.String(), "path=/v1/recipients/_") {
		t.Errorf("%d; which recipient it was is no matter of the log: %s", a.status, h.log)
	}
	if a := h.do("GET", "/v1/status", ""); a.status != 200 {
		t.Errorf("after a panic: status %d", a.status)
	}
}

func TestPagesWithoutKey(t *testing.T) {
	notReady := errors.New("replaying")
	h := start(t, func(c *server.Config) {
		c.Ready = func() error { return notReady }
		c.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "crier_up 1\n") })
		c.Connect = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	})
	get := func(path string) answer { return h.do("GET", path, "", "Authorization", "") }
	if a := get("/healthz"); a.status != 200 || a.body != "alive\n" {
		t.Errorf("healthz: %d %q", a.status, a.body)
	}
	a := get("/readyz")
	if a.problem(t); a.status != 503 || a.header.Get("Retry-After") == "" || strings.Contains(a.body, "replaying") {
		t.Errorf("readyz while not ready: %d %s", a.status, a.body)
	}
	notReady = nil
	if a := get("/readyz"); a.status != 200 {
		t.Errorf("readyz when ready: %d", a.status)
	}
	if a := get("/metrics"); a.body != "crier_up 1\n" {
		t.Errorf("metrics: %d %q", a.status, a.body)
	}
	if a := get("/v1/connect?token=x"); a.status != http.StatusTeapot {
		t.Errorf("connect: %d; want the gateway's own answer", a.status)
	}
	for _, path := range []string{"/docs", "/docs/docs.js"} {
		a := get(path)
		if a.status != 200 || strings.Contains(a.body, "https://") || strings.Contains(a.body, "http://") || strings.Contains(a.body, `"//`) {
			t.Errorf("%s: status %d, or it loads from elsewhere", path, a.status)
		}
		if csp := a.header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") {
			t.Errorf("%s: policy %q", path, csp)
		}
	}
}

// TestAServerThatRefuses: whatever the key is, nobody is told that it is not valid, and the
// reason is that of the moment.
func TestAServerThatRefuses(t *testing.T) {
	full := &job.Error{Code: job.CodeFull}
	h := start(t, func(c *server.Config) {
		*c = server.Config{Refuse: func() error { return full }, Log: c.Log}
	})
	for _, says := range []string{"the disk has 1 KiB", "the disk has 2 KiB"} {
		full.Message = says
		for _, path := range []string{"/v1/status", "/v1/jobs", "/v1/no/such"} {
			a := h.do("GET", path, "", "Authorization", "Bearer crk_anybody")
			if p := a.problem(t); p.Status != 507 || p.Code != string(job.CodeFull) || p.Detail != says || a.header.Get("Retry-After") == "" {
				t.Errorf("%s with some key: %d %s", path, a.status, a.body)
			}
		}
		a := h.do("GET", "/readyz", "", "Authorization", "")
		if p := a.problem(t); p.Status != 503 || p.Code != string(job.CodeUnavailable) || !strings.Contains(p.Detail, says) {
			t.Errorf("readyz: %d %s", a.status, a.body)
		}
	}
	if a := h.do("GET", "/v1/status", "", "Authorization", ""); a.status != 401 || strings.Contains(a.body, "disk") {
		t.Errorf("without a key: %d %s", a.status, a.body)
	}
	if a := h.do("GET", "/healthz", "", "Authorization", ""); a.status != 200 {
		t.Errorf("healthz: %d", a.status)
	}
}

func TestWithoutConnectAndMetrics(t *testing.T) {
	h := start(t, nil)
	for _, path := range []string{"/v1/connect", "/metrics"} {
		if a := h.do("GET", path, ""); a.status != 404 {
			t.Errorf("%s: %d; want 404", path, a.status)
		}
	}
	// A recipient's token is no key, and nothing is wrong with it.
	for _, path := range []string{"/v1/connect", "/v1/stream?client=me&have=", "/v1/stream/ack"} {
		req := httptest.NewRequest("GET", path, nil)
		req.Header.Set("Authorization", "Bearer crier_r1.token")
		w := httptest.NewRecorder()
		h.server.ServeHTTP(w, req)
		if w.Code != 404 || !strings.Contains(w.Body.String(), "no gateway is here") {
			t.Errorf("%s with a token: %d %s", path, w.Code, w.Body)
		}
	}
}

func TestConfigValidate(t *testing.T) {
	for _, cfg := range []server.Config{{}, {Service: apitest.New()}, {Keys: apitest.Keys("k")}, {Service: apitest.New(), Keys: apitest.Keys("k")},
		{Service: apitest.New(), Keys: apitest.Keys("k"), Trail: apitest.Trail{}, MaxUpload: -1}, {Service: apitest.New(), Keys: apitest.Keys("k"), Trail: apitest.Trail{}, Heartbeat: -time.Second}} {
		if _, err := server.New(cfg); err == nil || !strings.Contains(err.Error(), "Config.") {
			t.Errorf("%+v: %v; want the field named", cfg, err)
		}
	}
}
