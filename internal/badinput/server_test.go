package badinput_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"crier/internal/app"
)

// server is a whole process of Crier inside the test: its API over TCP, its stores on
// disk. It has an account "sender" whose follower 7 is offline, a package, and a job that
// is sent and parked.
type server struct {
	t        *testing.T
	dir      string
	ready    app.Ready
	client   *http.Client
	log      *safeBuffer
	job      string
	key      string // the id of one of acme's
	member   string // the process itself
	pkg      string
	envelope []byte // the package's bytes

	unusedNames int // that were given out

	mu struct {
		sync.Mutex
		accepted map[string]bool // jobs, by their ids
	}
}

// safeBuffer is a log that may be read while it is written.
type safeBuffer struct {
	mu struct {
		sync.Mutex
		b bytes.Buffer
	}
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.b.String()
}

// start runs a server until the end of the test, and fails the test if it said that
// something broke inside of it.
func start(t *testing.T) *server {
	t.Helper()
	x := &server{t: t, dir: t.TempDir(), log: &safeBuffer{}}
	x.mu.accepted = map[string]bool{}
	transport := &http.Transport{MaxConnsPerHost: 500, MaxIdleConnsPerHost: 500}
	x.client = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	ctx, stop := context.WithCancel(context.Background())
	announced, ended := make(chan app.Ready, 1), make(chan error, 1)
	go func() {
		ended <- app.Run(ctx, app.Config{Data: x.dir, Listen: "127.0.0.1:0", LedgerMax: 1 << 30, Version: "test",
			Logger: slog.New(slog.NewTextHandler(x.log, nil)), Announce: func(r app.Ready) { announced <- r }})
	}()
	select {
	case x.ready = <-announced:
	case err := <-ended:
		stop()
		t.Fatalf("the server ended: %v\n%s", err, x.log)
	}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the server ended: %v", err)
		}
		if log := x.log.String(); strings.Contains(log, "panic") || strings.Contains(log, "level=ERROR") {
			t.Errorf("something broke inside:\n%.4000s", log)
		}
	})
	x.populate()
	return x
}

func (x *server) populate() {
	x.t.Helper()
	x.made("POST", "/v1/accounts", `{"name":"sender"}`, nil)
	x.made("POST", "/v1/accounts/sender/followers/add", `{"ids":[7]}`, nil)
	x.made("POST", "/v1/segments", `{"name":"seg"}`, nil)
	x.made("POST", "/v1/tenants", `{"name":"acme"}`, nil)
	var k struct{ ID string }
	x.made("POST", "/v1/keys", `{"name":"spare","role":"viewer","tenant":"acme"}`, &k)
	x.key = k.ID
	x.envelope = envelope(x.t, "seven", 7, 70_000)
	var p struct{ ID string }
	x.made("POST", "/v1/packages?account=sender", string(x.envelope), &p)
	var j struct{ Job string }
	x.made("POST", "/v1/jobs", `{"account":"sender","package":"`+p.ID+`","body":"hi"}`, &j)
	x.pkg, x.job, x.member = p.ID, j.Job, x.members()[0].ID
	x.made("GET", "/v1/jobs/"+x.job+"/wait", "", nil)
}

// made makes a request that must work.
func (x *server) made(method, path, body string, into any) {
	x.t.Helper()
	a := x.do(method, path, body)
	if a.status/100 != 2 {
		x.t.Fatalf("%s %s: %d %s", method, path, a.status, a.body)
	}
	if into != nil {
		if err := json.Unmarshal([]byte(a.body), into); err != nil {
			x.t.Fatal(err)
		}
	}
}

type answer struct {
	status      int
	contentType string
	body        string
}

// do makes a request with the admin key.
func (x *server) do(method, path, body string, header ...string) answer {
	x.t.Helper()
	a, err := x.try(method, path, body, header...)
	if err != nil {
		x.t.Fatalf("%s %.200s: %v", method, path, err)
	}
	return a
}

func (x *server) try(method, path, body string, header ...string) (answer, error) {
	req, err := http.NewRequest(method, x.ready.API+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Authorization", "Bearer "+x.ready.Token)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := x.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if _, id, ok := strings.Cut(resp.Header.Get("Location"), "/v1/jobs/"); ok && resp.StatusCode == http.StatusAccepted {
		x.mu.Lock()
		x.mu.accepted[id] = true
		x.mu.Unlock()
	}
	return answer{resp.StatusCode, resp.Header.Get("Content-Type"), string(data)}, err
}

// problem is an error as the API tells it.
type problem struct {
	Detail, Code string
	Status       int
	Errors       []struct{ Detail, Pointer, Parameter string }
}

// refused holds an answer that is no success to being one of the client's, in the form of
// a problem. What it gives is nil if it was a success.
func (x *server) refused(what string, a answer) *problem {
	x.t.Helper()
	if a.status/100 == 2 {
		return nil
	}
	p := &problem{}
	if err := json.Unmarshal([]byte(a.body), p); err != nil || a.status/100 != 4 || a.contentType != "application/problem+json" || p.Status != a.status || p.Detail == "" || p.Code == "" {
		x.t.Errorf("%.300s: %d %.500s (%s)", what, a.status, a.body, a.contentType)
	}
	return p
}

// jobs is what is asked of each job that is listed: for the rest, they go on by themselves.
func (x *server) jobs() map[string]string {
	x.t.Helper()
	all := map[string]string{}
	var list struct {
		Jobs []struct {
			Job, Package, Decision string
			State                  string // cancelled, or none: the others come by themselves
			Paused                 bool
			Rate                   uint32
		}
		Next string
	}
	for next := ""; ; next = list.Next {
		list.Next, list.Jobs = "", nil
		x.made("GET", "/v1/jobs?limit=500&cursor="+url.QueryEscape(next), "", &list)
		for _, j := range list.Jobs {
			if !strings.HasPrefix(j.State, "cancel") {
				j.State = ""
			}
			all[j.Job] = fmt.Sprint(j)
		}
		if list.Next == "" {
			return all
		}
	}
}

// lacks reports whether a list lacks a job that was accepted.
func (x *server) lacks(listed map[string]string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	for id := range x.mu.accepted {
		if _, ok := listed[id]; !ok {
			return true
		}
	}
	return false
}

type member struct{ ID, State, Reason string }

func (x *server) members() []member {
	x.t.Helper()
	var m struct{ Members []member }
	x.made("GET", "/v1/members", "", &m)
	return m.Members
}

// access is the tenants, but for how many jobs they have, and the keys.
func (x *server) access() map[string]string {
	x.t.Helper()
	all := map[string]string{}
	var list struct {
		Tenants []struct {
			Name   string
			Limits json.RawMessage
		}
		Keys []json.RawMessage
		Next string
	}
	for _, path := range []string{"/v1/tenants", "/v1/keys"} {
		for next := ""; ; next = list.Next {
			list.Next, list.Tenants, list.Keys = "", nil, nil
			x.made("GET", path+"?limit=500&cursor="+url.QueryEscape(next), "", &list)
			for _, t := range list.Tenants {
				all["tenant "+t.Name] = string(t.Limits)
			}
			for _, k := range list.Keys {
				all["key "+string(k)] = "is there"
			}
			if list.Next == "" {
				break
			}
		}
	}
	return all
}

// state is all that requests can change, as the API and the disk show it.
func (x *server) state() map[string]string {
	x.t.Helper()
	s := map[string]string{}
	get := func(path string) {
		a := x.do("GET", path, "")
		if a.status != 200 {
			x.t.Fatalf("%s: %d %s", path, a.status, a.body)
		}
		s[path] = a.body
	}
	for _, path := range []string{"/v1/accounts?limit=500", "/v1/packages?limit=500", "/v1/suppression", "/v1/suppression?account=sender", "/v1/segments?limit=500", "/v1/segments/seg"} {
		get(path)
	}
	jobs := x.jobs()
	for since := time.Now(); x.lacks(jobs) && time.Since(since) < time.Minute; jobs = x.jobs() {
		runtime.Gosched() // the list follows the ledger
	}
	maps.Copy(s, jobs)
	maps.Copy(s, x.access())
	s["members"] = fmt.Sprint(x.members())
	for _, sub := range []string{"blobs", "scratch"} {
		err := filepath.WalkDir(filepath.Join(x.dir, sub), func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				s["file "+path] = "is there"
			}
			return err
		})
		if err != nil {
			x.t.Fatal(err)
		}
	}
	return s
}
