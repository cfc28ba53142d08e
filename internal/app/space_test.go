package app

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"crier/api"
	"crier/api/client"
	"crier/internal/app/space"
	"crier/job"
)

// TestFullDisk lets the disk of a running process fill up and be freed: requests
// are told so at the same port, and what was accepted before goes on afterwards.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	ready := make(chan Ready, 1)
	cfg := Config{Data: t.TempDir(), Listen: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler), Announce: func(r Ready) { ready <- r }}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	var full atomic.Bool
	s := space.New(cfg.disk())
	defer s.Close()
	s.Free = func(string) (int64, int64, error) {
		if full.Load() {
			return 0, space.MinFree, nil
		}
		return 1 << 40, space.MinFree, nil
	}
	full.Store(true) // it waits for space before it begins, too
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- runWith(ctx, cfg, s) }()
	select {
	case <-ready:
		t.Fatal("it is ready on a full disk")
	case <-time.After(space.LookEvery):
	}
	full.Store(false)
	r := <-ready
	svc, err := client.New(client.Config{Server: r.API, Key: r.Token})
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
	key, err := svc.CreateKey(ctx, api.CreateKey{Name: "shop", Role: job.Submitter})
	if err != nil {
		t.Fatal(err)
	}
	shop, err := client.New(client.Config{Server: r.API, Key: key.Secret})
	if err != nil {
		t.Fatal(err)
	}
	before, err := submit("before")
	if err != nil {
		t.Fatal(err)
	}
	full.Store(true)
	until(t, "a submit is refused", func() bool {
		_, err := submit("")
		return job.CodeOf(err) == job.CodeFull
	})
	if _, err := shop.SubmitJob(ctx, api.SubmitJob{Account: "news", Audience: api.AudienceFollowers, Body: "x"}); job.CodeOf(err) != job.CodeFull {
		t.Errorf("a submit with a key that only the store knows: %v", err)
	}
	if a, err := http.Get(r.API + "/readyz"); err != nil || a.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("readyz on a full disk: %v, %v", a, err)
	}
	if a, err := http.Get(r.API + "/v1/connect"); err != nil || a.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("the gateway on a full disk: %v, %v", a, err)
	}
	full.Store(false)
	until(t, "a submit is taken again", func() bool { _, err := submit("after"); return err == nil })
	if j, err := svc.WaitJob(ctx, before.Job, api.WaitJob{For: job.Sent}); err != nil || j.State != job.Sent {
		t.Errorf("the job from before: %v, %v", j.State, err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// heard is a log of which one message is waited for.
type heard struct {
	slog.Handler
	message string
	ch      chan struct{}
}

// Handle implements slog.Handler.
func (h heard) Handle(_ context.Context, r slog.Record) error {
	if r.Message == h.message {
		select {
		case h.ch <- struct{}{}:
		default:
		}
	}
	return nil
}

// Enabled implements slog.Handler.
func (heard) Enabled(context.Context, slog.Level) bool { return true }

// WithAttrs implements slog.Handler.
func (h heard) WithAttrs([]slog.Attr) slog.Handler { return h }

// TestBeginsAgain: what a process needs may be away at its first beginning, which ends
// it, or later, when its parts have ended: then it goes on trying.
func TestBeginsAgain(t *testing.T) {
	t.Parallel()
	ready, tries := make(chan Ready, 1), make(chan struct{}, 1)
	cfg := Config{Data: t.TempDir(), Listen: "127.0.0.1:0", Announce: func(r Ready) { ready <- r },
		Logger: slog.New(heard{slog.DiscardHandler, "this process cannot begin again yet; it goes on trying", tries})}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	away := func() {
		t.Helper()
		if err := os.Rename(cfg.Blobs, cfg.Blobs+"-away"); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(cfg.Blobs, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	back := func() {
		t.Helper()
		if err := os.Rename(cfg.Blobs+"-away", cfg.Blobs); err != nil {
			t.Fatal(err)
		}
	}
	var full atomic.Bool
	s := space.New(cfg.disk())
	defer s.Close()
	s.Free = func(string) (int64, int64, error) {
		if full.Load() {
			return 0, space.MinFree, nil
		}
		return 1 << 40, space.MinFree, nil
	}
	if err := os.Mkdir(cfg.Blobs, 0o700); err != nil {
		t.Fatal(err)
	}
	away()
	if err := runWith(t.Context(), cfg, s); err == nil {
		t.Fatal("it begins without its blobs")
	}
	if err := os.Remove(cfg.Blobs); err != nil {
		t.Fatal(err)
	}
	back()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- runWith(ctx, cfg, s) }()
	var r Ready
	select {
	case r = <-ready:
	case err := <-ended:
		t.Fatal(err)
	}
	status := func() int {
		a, err := http.Get(r.API + "/readyz")
		if err != nil {
			return 0
		}
		a.Body.Close()
		return a.StatusCode
	}
	full.Store(true)
	until(t, "it is not ready on a full disk", func() bool { return status() == http.StatusServiceUnavailable })
	away()
	full.Store(false)
	for range 2 {
		select {
		case <-tries:
		case err := <-ended:
			t.Fatalf("it has ended: %v", err)
		case <-time.After(20 * time.Second):
			t.Fatal("it does not try to begin again")
		}
	}
	if err := os.Remove(cfg.Blobs); err != nil {
		t.Fatal(err)
	}
	back()
	until(t, "it is ready again", func() bool { return status() == http.StatusOK })
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// until asks again and again until something is so.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for end := time.Now().Add(20 * time.Second); !is(); <-again.C {
		if time.Now().After(end) {
			t.Fatalf("it does not come to it that %s", what)
		}
	}
}
