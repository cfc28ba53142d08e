package server_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"crier/api"
	"crier/api/server"
	"crier/internal/badinput"
	"crier/job"
)

// jsonTexts gives broken JSON texts: the n_ files of the suite and some of our own.
func jsonTexts(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{"empty": "", "invalid UTF-8": "{\"name\":\"\xff\"}", "lone surrogate": `{"name":"\ud800"}`,
		"duplicate": `{"name":"a","name":"b"}`, "case": `{"Name":"a"}`, "unknown": `{"name":"a","x":1}`, "two": `{"name":"a"}{}`, "null": `null`, "array": `[]`,
		"deep": strings.Repeat(`[`, 100_000)}
	for name, text := range badinput.Suite(t) {
		if base := path.Base(name); strings.HasPrefix(base, "n_") || strings.HasPrefix(base, "i_") {
			texts[name] = text
		}
	}
	return texts
}

// Every text is refused with 4xx by every operation with a JSON body, and none
// reaches the service.
func TestBadJSONIsRefused(t *testing.T) {
	h := start(t, nil)
	h.fake.Fail = func(m string) error { t.Errorf("bad JSON reached %s", m); return nil }
	id := "/v1/jobs/job_00000000000000000000000000"
	texts := jsonTexts(t)
	t.Logf("%d texts", len(texts))
	for name, text := range texts {
		for _, op := range []operation{{"POST", "/v1/accounts"}, {"POST", "/v1/jobs"}, {"POST", "/v1/accounts/a/followers/add"},
			{"POST", "/v1/suppression/add"}, {"PUT", id + "/rate"}, {"POST", id + "/resolve"}, {"POST", "/v1/tokens"},
			{"POST", "/v1/members/m1/silence"}, {"POST", "/v1/members/m1/resume"}} {
			if text == "" && strings.HasPrefix(op.path, "/v1/members/") {
				continue // a reason need not be given
			}
			a := h.do(op.method, op.path, text)
			if a.status/100 != 4 {
				t.Errorf("%s %s with %s: status %d: %.200s", op.method, op.path, name, a.status, a.body)
				continue
			}
			if p := a.problem(t); p.Code != "invalid" {
				t.Errorf("%s with %s: code %s", op.path, name, p.Code)
			} else if len(p.Errors) == 0 && !strings.Contains(p.Detail, "byte ") {
				t.Errorf("%s with %s: neither a field nor an offset: %s", op.path, name, a.body)
			}
		}
	}
}

// Naughty strings as names and as messages: accepted as they are or refused with
// 4xx; what is accepted comes back byte for byte.
func TestNaughtyStrings(t *testing.T) {
	h := start(t, nil)
	texts := slices.DeleteFunc(append(badinput.Strings(t), "../../etc"), func(s string) bool { return !utf8.ValidString(s) })
	accepted := 0
	h.do("POST", "/v1/accounts", `{"name":"sender"}`)
	for _, text := range texts {
		quoted, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		a := h.do("POST", "/v1/accounts", fmt.Sprintf(`{"name":%s}`, quoted))
		if a.status == 201 {
			accepted++
			var made, got api.Account
			if err := json.Unmarshal([]byte(a.body), &made); err != nil || made.Name != text {
				t.Errorf("%q came back as %q, %v", text, made.Name, err)
			}
			b := h.do("GET", "/v1/accounts/"+url.PathEscape(text), "")
			if err := json.Unmarshal([]byte(b.body), &got); err != nil || b.status != 200 || got.ID != made.ID {
				t.Errorf("%q cannot be read by its name: %d %s", text, b.status, b.body)
			}
		} else if a.problem(t); a.status/100 != 4 {
			t.Errorf("name %q: status %d %s", text, a.status, a.body)
		}
		if a := h.do("POST", "/v1/jobs", fmt.Sprintf(`{"account":"sender","audience":"followers","body":%s}`, quoted)); a.status != 202 && text != "" {
			t.Errorf("message %q: status %d %s", text, a.status, a.body)
		}
		for _, path := range []string{"/v1/suppression?account=", "/v1/ledger?filter=", "/v1/jobs?state=", "/v1/jobs?cursor=", "/v1/packages?account="} {
			if a := h.do("GET", path+url.QueryEscape(text), ""); a.status >= 500 {
				t.Errorf("%s%q: status %d %s", path, text, a.status, a.body)
			}
		}
	}
	t.Logf("%d of %d accepted as names", accepted, len(texts))
	if accepted == 0 || accepted == len(texts) {
		t.Errorf("%d of %d strings were accepted as names", accepted, len(texts))
	}
}

func TestSubmit(t *testing.T) {
	h := start(t, nil)
	h.do("POST", "/v1/accounts", `{"name":"sender"}`)
	body := `{"account":"sender","audience":"followers","body":"hi"}`
	a := h.do("POST", "/v1/jobs", body, "Idempotency-Key", "k1")
	var first, again api.Job
	if err := json.Unmarshal([]byte(a.body), &first); err != nil || a.status != 202 || a.header.Get("Location") != "/v1/jobs/"+first.Job.String() {
		t.Fatalf("submit: %d %s, location %q, %v", a.status, a.body, a.header.Get("Location"), err)
	}
	a = h.do("POST", "/v1/jobs", body, "Idempotency-Key", "k1")
	if err := json.Unmarshal([]byte(a.body), &again); err != nil || a.status != 202 || again.Job != first.Job {
		t.Errorf("the same key and body: %d %s", a.status, a.body)
	}
	a = h.do("POST", "/v1/jobs", strings.Replace(body, "hi", "ho", 1), "Idempotency-Key", "k1")
	if p := a.problem(t); a.status != 409 || p.Code != "conflict" {
		t.Errorf("the same key and another body: %d %s", a.status, a.body)
	}
	if a := h.do("POST", "/v1/jobs", body, "Idempotency-Key", "a b"); a.status != 422 || a.problem(t).Errors[0].Parameter != "Idempotency-Key" {
		t.Errorf("a bad key: %d %s", a.status, a.body)
	}
	for text, pointer := range map[string]string{
		`{"account":"sender","audience":"followers","body":"hi","class":"urgent"}`:                                              "#/class",
		`{"account":"sender","audience":"followers","body":"hi","priority":100}`:                                                "#/priority",
		`{"account":"sender","audience":"followers","body":"hi","priority":256}`:                                                "#/priority",
		`{"account":"sender","audience":"followers","body":"hi","rate":-1}`:                                                     "#/rate",
		`{"account":"sender","audience":"followers","body":"hi","ttl":"soon"}`:                                                  "#/ttl",
		`{"account":"sender","package":"abc","body":"hi"}`:                                                                      "#/package",
		`{"account":"sender","audience":"followers","body":"hi","display_at":"noon"}`:                                           "#/display_at",
		`{"account":"sender","audience":"followers","body_base64":"@@"}`:                                                        "#/body_base64",
		`{"account":"sender","audience":"followers","body_base64":"` + base64.StdEncoding.EncodeToString([]byte("\xff")) + `"}`: "#/body_base64",
		`{"account":"sender","audience":"followers","body":"` + strings.Repeat("x", job.MaxBody+1) + `"}`:                       "#/body",
		`{"audience":"followers","body":"hi"}`:                                                                                  "#/account",
	} {
		a := h.do("POST", "/v1/jobs", text)
		if p := a.problem(t); a.status != 422 && a.status != 413 || len(p.Errors) != 1 || p.Errors[0].Pointer != pointer {
			t.Errorf("%.80s: %d %.300s; want %s", text, a.status, a.body, pointer)
		}
	}
	// The largest message fits even if every byte of it needs the longest escape.
	if a := h.do("POST", "/v1/jobs", `{"account":"sender","audience":"followers","body":"`+strings.Repeat(`\u0001`, job.MaxBody)+`"}`); a.status != 202 {
		t.Errorf("the largest message: %d %.200s", a.status, a.body)
	}
}

func TestBodyLimits(t *testing.T) {
	h := start(t, func(c *server.Config) { c.MaxUpload = 1000 })
	h.do("POST", "/v1/accounts", `{"name":"sender"}`)
	if a := h.do("POST", "/v1/accounts", `{"name":"`+strings.Repeat("x", 3<<20)+`"}`); a.status != 413 || a.problem(t).Code != "too_large" {
		t.Errorf("3 MiB of JSON: %d %.200s", a.status, a.body)
	}
	if a := h.do("POST", "/v1/accounts", `{"name":"x"}`, "Content-Type", "text/plain"); a.status != 415 {
		t.Errorf("text/plain: %d %s", a.status, a.body)
	}
	if a := h.do("POST", "/v1/accounts", `{"name":"x"}`, "Content-Type", "application/json; charset=utf-8"); a.status != 201 {
		t.Errorf("JSON with a charset: %d %s", a.status, a.body)
	}
	if a := h.do("POST", "/v1/packages?account=sender", strings.Repeat("x", 1000)); a.status != 201 || a.header.Get("Location") == "" {
		t.Errorf("an upload of the limit: %d %s", a.status, a.body)
	}
	if a := h.do("POST", "/v1/packages?account=sender", strings.Repeat("x", 1001)); a.status != 413 || a.problem(t).Code != "too_large" {
		t.Errorf("an upload over the limit: %d %s", a.status, a.body)
	}
	if a := h.do("POST", "/v1/followers/import?format=ids&account=sender", "1\n2\nx\n"); a.status != 422 || !strings.Contains(a.problem(t).Detail, "line 3") {
		t.Errorf("a bad line: %d %s", a.status, a.body)
	}
}

// A body that breaks off is the client's fault, and nothing of it is used.
func TestBodyBreaksOff(t *testing.T) {
	h := start(t, nil)
	h.fake.Fail = func(m string) error { t.Errorf("half a body reached %s", m); return nil }
	conn, err := net.Dial("tcp", strings.TrimPrefix(h.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /v1/accounts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", goodKey)
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	reply := make([]byte, 100)
	n, err := conn.Read(reply)
	if err != nil || !strings.HasPrefix(string(reply[:n]), "HTTP/1.1 400 ") {
		t.Errorf("a malformed chunk: %q, %v", reply[:n], err)
	}
}

func TestStreamsBeat(t *testing.T) {
	h := start(t, func(c *server.Config) { c.Heartbeat = 10 * time.Millisecond })
	req, err := http.NewRequestWithContext(t.Context(), "GET", h.url+"/v1/ledger?follow=true", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+goodKey)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if ct := resp.Header.Get("Content-Type"); ct != "application/x-ndjson" {
		t.Errorf("content type %q", ct)
	}
	three := make([]byte, 3)
	if _, err := io.ReadFull(resp.Body, three); err != nil || string(three) != "\n\n\n" {
		t.Errorf("a silent stream sent %q, %v", three, err)
	}
}

func TestStreamFailsInTheMiddle(t *testing.T) {
	h := start(t, nil)
	h.do("POST", "/v1/accounts", `{"name":"sender"}`)
	a := h.do("POST", "/v1/jobs", `{"account":"sender","audience":"followers","body":"hi"}`)
	var j api.Job
	if err := json.Unmarshal([]byte(a.body), &j); err != nil {
		t.Fatal(err)
	}
	calls := 0
	h.fake.Fail = func(m string) error {
		if calls++; calls == 2 {
			return job.NotFound("it is gone")
		}
		return nil
	}
	// The fake asks Fail at each step of a watch.
	a = h.do("GET", "/v1/jobs/"+j.Job.String()+"/watch", "")
	rows := strings.Split(strings.TrimSpace(a.body), "\n")
	if a.status != 200 || len(rows) != 2 || !strings.HasPrefix(rows[1], `{"problem":{`) || !strings.Contains(rows[1], "it is gone") {
		t.Errorf("a watch that fails: %d %s", a.status, a.body)
	}
}

// Streams and long polls end when the server is told to, and say that they were
// cut short; a tail that ends by itself does not.
func TestEndStreams(t *testing.T) {
	var srv *server.Server
	h := start(t, func(c *server.Config) {
		s, err := server.New(*c)
		if err != nil {
			t.Fatal(err)
		}
		srv = s
	})
	h.fake.Manual = true
	ts := httptest.NewServer(srv)
	defer ts.Close()
	h.url = ts.URL
	h.do("POST", "/v1/accounts", `{"name":"sender"}`)
	a := h.do("POST", "/v1/jobs", `{"account":"sender","audience":"followers","body":"hi"}`)
	var j api.Job
	if err := json.Unmarshal([]byte(a.body), &j); err != nil {
		t.Fatal(err)
	}
	got := make(chan answer, 3)
	paths := []string{"/v1/jobs/" + j.Job.String() + "/watch", "/v1/ledger?follow=true"}
	for _, path := range paths {
		go func() {
			a, err := h.try("GET", path, "")
			if err != nil {
				a.body = err.Error()
			}
			got <- a
		}()
	}
	srv.EndStreams()
	srv.EndStreams()
	for range paths {
		a := <-got
		if a.status != 503 && !strings.Contains(a.body, `{"problem":`) || !strings.Contains(a.body, `"code":"unavailable"`) {
			t.Errorf("a stream that was cut short: %d %s", a.status, a.body)
		}
	}
	if a := h.do("GET", "/v1/jobs/"+j.Job.String(), ""); a.status != 200 {
		t.Errorf("after the end of streams, other requests: %d", a.status)
	}
}

// An operation that takes no body says so to whoever sends one, and where its parameters go,
// before it does anything; what clients send for nothing is nothing.
func TestWhereNoBodyIsTaken(t *testing.T) {
	h := start(t, nil)
	h.do("POST", "/v1/accounts", `{"name":"sender"}`)
	a := h.do("POST", "/v1/jobs", `{"account":"sender","audience":"followers","body":"hi"}`)
	id := "/v1/jobs/" + strings.TrimPrefix(a.header.Get("Location"), "/v1/jobs/")
	nothings := []string{"", " \r\n\t", "{}", " { \n} ", "null", "\nnull\n", strings.Repeat(" ", 4<<10)}
	bodies := []string{`{"nam`, `[[[[`, `{"reason":"x"}`, `[]`, `0`, `nul`, "{}{}", "\ufeff{}", "\u00a0", "\x00", strings.Repeat(" ", 4<<10+1), strings.Repeat("x", 3<<20)}
	for _, c := range []struct{ request, where string }{
		{"POST " + id + "/pause", "pause-job takes no body; its parameters go into the path (job) and into the header (Crier-Reason)"},
		{"GET " + id + "/wait", "wait-job takes no body; its parameters go into the path (job) and into the query (for, timeout)"}, // the job goes on by being asked for
		{"GET " + id + "/watch", "watch-job takes no body; its parameters go into the path (job)"},
		{"GET /v1/accounts", "list-accounts takes no body; its parameters go into the query (limit, cursor)"},
		{"GET /v1/backup", "backup takes no body; its parameters go into the header (Crier-Reason)"},
		{"GET /v1/status", "status takes no body, and has no parameters"},
	} {
		request, where := c.request, c.where
		method, path, _ := strings.Cut(request, " ")
		h.fake.Fail = func(m string) error { t.Errorf("a body reached %s", m); return nil }
		for _, body := range bodies {
			a, err := h.try(method, path, body)
			if len(body) > 1<<20 && err != nil {
				continue // it is cut off before all of it is sent
			}
			if p := a.problem(t); a.status != 400 || p.Code != "invalid" || p.Detail != where || p.Errors[0].Pointer != "#" {
				t.Errorf("%s with %.20q: %d %s; want %s", request, body, a.status, a.body, where)
			}
		}
		h.fake.Fail = nil
		for _, body := range nothings {
			for _, kind := range []string{"application/json", "application/x-www-form-urlencoded", ""} {
				if a := h.do(method, path, body, "Content-Type", kind); a.status != 200 {
					t.Errorf("%s with %.20q as %s: %d %s", request, body, kind, a.status, a.body)
				}
			}
		}
	}
}
