package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"crier/api"
	"crier/api/problem"
	"crier/internal/app"
	"crier/internal/servers"
	"crier/job"
)

// logBuffer is a log that many write to.
type logBuffer struct {
	sync.Mutex
	b bytes.Buffer
}

// Write implements io.Writer.
func (l *logBuffer) Write(p []byte) (int, error) {
	l.Lock()
	defer l.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) has(text string) bool {
	l.Lock()
	defer l.Unlock()
	return bytes.Contains(l.b.Bytes(), []byte(text))
}

// whileAway makes a request as somebody, within a bound, and gives the status.
func (h *house) whileAway(method, who string, c cell) int {
	h.t.Helper()
	began := time.Now()
	status, _, _ := h.ask(method, h.keys[who], c)
	if took := time.Since(began); took > 6*time.Second {
		h.t.Errorf("%s %s by %s took %s without the database", method, c.path, who, took)
	}
	return status
}

// TestAccessWithoutTheDatabase stops the database: keys that were in force stay so, wrong
// ones stay wrong, what the ledger does goes on, and the audit log is completed from it.
func TestAccessWithoutTheDatabase(t *testing.T) {
	t.Parallel()
	db := mariaDB(t)
	h, log := newHouse(t, func(c *app.Config) { c.SQL = db.DSN })
	job1 := cell{"/v1/jobs/" + h.live.String(), ""}
	pause := cell{"/v1/jobs/" + h.live.String() + "/pause", ""}
	db.Kill()
	for _, c := range []struct {
		method, who string
		cell        cell
		want        int
	}{
		{"GET", "acme viewer", job1, 200}, {"GET", "other viewer", job1, 404}, {"GET", "wrong", job1, 401}, {"GET", "revoked", job1, 401},
		{"POST", "acme submitter", pause, 200}, {"POST", "acme viewer", pause, 403}, {"POST", "bootstrap", cell{"/v1/jobs/" + h.live.String() + "/resume", ""}, 200},
		{"POST", "default admin", cell{"/v1/tokens", `{"recipient":1}`}, 201},
		{"POST", "acme submitter", cell{"/v1/jobs", fmt.Sprintf(`{"account":"%d","audience":"followers","body":"x"}`, h.account)}, 503},
		{"POST", "acme admin", cell{"/v1/keys", `{"name":"k","role":"viewer"}`}, 503},
	} {
		if status := h.whileAway(c.method, c.who, c.cell); status != c.want {
			t.Errorf("without the database %s %s by %s: %d, want %d", c.method, c.cell.path, c.who, status, c.want)
		}
	}
	if !log.has("mint-token") {
		t.Error("an act that nothing else records is not in the log either")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	h.must(db.Start(ctx))
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	found := map[string]int{}
	for found["pause-job"] == 0 || found["resume-job"] == 0 {
		select {
		case <-ctx.Done():
			t.Fatalf("the audit log has %v; the pause and the resume are missing", found)
		case <-tick.C:
		}
		list, err := h.boot.ListAudit(ctx, api.ListAudit{Object: "job/" + h.live.String(), Result: "done"})
		if job.CodeOf(err) == job.CodeUnavailable {
			continue
		}
		h.must(err)
		clear(found)
		for _, a := range list.Acts {
			found[a.Operation]++
			if a.Operation == "pause-job" && (a.KeyName != "acme submitter" || a.Tenant != "acme") {
				t.Errorf("the pause is %+v", a)
			}
		}
	}
	if found["pause-job"] != 1 || found["resume-job"] != 1 || found["submit-job"] != 1 {
		t.Errorf("the audit log has %v; want each once", found)
	}
}

// TestAKeyIsLimited makes more requests than a tenant may.
func TestAKeyIsLimited(t *testing.T) {
	h, _ := newHouse(t, nil)
	three := uint32(3)
	_, err := h.boot.SetLimits(t.Context(), "acme", api.SetLimits{Requests: &three})
	h.must(err)
	passed, refused := 0, 0
	for range 50 {
		status, body, header := h.ask("GET", h.keys["acme viewer"], cell{"/v1/self", ""})
		switch status {
		case 200:
			passed++
		case 429:
			refused++
			var p problem.Problem
			h.must(json.Unmarshal([]byte(body), &p))
			if header.Get("Retry-After") != "1" || p.Code != string(job.CodeLimited) || p.Detail == "" {
				t.Fatalf("over the limit: %s, Retry-After %q", body, header.Get("Retry-After"))
			}
		default:
			t.Fatalf("%d %s", status, body)
		}
		if status, _, _ := h.ask("GET", h.keys["other viewer"], cell{"/v1/self", ""}); status != 200 {
			t.Fatalf("another tenant gets %d", status)
		}
	}
	if passed < 3 || refused == 0 {
		t.Errorf("%d passed, %d did not", passed, refused)
	}
}

// trySend says that something was seen, unless nobody has looked since.
func trySend(seen chan<- struct{}) {
	select {
	case seen <- struct{}{}:
	default:
	}
}

// TestKeysAcrossProcesses makes keys at one API process and uses them at another, with
// the other roles in a third. What is open at one ends after its key is revoked at another.
func TestKeysAcrossProcesses(t *testing.T) {
	t.Parallel()
	nats := natsServers(t, servers.NATSConfig{Servers: 1})
	db, shared := mariaDB(t), t.TempDir()
	ports, err := servers.Ports(3)
	if err != nil {
		t.Fatal(err)
	}
	var seeds []string
	for _, p := range ports {
		seeds = append(seeds, fmt.Sprintf("127.0.0.1:%d", p))
	}
	member := func(n int, roles ...string) func(*app.Config) {
		return func(c *app.Config) {
			c.Name, c.Roles, c.Blobs, c.Keys, c.SQL, c.LedgerMax = fmt.Sprintf("m%d", n), roles, shared+"/blobs", shared+"/keys", db.DSN, 256<<20
			c.Cluster = app.Cluster{ID: "crier", Listen: seeds[n], Seeds: seeds, Profile: "fast"}
			c.Messaging = app.Messaging{Servers: strings.Split(nats.URL, ","), Creds: credsFile(t, servers.NATSUser), System: credsFile(t, servers.NATSSystem), Replicas: 1}
		}
	}
	startHouse(t, member(0, "scheduler", "worker", "gateway", "relay"))
	first, _ := startHouse(t, member(1, "api"))
	second, _ := startHouse(t, member(2, "api"))
	here, there := &house{t: t, url: first.API}, &house{t: t, url: second.API}
	boot, ctx := here.dial(first.Token), t.Context()
	_, err = boot.CreateTenant(ctx, api.CreateTenant{Name: "acme"})
	here.must(err)
	_, err = boot.CreateAccount(ctx, api.CreateAccount{Name: "news", Tenant: "acme"})
	here.must(err)
	k, err := boot.CreateKey(ctx, api.CreateKey{Name: "sender", Role: job.Submitter, Tenant: "acme"})
	here.must(err)
	sender := there.dial(k.Secret)                                // at once
	_, err = sender.AddFollowers(ctx, "news", []job.Recipient{7}) // who is offline: the job is not over
	here.must(err)
	j, err := sender.SubmitJob(api.WithAct(ctx, &api.Act{Reason: "for the first time"}), api.SubmitJob{Account: "news", Audience: api.AudienceFollowers, Body: "x"})
	here.must(err)
	if j.SubmittedBy != k.ID || j.Tenant != "acme" {
		t.Errorf("the job is %+v", j)
	}
	if _, err := sender.WaitJob(ctx, j.Job, api.WaitJob{For: job.Sent, Timeout: 30 * time.Second}); err != nil {
		t.Error(err)
	}
	list, err := boot.ListAudit(ctx, api.ListAudit{Tenant: "acme", Operation: "submit-job"})
	here.must(err)
	if len(list.Acts) != 1 || list.Acts[0].Key != k.ID || list.Acts[0].KeyName != "sender" || list.Acts[0].Reason != "for the first time" {
		t.Errorf("the audit log has %+v", list.Acts)
	}
	opened, ended := make(chan struct{}, 2), make(chan error, 3)
	go func() {
		ended <- sender.TailEvents(ctx, api.TailEvents{Follow: true, Job: j.Job}, func(api.Event) error { trySend(opened); return nil })
	}()
	go func() {
		ended <- sender.WatchJob(ctx, j.Job, func(api.Job) error { trySend(opened); return nil })
	}()
	go func() {
		_, err := sender.WaitJob(ctx, j.Job, api.WaitJob{For: job.Completed})
		ended <- err
	}()
	<-opened
	_, err = boot.RevokeKey(ctx, k.ID)
	here.must(err)
	late := time.After(5 * time.Second)
	for range cap(ended) {
		select {
		case err := <-ended:
			if job.CodeOf(err) != job.CodeDenied {
				t.Errorf("what was open when its key was revoked ended with %v", err)
			}
		case <-late:
			t.Fatal("what was open goes on 5 s after its key was revoked elsewhere")
		}
	}
	began, tick := time.Now(), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for {
		status, _, _ := there.ask("GET", k.Secret, cell{"/v1/self", ""})
		if status == 401 {
			break
		}
		if status != 200 || time.Since(began) > 5*time.Second {
			t.Fatalf("a key that was revoked elsewhere %s ago gets %d", time.Since(began), status)
		}
		<-tick.C
	}
	if status, _, _ := here.ask("GET", k.Secret, cell{"/v1/self", ""}); status != 401 {
		t.Errorf("a key that was revoked here gets %d", status)
	}
}
