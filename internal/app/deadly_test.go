package app_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"crier/api"
	"crier/internal/proc"
	"crier/job"
)

// A job that ends the process is set aside after five deaths; the next start lives, other
// jobs flow again, and a resume in a server that does not die of it sends it to everybody.
func TestDeadlyJob(t *testing.T) {
	t.Parallel()
	path, err := fragileBinary()
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	dir := t.TempDir()
	cfg := proc.Config{Binary: path, Dir: dir, Args: []string{"--passed", filepath.Join(dir, "passed"), "--die", fmt.Sprint(trapped)}}
	start := func() (*proc.Server, api.Service) {
		srv, err := proc.Start(ctx, cfg)
		must(t, err)
		t.Cleanup(srv.Kill)
		svc, err := srv.Client()
		must(t, err)
		return srv, svc
	}
	srv, svc := start()
	for name, ids := range map[string][]job.Recipient{"deadly": {7, trapped, 1 << 30}, "news": {7, 8, 1 << 30}} {
		_, err := svc.CreateAccount(ctx, api.CreateAccount{Name: name})
		must(t, err)
		_, err = svc.AddFollowers(ctx, name, ids)
		must(t, err)
	}
	j, err := svc.SubmitJob(ctx, api.SubmitJob{Account: "deadly", Audience: api.AudienceFollowers, Body: "Hear ye!"})
	must(t, err)
	deaths := 0
	for deaths < 10 {
		if ended := diesOrBecomes(ctx, srv, svc, j.Job, job.Quarantined); !ended {
			break
		}
		deaths++
		srv, svc = start()
	}
	if j, err = svc.GetJob(ctx, j.Job); err != nil || deaths != job.MaxTries || j.State != job.Quarantined || !strings.Contains(j.Reason, "the process died 5 times") {
		t.Fatalf("after %d deaths it is %s: %s; %v", deaths, j.State, j.Reason, err)
	}
	other, err := svc.SubmitJob(ctx, api.SubmitJob{Account: "news", Audience: api.AudienceFollowers, Body: "Hear ye!"})
	must(t, err)
	if diesOrBecomes(ctx, srv, svc, other.Job, job.Sent) {
		t.Fatal("it died of another job")
	}
	must(t, srv.Stop())
	cfg.Args = cfg.Args[:2]
	srv, svc = start()
	_, err = svc.ResumeJob(ctx, j.Job)
	must(t, err)
	if diesOrBecomes(ctx, srv, svc, j.Job, job.Sent) {
		t.Fatal("it died without a reason")
	}
	rec, err := svc.ReconcileJob(ctx, j.Job)
	must(t, err)
	if !rec.Conserved || rec.Parked != 3 {
		t.Errorf("%v, %+v", rec.Violations, rec.Counts)
	}
}

// diesOrBecomes waits until a job is in a state, or its server has died.
func diesOrBecomes(ctx context.Context, srv *proc.Server, svc api.Service, id job.ID, want job.State) (died bool) {
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	for ctx.Err() == nil {
		select {
		case <-srv.Done():
			return true
		case <-t.C:
		}
		if j, err := svc.GetJob(ctx, id); err == nil && j.State == want {
			return false
		}
	}
	return false
}
