package app_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"crier/api"
	"crier/api/client"
	"crier/filters"
	"crier/internal/app"
	"crier/internal/idset"
	"crier/job"
)

// trap is a filter that breaks whoever runs it for one recipient, while it is set.
type trap struct {
	on  atomic.Bool
	hit atomic.Int64
}

const trapped = 4242

func (*trap) Reason() job.Reason { return job.ReasonRelation }

func (x *trap) Refuse(_ context.Context, in *idset.Set) (*idset.Set, error) {
	if x.on.Load() && in.Has(trapped) {
		x.hit.Add(1)
		panic("trapped")
	}
	return idset.New(in.Range), nil
}

func (x *trap) filters(l filters.Lists) filters.Chain { return append(filters.New(l), x) }

// A job that breaks the process's work on it is set aside after five tries: the process
// lives, other jobs flow, a restart changes nothing, and a resume sends it to everybody.
func TestPoisonJob(t *testing.T) {
	x := &trap{}
	x.on.Store(true)
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	poison, events := job.ID{}, 0
	t.Run("before the restart", func(t *testing.T) {
		svc := serve(t, dir, x)
		for name, ids := range map[string][]job.Recipient{"poison": {7, trapped, 1 << 30}, "news": {7, 8, 1 << 30}} {
			_, err := svc.CreateAccount(ctx, api.CreateAccount{Name: name})
			must(t, err)
			_, err = svc.AddFollowers(ctx, name, ids)
			must(t, err)
		}
		poison = submit(t, svc, "poison")
		becomes(t, svc, poison, job.Quarantined)
		j, err := svc.GetJob(ctx, poison)
		must(t, err)
		if n := x.hit.Load(); n < 5 || n > 15 || !strings.Contains(j.Reason, "5 times: slice 0") || !strings.Contains(j.Reason, "trapped") || !strings.Contains(j.WaitingOn, "operator") {
			t.Errorf("after %d tries it is %s: %s; waiting on %s", n, j.State, j.Reason, j.WaitingOn)
		}
		becomes(t, svc, submit(t, svc, "news"), job.Sent)
	})
	tried := x.hit.Load()
	t.Run("after the restart", func(t *testing.T) {
		svc := serve(t, dir, x)
		becomes(t, svc, submit(t, svc, "news"), job.Sent)
		j, err := svc.GetJob(ctx, poison)
		must(t, err)
		if x.hit.Load() != tried || j.State != job.Quarantined {
			t.Errorf("it is %s after %d tries more", j.State, x.hit.Load()-tried)
		}
		if _, err := svc.ResumeJob(ctx, poison); err != nil { // in vain
			t.Fatal(err)
		}
		for j.Version += 2; ; { // queued, and some more
			now, err := svc.GetJob(ctx, poison)
			must(t, err)
			if now.State == job.Quarantined && now.Version > j.Version {
				break
			}
			waitABit(ctx, t)
		}
		x.on.Store(false)
		_, err = svc.ResumeJob(ctx, poison)
		must(t, err)
		becomes(t, svc, poison, job.Sent)
		rec, err := svc.ReconcileJob(ctx, poison)
		must(t, err)
		if !rec.Conserved || rec.Parked != 3 {
			t.Errorf("%v, %+v", rec.Violations, rec.Counts)
		}
		must(t, svc.TailEvents(ctx, api.TailEvents{Job: poison}, func(e api.Event) error {
			if e.State == job.Quarantined.String() {
				events++
			}
			return nil
		}))
		if events != 2 {
			t.Errorf("%d events say that it is quarantined", events)
		}
	})
}

func serve(t *testing.T, dir string, x *trap) *client.Client {
	t.Helper()
	ready, _ := startHouse(t, func(c *app.Config) { c.Data, c.Filters = dir, x.filters })
	svc, err := client.New(client.Config{Server: ready.API, Key: ready.Token})
	must(t, err)
	t.Cleanup(svc.Close)
	return svc
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func submit(t *testing.T, svc *client.Client, account string) job.ID {
	t.Helper()
	j, err := svc.SubmitJob(t.Context(), api.SubmitJob{Account: account, Audience: api.AudienceFollowers, Body: "Hear ye!"})
	must(t, err)
	return j.Job
}

// becomes waits until a job is in a state.
func becomes(t *testing.T, svc *client.Client, id job.ID, want job.State) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	for {
		j, err := svc.GetJob(ctx, id)
		must(t, err)
		if j.State == want {
			return
		}
		waitABit(ctx, t)
	}
}

func waitABit(ctx context.Context, t *testing.T) {
	t.Helper()
	select {
	case <-time.After(50 * time.Millisecond):
	case <-ctx.Done():
		t.Fatal("waited in vain")
	}
}
