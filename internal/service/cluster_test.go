package service

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"crier/api"
	"crier/job"
	"crier/state/jobs"
)

// fleet is a Cluster of two members.
type fleet struct {
	calls []string
	err   error
}

func (f *fleet) Members(_ context.Context, only string) ([]api.Member, error) {
	var list []api.Member
	for _, id := range []string{"a", "b"} {
		if only == "" || only == id {
			list = append(list, api.Member{ID: id})
		}
	}
	return list, f.err
}

func (f *fleet) Operate(_ context.Context, id string, silence bool, reason string) error {
	f.calls = append(f.calls, fmt.Sprint(id, " ", silence, " ", reason))
	return f.err
}

func (f *fleet) Ring(_ context.Context, req api.AskRing) (api.Ring, error) {
	return api.Ring{Kind: req.Kind}, f.err
}

func (f *fleet) Journals(context.Context, api.Page) (api.JournalList, error) {
	return api.JournalList{Unsealed: 3}, f.err
}

func (f *fleet) Lanes(context.Context) (api.LaneList, error) {
	return api.LaneList{Lanes: []api.Lane{{Worker: "w"}}}, f.err
}

func TestClusterOperations(t *testing.T) {
	f := &fleet{}
	s, ctx := New(Config{Cluster: f}), asked(t)
	if list, err := s.ListMembers(ctx); err != nil || len(list.Members) != 2 {
		t.Errorf("%+v, %v", list, err)
	}
	if m, err := s.GetMember(ctx, "b"); err != nil || m.ID != "b" {
		t.Errorf("%+v, %v", m, err)
	}
	for _, id := range []string{"", "c", "a/b", "..", "a\xff", "a b"} {
		_, err := s.GetMember(ctx, id)
		wantError(t, "member "+id, err, job.CodeNotFound, "")
		_, err = s.SilenceMember(ctx, id, api.Operate{})
		wantError(t, "silence "+id, err, job.CodeNotFound, "")
		_, err = s.ResumeMember(ctx, id, api.Operate{})
		wantError(t, "resume "+id, err, job.CodeNotFound, "")
	}
	if len(f.calls) > 0 {
		t.Fatalf("asked for %v", f.calls)
	}
	if m, err := s.SilenceMember(ctx, "a", api.Operate{Reason: "why"}); err != nil || m.ID != "a" {
		t.Errorf("%+v, %v", m, err)
	}
	if m, err := s.ResumeMember(ctx, "a", api.Operate{}); err != nil || m.ID != "a" {
		t.Errorf("%+v, %v", m, err)
	}
	if got := fmt.Sprint(f.calls); got != "[a true why a false ]" {
		t.Errorf("asked for %s", got)
	}
	if r, err := s.Ring(ctx, api.AskRing{}); err != nil || r.Kind != api.RingRange {
		t.Errorf("a ring of no kind: %+v, %v", r, err)
	}
	_, err := s.Ring(ctx, api.AskRing{Kind: "king"})
	wantError(t, "a ring of kings", err, job.CodeInvalid, "kind")
	if l, err := s.ListJournals(ctx, api.Page{}); err != nil || l.Unsealed != 3 {
		t.Errorf("%+v, %v", l, err)
	}
	_, err = s.ListJournals(ctx, api.Page{Limit: -1})
	wantError(t, "a page", err, job.CodeInvalid, "limit")
	if l, err := s.ListLanes(ctx); err != nil || len(l.Lanes) != 1 {
		t.Errorf("%+v, %v", l, err)
	}
	f.err = errors.New("the inside")
	if _, err := s.GetMember(ctx, "a"); !errors.Is(err, f.err) {
		t.Errorf("%v", err)
	}
}

// A job that waits for somebody outside is not the one that has waited longest, as long
// as there is one that waits for Crier.
func TestOldestWaiting(t *testing.T) {
	at := func(minutes int, state job.State, paused bool) jobs.Job {
		return jobs.Job{State: state, Since: time.Unix(int64(60*minutes), 0), Controls: job.Controls{Paused: paused}, Spec: job.Spec{ID: job.ID{byte(minutes)}}}
	}
	for _, c := range []struct {
		what    string
		live    []jobs.Job
		want    byte // of the id; 0: none
		blocked bool
	}{
		{"none", nil, 0, false},
		{"a sent one", []jobs.Job{at(1, job.Sent, false)}, 1, false},
		{"one that is queued behind a sent one", []jobs.Job{at(1, job.Sent, false), at(2, job.Queued, false)}, 2, true},
		{"the older of two", []jobs.Job{at(1, job.Sending, false), at(3, job.Queued, false), at(2, job.Cancelling, false)}, 2, true},
		{"not the paused one", []jobs.Job{at(1, job.Prepared, true), at(2, job.Preparing, false)}, 2, true},
		{"a paused one only", []jobs.Job{at(1, job.Prepared, true)}, 1, false},
		{"one that an operator holds", []jobs.Job{at(1, job.Held, false), at(2, job.Submitted, false)}, 2, true},
	} {
		j, ok := oldest(c.live)
		if ok != (c.want != 0) || j.Spec.ID != (job.ID{c.want}) || blocked(j) != c.blocked && ok {
			t.Errorf("%s: %v, %v", c.what, j.Spec.ID, ok)
		}
	}
}
