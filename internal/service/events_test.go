package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"crier/api"
	"crier/job"
	"crier/state/events"
)

func TestTailEvents(t *testing.T) {
	f := newFixture(t)
	ctx, cancel := context.WithTimeout(asked(t), time.Minute)
	defer cancel()
	wantError(t, "without a stream", f.TailEvents(ctx, api.TailEvents{}, nil), job.CodeUnavailable, "")
	start := time.Now()
	at := start.Add(-2 * time.Hour)
	stream := events.NewMemory(func() time.Time { return at })
	f.cfg.Events = stream
	a, b := f.submitSeen(toFollowers("a")), f.submitSeen(toFollowers("b"))
	slice := uint32(7)
	all := []job.Event{{Job: a, Version: 1, State: "submitted"}, {Job: b, Version: 1, State: "submitted"}, {Job: a, Slice: &slice, Version: 3, State: "sending"},
		{Job: a, Version: 2, State: "packed", Reason: "why"}}
	for i, e := range all {
		if i == 2 {
			at = start
		}
		f.must(stream.Publish(ctx, e))
	}
	for _, c := range []struct {
		what string
		req  api.TailEvents
		want []int // of all
	}{
		{"all", api.TailEvents{}, []int{0, 1, 2, 3}}, {"behind a cursor", api.TailEvents{After: 2}, []int{2, 3}}, {"behind the last", api.TailEvents{After: 4}, nil},
		{"of a job", api.TailEvents{Job: a}, []int{0, 2, 3}}, {"within an hour", api.TailEvents{Within: api.Duration(time.Hour)}, []int{2, 3}},
		{"within a day, of a job", api.TailEvents{Within: api.Duration(24 * time.Hour), Job: b}, []int{1}},
		{"of slices", api.TailEvents{Kind: "slice"}, []int{2}}, {"of jobs", api.TailEvents{Kind: "job", After: 1}, []int{1, 3}}, {"of sets", api.TailEvents{Kind: "set"}, nil},
	} {
		var got, want []string
		err := f.TailEvents(ctx, c.req, func(e api.Event) error {
			got = append(got, fmt.Sprint(e.Cursor, e.State, e.Version, e.Reason, e.Slice != nil))
			return nil
		})
		for _, i := range c.want {
			e := all[i]
			want = append(want, fmt.Sprint(uint64(i+1), e.State, e.Version, e.Reason, e.Slice != nil))
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v; want %q", c.what, got, err, want)
		}
	}
	none := func(api.Event) error { return nil }
	wantError(t, "a cursor beyond the end", f.TailEvents(ctx, api.TailEvents{After: 5}, none), job.CodeInvalid, "since")
	wantError(t, "two beginnings", f.TailEvents(ctx, api.TailEvents{After: 1, Within: 1}, none), job.CodeInvalid, "since")
	if err := f.TailEvents(ctx, api.TailEvents{Job: job.ID{1}}, none); job.CodeOf(err) != job.CodeNotFound {
		t.Errorf("of no job: %v", err)
	}
	enough, n := errors.New("enough"), 0
	err := f.TailEvents(ctx, api.TailEvents{Follow: true, After: 3}, func(api.Event) error {
		if n++; n == 3 {
			return enough
		}
		return stream.Publish(ctx, job.Event{Job: b, Version: uint64(n + 1), State: "packed"})
	})
	if !errors.Is(err, enough) {
		t.Errorf("following: %v after %d", err, n)
	}
}

// TestEventsOfSets holds that a tenant is told of its own sets only, and the operator of
// all.
func TestEventsOfSets(t *testing.T) {
	f := newFixture(t)
	stream := events.NewMemory(time.Now)
	f.cfg.Events = stream
	for _, set := range []job.SetChange{{Kind: "followers", Name: "a", Number: 1, Tenant: "acme"}, {Kind: "suppression", Name: "b", Number: 2, Tenant: "other"},
		{Kind: "segment", Name: "vip", Number: 1, Tenant: job.DefaultTenant}, {Kind: "global-suppression"}, {Kind: "followers", Number: 9}} {
		f.must(stream.Publish(t.Context(), job.Event{Set: &set, Version: 1, State: job.SetAdded}))
	}
	for _, c := range []struct {
		who  api.Caller
		want []string
	}{
		{api.Operator(), []string{"followers.1", "suppression.2", "segment.1", "global-suppression.0", "followers.9"}},
		{api.Caller{Key: "k", Role: job.Viewer, Tenant: "acme"}, []string{"followers.1"}},
		{api.Caller{Key: "k", Role: job.Viewer, Tenant: "other"}, []string{"suppression.2"}},
		{api.Caller{Key: "k", Role: job.Admin, Tenant: job.DefaultTenant}, []string{"segment.1"}},
		{api.Caller{Key: "k", Role: job.Admin, Tenant: "third"}, nil},
	} {
		var got []string
		err := f.TailEvents(api.WithCaller(t.Context(), c.who), api.TailEvents{Kind: "set"}, func(e api.Event) error {
			got = append(got, fmt.Sprintf("%s.%d", e.Set.Kind, e.Set.Number))
			return nil
		})
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s of %s is told of %q, %v; want %q", c.who.Key, c.who.Tenant, got, err, c.want)
		}
	}
}
