package server_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"crier/api"
	"crier/api/apitest"
	"crier/api/server"
	"crier/job"
)

// changing are keys whose one caller may become another, or none.
type changing struct {
	mu struct {
		sync.Mutex
		caller api.Caller
		err    error
	}
}

func (k *changing) Identify(context.Context, string) (api.Caller, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.mu.caller, k.mu.err
}

func (k *changing) Admit(api.Caller) error { return nil }

func (k *changing) become(c api.Caller, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.mu.caller, k.mu.err = c, err
}

// endless has a file that does not end by itself.
type endless struct{ *apitest.Fake }

func (endless) ExportSet(_ context.Context, _ api.ExportSet, w io.Writer) error {
	for {
		if _, err := w.Write(make([]byte, 1<<10)); err != nil {
			return err
		}
	}
}

// room is a server over a fake, whose time is the test's.
type room struct {
	t    *testing.T
	fake *apitest.Fake
	keys *changing
	ln   *pipes
	e    ended
	job  job.ID
}

// inRoom runs a test with a job that is not over.
func inRoom(t *testing.T, test func(x *room)) {
	synctest.Test(t, func(t *testing.T) {
		x := &room{t: t, fake: apitest.New(), keys: &changing{}, ln: &pipes{make(chan net.Conn), make(chan struct{})}}
		x.keys.become(api.Operator(), nil)
		x.fake.Manual = true
		ctx := api.WithCaller(t.Context(), api.Operator())
		if _, err := x.fake.CreateAccount(ctx, api.CreateAccount{Name: "news"}); err != nil {
			t.Fatal(err)
		}
		j, err := x.fake.SubmitJob(ctx, api.SubmitJob{Account: "news", Audience: api.AudienceFollowers, Body: "x"})
		if err != nil {
			t.Fatal(err)
		}
		x.job = j.Job
		if _, err := x.fake.CreateSegment(ctx, api.CreateSegment{Name: "vip"}); err != nil {
			t.Fatal(err)
		}
		s, err := server.New(server.Config{Service: endless{x.fake}, Keys: x.keys, Trail: x.e.trail(), Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		srv := &http.Server{Handler: s, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
		served := make(chan error, 1)
		go func() { served <- srv.Serve(x.ln) }()
		test(x)
		srv.Close()
		<-served
	})
}

// open sends the beginning of a request. What it gives ends the connection, and gives the
// status and the body of the answer when it is whole.
func (x *room) open(request, body string) (conn net.Conn, answered func() (int, string)) {
	mine, theirs := net.Pipe()
	x.ln.conns <- theirs
	if err := mine.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		x.t.Fatal(err)
	}
	if _, err := fmt.Fprintf(mine, "%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\n%s", strings.ReplaceAll(request, "{job}", x.job.String()), body); err != nil {
		x.t.Fatal(err)
	}
	type whole struct {
		status int
		body   string
	}
	got := make(chan whole, 1)
	go func() {
		resp, err := http.ReadResponse(bufio.NewReader(mine), nil)
		if err != nil {
			got <- whole{0, err.Error()}
			return
		}
		data, err := io.ReadAll(resp.Body)
		if err != nil {
			data = append(data, "broke off"...)
		}
		got <- whole{resp.StatusCode, string(data)}
	}()
	return mine, func() (int, string) {
		w := <-got
		mine.Close()
		return w.status, w.body
	}
}

var errRevoked = &job.Error{Code: job.CodeDenied, Message: "this is not a valid key"}

// What is under way when its key is revoked, or may not do it any more, ends within a second
// of that being known, with what a new request would get.
func TestRevokedUnderWay(t *testing.T) {
	viewer := api.Caller{Key: "key_1", Role: job.Viewer, Tenant: job.DefaultTenant}
	device, elsewhere := viewer, viewer
	device.Role, elsewhere.Tenant = job.Device, "acme"
	for _, c := range []struct {
		what, request, body string
		before, after       api.Caller
		err                 error
		status              int // of the answer; 200: of one that had begun
		code, acts          string
	}{
		{"events", "GET /v1/events?follow=true", "\r\n", viewer, viewer, errRevoked, 200, `"status":401`, ""},
		{"events of nothing", "GET /v1/events?follow=true&kind=slice", "\r\n", viewer, viewer, errRevoked, 401, `"status":401`, ""},
		{"a watch", "GET /v1/jobs/{job}/watch", "\r\n", viewer, viewer, errRevoked, 200, `"status":401`, ""},
		{"a watch by who becomes a device", "GET /v1/jobs/{job}/watch", "\r\n", viewer, device, nil, 200, `"status":403`, ""},
		{"a watch by who goes to another tenant", "GET /v1/jobs/{job}/watch", "\r\n", viewer, elsewhere, nil, 200, `"status":403`, ""},
		{"the ledger", "GET /v1/ledger?follow=true", "\r\n", api.Operator(), viewer, nil, 200, `"status":403`, ""},
		{"a long poll", "GET /v1/jobs/{job}/wait?for=completed", "\r\n", viewer, viewer, errRevoked, 401, `"status":401`, ""},
		{"an upload that stands still", "POST /v1/segments/vip/import", "Content-Length: 100\r\n\r\n1\n", api.Operator(), viewer, errRevoked, 401, `"status":401`, "import-segment segment/vip bootstrap  true denied"},
	} {
		t.Run(c.what, func(t *testing.T) {
			inRoom(t, func(x *room) {
				x.keys.become(c.before, nil)
				_, answered := x.open(c.request, c.body)
				time.Sleep(14 * time.Second) // less than until a heartbeat
				began := time.Now()
				x.keys.become(c.after, c.err)
				status, body := answered()
				if took := time.Since(began); took > time.Second {
					x.t.Errorf("it ended after %s", took)
				}
				lines := strings.Split(strings.TrimSpace(body), "\n")
				if last := lines[len(lines)-1]; status != c.status || !strings.Contains(last, c.code) || !strings.Contains(last, `"code":"denied"`) {
					x.t.Errorf("%d %s", status, body)
				}
				if acts := strings.Join(x.e.take(), ", "); acts != c.acts {
					x.t.Errorf("the audit log is told %q", acts)
				}
			})
		})
	}
}

// A file that is under way is cut, for a part of it must not be taken for the whole.
func TestRevokedFileIsCut(t *testing.T) {
	inRoom(t, func(x *room) {
		mine, theirs := net.Pipe()
		x.ln.conns <- theirs
		fmt.Fprint(mine, "GET /v1/sets/followers?of=news HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(mine), nil)
		if err != nil || resp.StatusCode != 200 {
			t.Fatal(resp, err)
		}
		x.keys.become(api.Caller{}, errRevoked)
		time.Sleep(time.Second)
		if _, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20)); err == nil {
			t.Error("the file goes on")
		}
		mine.Close()
	})
}

// A change whose request is whole is brought to its end; one whose body comes after the key
// was revoked is not begun.
func TestRevokedChanges(t *testing.T) {
	inRoom(t, func(x *room) {
		begun, goOn := make(chan struct{}), make(chan struct{})
		x.fake.Fail = func(method string) error {
			if method == "PauseJob" {
				close(begun)
				<-goOn
			}
			return nil
		}
		_, answered := x.open("POST /v1/jobs/{job}/pause", "Content-Length: 0\r\n\r\n")
		<-begun
		x.keys.become(api.Caller{}, errRevoked)
		time.Sleep(10 * time.Second)
		close(goOn)
		if status, body := answered(); status != 200 {
			t.Errorf("a change that was under way: %d %s", status, body)
		}
	})
	inRoom(t, func(x *room) {
		x.fake.Fail = func(method string) error { t.Errorf("%s was begun", method); return nil }
		conn, answered := x.open("POST /v1/accounts", "Content-Length: 15\r\n\r\n")
		time.Sleep(time.Second)
		x.keys.become(api.Caller{}, errRevoked)
		time.Sleep(5 * time.Second)
		if _, err := io.WriteString(conn, `{"name":"other"}`[:15]); err != nil {
			t.Fatal(err)
		}
		if status, body := answered(); status != 401 || !strings.Contains(body, `"code":"denied"`) {
			t.Errorf("a body that came late: %d %s", status, body)
		}
	})
}
