package app_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"crier/api"
	"crier/internal/crowd"
	"crier/internal/proc"
	"crier/job"
)

// TestRateOnTheRealClock sends to 1,500 connected clients at a rate that is changed
// on the way, and looks at the times that the gateway wrote into the messages: no
// second has more than the rate, and the rate is nearly reached.
func TestRateOnTheRealClock(t *testing.T) {
	const clients, slow, fast = 1500, 100, 300
	x := newTrial(t)
	ctx := context.Background()
	x.cli(nil, "account", "create", "paced")
	var who []job.Recipient
	var members []crowd.Member
	for i := range job.Recipient(clients) {
		id := i * 7919
		who = append(who, id)
		tok, err := x.svc.MintToken(ctx, api.MintToken{Recipient: &id})
		x.must(err)
		members = append(members, crowd.Member{Recipient: id, Token: tok.Token, Kind: crowd.Speaks})
	}
	_, err := x.svc.AddFollowers(ctx, "paced", who)
	x.must(err)
	x.child, err = proc.StartChild(x.cfg.Binary, "demo", "crowd")
	x.must(err)
	t.Cleanup(func() { x.child.Stop() })
	var rep crowd.Report
	x.must(x.child.Ask(crowd.Request{Gateway: x.srv.Gateway}, &rep))
	x.must(x.child.Ask(crowd.Request{Connect: members}, &rep))
	j, err := x.svc.SubmitJob(ctx, api.SubmitJob{Account: "paced", Audience: api.AudienceFollowers, Body: "paced", Rate: slow})
	x.must(err)
	x.watchTo(ctx, j.Job, 0.3)
	_, err = x.svc.SetRate(ctx, j.Job, fast)
	x.must(err)
	changed := time.Now().UnixMilli()
	_, err = x.svc.WaitJob(ctx, j.Job, api.WaitJob{For: job.Completed, Timeout: time.Minute})
	x.must(err)
	x.must(x.child.Ask(crowd.Request{Report: &j.Job}, &rep))
	if len(rep.Shown) != clients || len(rep.Times) != clients {
		t.Fatalf("%d clients got it, want %d", len(rep.Shown), clients)
	}
	slices.Sort(rep.Times)
	for i, at := range rep.Times {
		limit := slow
		if at+1000 > changed {
			limit = fast
		}
		n := 0
		for n = i; n < clients && rep.Times[n] < at+1000; n++ {
		}
		if n-i > limit {
			t.Errorf("%d clients got it in the second from %d ms on, the rate was %d", n-i, at-rep.Times[0], limit)
		}
	}
	took := float64(rep.Times[clients-1]-rep.Times[0]) / 1000
	want := float64(clients)*0.3/slow + float64(clients)*0.7/fast
	t.Logf("took %.1f s; at its rates it takes %.1f s", took, want)
	if took > 1.35*want+1 {
		t.Errorf("took %.1f s; at its rates it takes %.1f s", took, want)
	}
}
