package app_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"crier/api"
	"crier/api/client"
	"crier/internal/app"
	"crier/internal/servers"
	"crier/job"
)

// TestAServerThatDoesNotSyncAnyMore starts one of three servers again with a setting by which
// it acknowledges what its disk may not have: the process answers that, takes and sends nothing,
// and goes on by itself when the server is mended.
func TestAServerThatDoesNotSyncAnyMore(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithTimeout(t.Context(), 5*time.Minute)
	defer stop()
	dir := t.TempDir()
	c, err := servers.StartNATS(ctx, servers.NATSConfig{Dir: dir, Servers: 3})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Kill)
	node := c.Nodes[2]
	again := func(from, to string) {
		t.Helper()
		node.Kill()
		path := filepath.Join(dir, node.Server, "nats.conf")
		b, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(b), "sync_interval: "+from) {
			t.Fatalf("the settings of %s: %v: %s", node.Server, err, b)
		}
		if err := os.WriteFile(path, []byte(strings.Replace(string(b), "sync_interval: "+from, "sync_interval: "+to, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := node.RestartOnly(ctx); err != nil {
			t.Fatal(err)
		}
	}
	ready, ended := make(chan app.Ready, 1), make(chan error, 1)
	cfg := app.Config{Data: t.TempDir(), Listen: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler), Announce: func(r app.Ready) { ready <- r },
		Messaging: app.Messaging{Servers: strings.Split(c.URL, ","), Creds: credsFile(t, servers.NATSUser), System: credsFile(t, servers.NATSSystem), Replicas: 3}}
	running, end := context.WithCancel(ctx)
	defer end()
	go func() { ended <- app.Run(running, cfg) }()
	var r app.Ready
	select {
	case r = <-ready:
	case err := <-ended:
		t.Fatalf("it ended: %v", err)
	}
	svc, err := client.New(client.Config{Server: r.API, Key: r.Token, Patience: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := svc.CreateAccount(ctx, api.CreateAccount{Name: "news"}); err != nil {
		t.Fatal(err)
	}
	if _, err := svc.AddFollowers(ctx, "news", []job.Recipient{1, 2, 3}); err != nil {
		t.Fatal(err)
	}
	submit := func(key string) (api.Job, error) {
		return svc.SubmitJob(ctx, api.SubmitJob{Account: "news", Audience: api.AudienceFollowers, Body: "x", IdempotencyKey: key})
	}
	before, err := submit("before")
	if err != nil {
		t.Fatal(err)
	}
	look := time.NewTicker(200 * time.Millisecond)
	defer look.Stop()
	until := func(what string, is func(error) bool) {
		t.Helper()
		for end := time.Now().Add(90 * time.Second); ; {
			_, err := svc.Status(ctx)
			if is(err) {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%s: %v", what, err)
			}
			select {
			case <-look.C:
			case err := <-ended:
				t.Fatalf("%s: it ended: %v", what, err)
			}
		}
	}
	held := func(err error) bool {
		return job.CodeOf(err) == job.CodeUnavailable && strings.Contains(err.Error(), node.Server) && strings.Contains(err.Error(), "sync_interval: always")
	}
	again("always", "2m")
	until("a server does not sync", held)
	if _, err := submit("held"); !held(err) {
		t.Errorf("a job while it is held: %v", err)
	}
	again("2m", "always")
	until("the server is mended", func(err error) bool { return err == nil })
	if j, err := submit("before"); err != nil || j.Job != before.Job {
		t.Errorf("the job of before is %s, not %s: %v", j.Job, before.Job, err)
	}
	after, err := submit("after")
	if err != nil {
		t.Fatal(err)
	}
	for _, j := range []api.Job{before, after} {
		if j, err := svc.WaitJob(ctx, j.Job, api.WaitJob{For: job.Sent, Timeout: time.Minute}); err != nil || j.State != job.Sent {
			t.Errorf("job %s is %s: %v", j.Job, j.State, err)
		}
	}
	end()
	if err := <-ended; err != nil {
		t.Errorf("when it is to stop: %v", err)
	}
}
