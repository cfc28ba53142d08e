package badinput_test

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"crier/internal/badinput"
	"crier/presence/client"
)

// TestStrings puts every naughty string and hostile path into every text field of every
// operation, alone in a list where one is wanted: it is refused by the name of the field, or
// given back to the byte; a message reaches its recipient to the byte.
func TestStrings(t *testing.T) {
	t.Parallel()
	x := start(t)
	texts := append(badinput.Strings(t), badinput.Paths(t)[:30]...)
	shown := x.listen(7)
	x.made("POST", "/v1/tenants/default/webhook-secret", "", nil)
	due := map[string]string{} // job to message
	for _, op := range x.operations() {
		for name, f := range op.fields {
			if f.kind != "string" {
				continue
			}
			requests, taken := 0, 0
			texts := texts
			if name == "webhook/on" { // a state, or nothing of these would be taken
				texts = append(slices.Clip(texts), "completed")
			}
			x.unchanged(op.id+" with "+name, func() bool {
				for _, s := range texts {
					body := with(x.body(op), name, s)
					if f.list {
						body = with(body, name, rawText("["+string(quote(s))+"]"))
					}
					if name == "webhook/on" {
						body = with(body, "webhook/url", "https://hook.invalid/")
					}
					if name == "body_base64" || name == "package" {
						delete(body, map[string]string{"body_base64": "body", "package": "audience"}[name])
					}
					requests++
					what := fmt.Sprintf("%s with %s %.80q", op.id, name, s)
					a := x.do(op.method, x.at(op, nil), encode(t, body))
					p := x.refused(what, a)
					if p != nil && p.Status == http.StatusConflict && name == "reason" {
						continue // a process that is alone hands over to nobody
					}
					if p != nil {
						at := name
						if s == "" { // as if it were absent: another is needed
							at = map[string]string{"body_base64": "body", "audience": "package"}[name]
						}
						x.names(what, p, cmp.Or(at, name))
						continue
					}
					taken++
					x.gaveBack(what, op, name, s, a.body, due)
				}
				return taken > 0
			})
			t.Logf("%s, %s: %d strings, %d taken", op.id, name, requests, taken)
			if f.list && taken == 0 {
				t.Errorf("%s, %s: no list was taken", op.id, name)
			}
		}
	}
	deadline := time.After(time.Minute)
	for len(due) > 0 {
		select {
		case m := <-shown:
			if want, ok := due[m.ID]; ok && m.Body != want {
				t.Errorf("message %.80q arrived as %.80q", want, m.Body)
			}
			delete(due, m.ID)
		case <-deadline:
			t.Fatalf("%d messages did not arrive", len(due))
		}
	}
}

// names holds a refusal to naming the field, or, where the text is no JSON, the place.
func (x *server) names(what string, p *problem, field string) {
	x.t.Helper()
	pointed := len(p.Errors) > 0 && (p.Errors[0].Pointer == "#/"+field || strings.HasPrefix(p.Errors[0].Pointer, "#/"+field+"/") || p.Errors[0].Parameter == field)
	if !pointed && !(p.Status == http.StatusBadRequest && aByte.MatchString(p.Detail)) {
		x.t.Errorf("%s: does not name the field: %d %+v", what, p.Status, p)
	}
	if !utf8.ValidString(p.Detail) || strings.ContainsAny(p.Detail, "\x00\x1b\n\r") || len(p.Detail) > 2000 {
		x.t.Errorf("%s: the detail cannot be shown: %.300q", what, p.Detail)
	}
}

// gaveBack compares a field of an answer with what was sent.
func (x *server) gaveBack(what string, op operation, name, sent, got string, due map[string]string) {
	x.t.Helper()
	if !utf8.ValidString(sent) {
		x.t.Errorf("%s: taken, and it is no UTF-8", what)
	}
	var fields map[string]any
	if err := json.Unmarshal([]byte(got), &fields); err != nil {
		x.t.Errorf("%s: %v", what, err)
		return
	}
	var is any
	raw := answered(x.t, op, name, got)
	if raw != nil {
		if err := json.Unmarshal(raw, &is); err != nil {
			x.t.Errorf("%s: %v", what, err)
			return
		}
	}
	switch there := raw != nil; {
	case op.id == "submit-job" && name == "body":
		due[fmt.Sprint(fields["job"])] = sent
		if fields["body_bytes"] != float64(len(sent)) {
			x.t.Errorf("%s: %v bytes", what, fields["body_bytes"])
		}
	case name == "ttl", name == "body_base64", strings.HasPrefix(name, "send_once/"): // not given back; what they mean is
	case name == "tenant" && sent == "": // absent: the caller's own
		if is != "default" {
			x.t.Errorf("%s: the tenant is %#v", what, is)
		}
	case !there && sent == "" || is == sent || reflect.DeepEqual(is, []any{sent}):
	case strings.HasSuffix(name, "clude_segments") && named(is) == sent:
	case name == "account" && fmt.Sprint(fields["account_id"]) == sent:
	case name == "reason", op.id == "submit-job" && sent == "" && (name == "class" || name == "on_unknown"): // has a default
	default:
		x.t.Errorf("%s: given back as %#v", what, is)
	}
}

// named is the name of the only one of a list of objects.
func named(list any) any {
	if l, ok := list.([]any); ok && len(l) == 1 {
		if o, ok := l[0].(map[string]any); ok {
			return o["name"]
		}
	}
	return nil
}

// listen connects a recipient with the client of the project.
func (x *server) listen(who int) <-chan client.Message {
	x.t.Helper()
	var tok struct{ Token string }
	x.made("POST", "/v1/tokens", fmt.Sprintf(`{"recipient":%d}`, who), &tok)
	shown, connected := make(chan client.Message, 10_000), make(chan struct{}, 1)
	c, err := client.New(client.Config{URL: x.ready.Gateway, Token: client.StaticToken(tok.Token),
		OnMessage: func(_ context.Context, m client.Message) error { shown <- m; return nil },
		OnConnect: func() { connected <- struct{}{} }})
	if err != nil {
		x.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	x.t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			x.t.Error(err)
		}
	})
	<-connected
	return shown
}

// TestPaths puts the same where a path names something: nothing has that name, and the
// answer says so.
func TestPaths(t *testing.T) {
	t.Parallel()
	x := start(t)
	few := append(badinput.Strings(t), badinput.Paths(t)[:30]...)
	few = append(few, "-1", "4294967296", "1e10", "7.5", "18446744073709551616", "00000000000000000000007", "job_", x.job[:len(x.job)-1], x.job+"0", strings.ToLower(x.job)+"\x00", x.pkg[1:], x.pkg+"0")
	number, all := regexp.MustCompile(`^\d+$`), map[string]bool{}
	for _, op := range x.operations() {
		for _, name := range op.inPath {
			found, texts := 0, few
			if !all[name] { // for the other operations with this parameter some are enough
				all[name], texts = true, append(slices.Clip(few), badinput.Paths(t)[30:]...)
			}
			x.unchanged(op.id+" at "+name, func() bool {
				for _, s := range texts {
					body := ""
					if op.fields != nil {
						body = encode(t, x.body(op))
					}
					what := fmt.Sprintf("%s at %s %.80q", op.id, name, s)
					p := x.refused(what, x.do(op.method, x.at(op, map[string]string{name: url.PathEscape(s)}), body))
					if p == nil {
						if found++; !number.MatchString(s) { // an account's id, or a recipient
							t.Errorf("%s: it is there", what)
						}
					} else if !utf8.ValidString(p.Detail) || strings.ContainsAny(p.Detail, "\x00\x1b\n\r") || len(p.Detail) > 2000 {
						t.Errorf("%s: the detail cannot be shown: %.300q", what, p.Detail)
					}
				}
				return op.id == "erase-recipient" && found > 0 // every number is a recipient
			})
			t.Logf("%s, %s: %d strings, %d found", op.id, name, len(texts), found)
		}
	}
}

// TestQueries puts them into every parameter of every query.
func TestQueries(t *testing.T) {
	t.Parallel()
	x := start(t)
	texts := append(badinput.Strings(t), badinput.Paths(t)[:30]...)
	texts = append(texts, "-1", "0", "501", "4294967296", "1e10", "7.5", "18446744073709551616", "-9223372036854775809", "1ns", "-1s", "99999999999999h")
	files := map[string]string{"import-package": string(x.envelope), "import-followers": "1\n", "import-segment": "1\n", "import-suppressed": "1\n"}
	for _, op := range x.operations() {
		for _, name := range op.inQuery {
			requests, taken := 0, 0
			for _, s := range texts {
				if on, err := strconv.ParseBool(s); name == "follow" && err == nil && on {
					continue // it would wait for more
				}
				q := url.Values{name: {s}}
				if op.upload && name != "account" && slices.Contains(op.inQuery, "account") {
					q.Set("account", "sender")
				}
				if op.id == "import-followers" && name != "format" {
					q.Set("format", "ids")
				}
				if op.id == "export-job" && name != "outcome" {
					q.Set("outcome", "parked")
				}
				requests++
				what := fmt.Sprintf("%s with ?%s=%.80q", op.id, name, s)
				a := x.do(op.method, x.at(op, nil)+"?"+q.Encode(), files[op.id])
				p := x.refused(what, a)
				switch {
				case p != nil && p.Status == http.StatusBadRequest && !utf8.ValidString(s):
				case p != nil:
					x.names(what, p, name)
				case !utf8.ValidString(s):
					t.Errorf("%s: taken, and it is no UTF-8", what)
				default:
					taken++
					var made struct{ Name string }
					if op.id == "import-package" && name == "name" && s != "" {
						if err := json.Unmarshal([]byte(a.body), &made); err != nil || made.Name != s {
							t.Errorf("%s: given back as %q, %v", what, made.Name, err)
						}
					}
				}
			}
			t.Logf("%s, %s: %d strings, %d taken", op.id, name, requests, taken)
		}
	}
}

// dial sends a request byte by byte.
func (x *server) dial(request string) (net.Conn, error) {
	conn, err := net.Dial("tcp", strings.TrimPrefix(x.ready.API, "http://"))
	if err != nil {
		return nil, err
	}
	err = conn.SetDeadline(time.Now().Add(time.Minute))
	if err == nil {
		_, err = io.WriteString(conn, request)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// raw makes a request byte by byte and gives the status and body of the answer.
func (x *server) raw(request string) (answer, error) {
	conn, err := x.dial(request)
	if err != nil {
		return answer{}, err
	}
	defer conn.Close()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header.Get("Content-Type"), string(b)}, err
}

// TestHeaders puts them into the idempotency key and the request id, byte by byte: a line
// feed begins another header, and what net/http refuses by itself is no problem document.
func TestHeaders(t *testing.T) {
	t.Parallel()
	x := start(t)
	taken, reasons := 0, 0
	for _, s := range badinput.Strings(t) {
		for _, header := range []string{"Idempotency-Key", "Crier-Reason", "X-Request-Id", "Content-Type", "Accept"} {
			body := fmt.Sprintf(`{"account":"sender","audience":"followers","body":%s}`, quote(strconv.Itoa(len(s))))
			request := "POST /v1/jobs"
			if header != "Idempotency-Key" {
				request, body = "POST /v1/suppression/add", `{"ids":[7]}`
			}
			a, err := x.raw(fmt.Sprintf("%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n%s: %s\r\n\r\n%s", request, x.ready.Token, len(body), header, s, body))
			what := fmt.Sprintf("%s: %.80q", header, s)
			if err != nil {
				t.Errorf("%s: %v", what, err)
				continue
			}
			if a.contentType != "application/problem+json" && a.status == http.StatusBadRequest && strings.ContainsAny(s, "\x00\n\r\x1b\x01\x02\x08\x7f") {
				continue
			}
			if p := x.refused(what, a); p != nil {
				if header == "Idempotency-Key" || header == "Crier-Reason" {
					x.names(what, p, header)
				}
				continue
			}
			if header == "Crier-Reason" && !strings.ContainsAny(s, "\r\n") {
				reasons++
				var log struct {
					Acts []struct{ Operation, Reason string }
				}
				x.made("GET", "/v1/audit?limit=1", "", &log)
				if len(log.Acts) != 1 || log.Acts[0].Operation != "add-suppressed" || log.Acts[0].Reason != strings.Trim(s, " \t") {
					t.Errorf("%s: the audit log has %+v", what, log.Acts)
				}
			}
			var j struct {
				Key string `json:"idempotency_key"`
			}
			if err := json.Unmarshal([]byte(a.body), &j); err != nil {
				t.Error(err)
			}
			if header == "Idempotency-Key" && !strings.ContainsAny(s, "\r\n") {
				if taken++; j.Key != strings.Trim(s, " \t") {
					t.Errorf("%s: given back as %q", what, j.Key)
				}
			}
		}
	}
	t.Logf("%d keys and %d reasons were taken", taken, reasons)
	if taken == 0 || reasons == 0 {
		t.Errorf("%d keys and %d reasons were taken", taken, reasons)
	}
}
