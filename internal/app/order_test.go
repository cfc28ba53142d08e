package app_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"crier/api"
	"crier/job"
	"crier/presence/client"
)

// TestParkedArriveInOrder parks several messages for recipients who then log in: each
// gets the urgent one first, then the others by age.
func TestParkedArriveInOrder(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	x := newTrial(t)
	x.cli(nil, "account", "create", "ordered")
	var who []job.Recipient
	for i := range job.Recipient(20) {
		who = append(who, i*500_009)
	}
	_, err := x.svc.AddFollowers(ctx, "ordered", who)
	x.must(err)
	var want []string
	for i := range 8 {
		req := api.SubmitJob{Account: "ordered", Audience: api.AudienceFollowers, Body: fmt.Sprint("number ", i)}
		if i == 5 {
			req.Class, req.Priority, req.Body = job.Realtime, 99, "urgent"
		} else {
			want = append(want, req.Body)
		}
		j, err := x.svc.SubmitJob(ctx, req)
		x.must(err)
		_, err = x.svc.WaitJob(ctx, j.Job, api.WaitJob{For: job.Sent})
		x.must(err)
	}
	want = slices.Insert(want, 0, "urgent")
	for _, r := range who {
		token, err := x.svc.MintToken(ctx, api.MintToken{Recipient: &r})
		x.must(err)
		if got := x.listen(ctx, token.Token, len(want)); !slices.Equal(got, want) {
			t.Errorf("recipient %s got %q, want %q", r, got, want)
		}
	}
}

// listen connects a client until it has n messages, and gives their bodies.
func (x *trial) listen(ctx context.Context, token string, n int) (bodies []string) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	c, err := client.New(client.Config{URL: x.srv.Gateway, Token: client.StaticToken(token),
		OnMessage: func(_ context.Context, m client.Message) error {
			if bodies = append(bodies, m.Body); len(bodies) == n {
				stop()
			}
			return nil
		}})
	x.must(err)
	if err := c.Run(ctx); ctx.Err() == nil {
		x.t.Fatal(err)
	}
	return bodies
}
