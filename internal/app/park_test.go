package app_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"crier/api"
	"crier/job"
)

// Jobs for recipients who never connect: of those with one key the newest waits, and no more
// than the cap. The numbers are right without a login, after a kill, and after the index was
// taken away; explain says why.
func TestTooMuchThatWaits(t *testing.T) {
	t.Parallel()
	x := &trial{t: t, cfg: newTrialConfig(t, "--parking-cap=3")}
	ctx := context.Background()
	x.restart(ctx)
	x.cfg.Listen = mustHost(t, x.srv.API)
	x.cli(nil, "account", "create", "crowded")
	_, err := x.svc.AddFollowers(ctx, "crowded", []job.Recipient{1, 70_001, 3_000_000})
	x.must(err)
	var ids []job.ID
	send := func(key string) {
		j, err := x.svc.SubmitJob(ctx, api.SubmitJob{Account: "crowded", Audience: api.AudienceFollowers, Body: "message", CollapseKey: key})
		x.must(err)
		_, err = x.svc.WaitJob(ctx, j.Job, api.WaitJob{For: job.Sent, Timeout: time.Minute})
		x.must(err)
		ids = append(ids, j.Job)
	}
	settled := func(want ...string) {
		t.Helper()
		limit := time.Now().Add(30 * time.Second)
		for n, id := range ids {
			for {
				j, err := x.svc.GetJob(ctx, id)
				x.must(err)
				got := "parked"
				for r := range j.Counts.Dropped {
					got = r.String()
				}
				if got == want[n] && (j.Counts.Parked == 3) == (got == "parked") {
					break
				}
				if time.Now().After(limit) {
					t.Fatalf("job %d is %+v, want %s", n, j.Counts, want[n])
				}
				<-time.After(50 * time.Millisecond)
			}
			var have counts
			x.cli(&have, "job", "reconcile", id.String())
			if !have.Conserved {
				t.Errorf("job %d is not conserved: %+v", n, have)
			}
		}
	}
	for _, key := range []string{"score", "", "score", "", ""} {
		send(key)
	}
	settled("collapsed", "park_cap", "parked", "parked", "parked")
	x.srv.Kill()
	x.must(os.RemoveAll(filepath.Join(x.cfg.Dir, "data", "parked")))
	x.restart(ctx)
	send("score")
	settled("collapsed", "park_cap", "collapsed", "parked", "parked", "parked")
	for n, want := range map[int]string{0: `collapse key "score"`, 1: "parking.cap"} {
		e, err := x.svc.ExplainJob(ctx, ids[n], 70_001)
		x.must(err)
		if e.Outcome != job.Dropped || !strings.Contains(e.Because, want) {
			t.Errorf("job %d is explained by %+v, want %s", n, e, want)
		}
	}
}
