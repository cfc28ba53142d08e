package service

import (
	"slices"
	"strings"
	"testing"
	"time"

	"crier/api"
	"crier/job"
	"crier/state/ledger"
	"crier/state/overstay"
)

// Of implements overstay.Claims by the ledger itself.
func (f *fixture) Of(thing ledger.Thing) ledger.Claim {
	c, err := ledger.LastClaim(asked(f.t), f.log, thing)
	f.must(err)
	return c
}

// enter makes a job be in a state since some time ago.
func (f *fixture) enter(id job.ID, s job.State, ago time.Duration) {
	f.t.Helper()
	if _, err := f.cfg.Jobs.Transition(asked(f.t), id, s, "because", now().Add(-ago)); err != nil {
		f.t.Fatal(err)
	}
}

func TestListStuck(t *testing.T) {
	f := newFixture(t)
	var ids []job.ID
	for range 5 {
		id := f.submitSeen(toFollowers(""))
		f.enter(id, job.Packed, time.Second)
		f.enter(id, job.Queued, time.Second)
		ids = append(ids, id)
	}
	list := func(req api.ListJobs) (got []job.ID) {
		t.Helper()
		for {
			l, err := f.ListJobs(asked(t), req)
			f.must(err)
			for _, j := range l.Jobs {
				got = append(got, j.Job)
				if !j.Overstayed || j.Owner == "" || j.WaitingOn == "" || !j.Due.Before(now()) || !j.Due.After(j.UpdatedAt) {
					t.Errorf("it is listed as %+v", j)
				}
			}
			if req.Cursor = l.Next; req.Cursor == "" {
				return got
			}
		}
	}
	if got := list(api.ListJobs{Stuck: true}); len(got) != 0 {
		t.Errorf("%v are stuck", got)
	}
	f.enter(ids[0], job.Preparing, time.Hour)
	f.enter(ids[1], job.Preparing, 2*time.Hour)
	f.enter(ids[2], job.Preparing, time.Minute)
	f.enter(ids[3], job.Preparing, time.Hour)
	f.enter(ids[3], job.Quarantined, time.Hour)
	f.enter(ids[4], job.Preparing, time.Hour)
	f.enter(ids[4], job.Prepared, 90*time.Minute)
	// Its scheduler was called to account before.
	claim := ledger.Claim{Kind: ledger.ClaimJob, ID: ids[0].String(), Epoch: 1, Journal: job.Journal{Worker: "s", Incarnation: 1}, Tries: 2, Of: 4}
	_, err := f.log.Append(asked(t), ledger.ClaimSubject(claim.Thing()), 0, claim.Bytes())
	f.must(err)
	all := []job.ID{ids[1], ids[4], ids[0]} // the longest first
	for what, c := range map[string]struct {
		req  api.ListJobs
		want []job.ID
	}{
		"all": {api.ListJobs{Stuck: true}, all}, "one a page": {api.ListJobs{Stuck: true, Page: api.Page{Limit: 1}}, all},
		"two a page": {api.ListJobs{Stuck: true, Page: api.Page{Limit: 2}}, all}, "of news": {api.ListJobs{Stuck: true, Account: "news"}, all},
		"of empty": {api.ListJobs{Stuck: true, Account: "empty"}, nil}, "prepared": {api.ListJobs{Stuck: true, State: "prepared"}, []job.ID{ids[4]}},
		"sent": {api.ListJobs{Stuck: true, State: "sent"}, nil},
	} {
		if got := list(c.req); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", what, got, c.want)
		}
	}
	j, err := f.GetJob(asked(t), ids[0])
	if err != nil || j.Tries != 2 || j.Version != 4 || !j.Overstayed {
		t.Errorf("it is shown as %+v, %v", j, err)
	}
	if j, err = f.GetJob(asked(t), ids[2]); err != nil || j.Overstayed || j.Due.IsZero() || j.Owner != "scheduler" || j.WaitingOn != "its package to be verified" {
		t.Errorf("one that has time is shown as %+v, %v", j, err)
	}
	if j, err = f.GetJob(asked(t), ids[3]); err != nil || j.Overstayed || !j.Due.IsZero() || j.Owner != "operator" {
		t.Errorf("one that an operator has to look at is shown as %+v, %v", j, err)
	}
	if st, err := f.Status(asked(t)); err != nil || st.Overstayed != 3 {
		t.Errorf("the status counts %d, %v", st.Overstayed, err)
	}
	// Nobody else's are shown.
	other := api.WithCaller(t.Context(), api.Caller{Key: "k", Role: job.Viewer, Tenant: "acme"})
	if l, err := f.ListJobs(other, api.ListJobs{Stuck: true}); err != nil || len(l.Jobs) != 0 {
		t.Errorf("another tenant is shown %d jobs, %v", len(l.Jobs), err)
	}
	if st, err := f.Status(other); err != nil || st.Overstayed != 0 {
		t.Errorf("to another tenant the status counts %d, %v", st.Overstayed, err)
	}
	for _, cursor := range []string{"x", "1", "1.x", "x." + ids[0].String(), ".", strings.Repeat("9", 30) + "." + ids[0].String()} {
		_, err := f.ListJobs(asked(t), api.ListJobs{Stuck: true, Page: api.Page{Cursor: cursor}})
		wantError(t, "cursor "+cursor, err, job.CodeInvalid, "cursor")
	}
}

// Paused is also what is sent and hands over nothing of what is parked.
func TestListPaused(t *testing.T) {
	f := newFixture(t)
	var ids []job.ID
	for range 6 {
		ids = append(ids, f.submitSeen(toFollowers("")))
	}
	pause := func(id job.ID) api.Job {
		t.Helper()
		j, err := f.PauseJob(asked(t), id)
		f.must(err)
		for <-f.seenControls != id {
		}
		return j
	}
	for _, id := range ids[:5] {
		f.move(id, toSent[:5]...)
	}
	pause(ids[0])
	f.move(ids[0], job.Paused)
	f.move(ids[1], job.Sent)
	pause(ids[1])
	f.move(ids[2], job.Sent)
	if j := pause(ids[3]); j.WaitingOn != "the ledger to take down that it is paused" {
		t.Errorf("being sent and paused, it waits on %q", j.WaitingOn)
	}
	pause(ids[4])
	f.move(ids[4], job.Sent, job.Completed)
	want := []job.ID{ids[3], ids[1], ids[0]} // the newest first
	for _, size := range []int{0, 1, 2, 3} {
		var got []job.ID
		for req := (api.ListJobs{State: "paused", Page: api.Page{Limit: size}}); ; {
			l, err := f.ListJobs(asked(t), req)
			f.must(err)
			for _, j := range l.Jobs {
				got = append(got, j.Job)
			}
			if req.Cursor = l.Next; req.Cursor == "" {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%d a page: %v, want %v", size, got, want)
		}
	}
	if l, err := f.ListJobs(asked(t), api.ListJobs{State: "paused", Account: "empty"}); err != nil || len(l.Jobs) != 0 {
		t.Errorf("of another account there are %d, %v", len(l.Jobs), err)
	}
	other := api.WithCaller(t.Context(), api.Caller{Key: "k", Role: job.Viewer, Tenant: "acme"})
	if l, err := f.ListJobs(other, api.ListJobs{State: "paused"}); err != nil || len(l.Jobs) != 0 {
		t.Errorf("another tenant is shown %d, %v", len(l.Jobs), err)
	}
	if j, err := f.ResumeJob(asked(t), ids[0]); err != nil || j.WaitingOn != "the ledger to take down that it is sending" {
		t.Errorf("paused and resumed, it waits on %q, %v", j.WaitingOn, err)
	}
}

// What a job that is sent waits on is said at once when it is paused, or resumed, by
// whoever has not asked the scheduler.
func TestPausedWhileParked(t *testing.T) {
	f := newFixture(t)
	id := f.submitSeen(toFollowers(""))
	f.reserve(0, nil)
	f.reserve(1, &ledger.Reserve{Job: id, Span: job.Span{Lo: 3 << 20, Hi: 4 << 20}, IDs: 1000, Rest: job.Parked})
	f.move(id, toSent...)
	f.waiting[id] = "what the scheduler saw before"
	for range 2 {
		j, err := f.PauseJob(asked(t), id)
		if err != nil || j.WaitingOn != "resume, with 1,000 parked, 0 handed off, 0 in doubt" {
			t.Errorf("paused, it waits on %q, %v", j.WaitingOn, err)
		}
		if j, err = f.ResumeJob(asked(t), id); err != nil || j.WaitingOn != "1,000 parked, 0 handed off, 0 in doubt" {
			t.Errorf("resumed, it waits on %q, %v", j.WaitingOn, err)
		}
		for range 2 {
			<-f.seenControls
		}
		if j, err = f.GetJob(asked(t), id); err != nil || j.WaitingOn != "1,000 parked, 0 handed off, 0 in doubt" {
			t.Errorf("shown after that, it waits on %q, %v", j.WaitingOn, err)
		}
	}
}

// What is over waits on nothing, whatever is said of it.
func TestWaitingOnIsOfLiveJobs(t *testing.T) {
	f := newFixture(t)
	id := f.submitSeen(toFollowers(""))
	f.waiting[id] = "its turn"
	if j, err := f.GetJob(asked(t), id); err != nil || j.WaitingOn != "its turn" {
		t.Errorf("it waits on %q, %v", j.WaitingOn, err)
	}
	f.move(id, job.Cancelling, job.JobCancelled)
	if j, err := f.GetJob(asked(t), id); err != nil || j.WaitingOn != "" || j.Owner != "" || !j.Due.IsZero() {
		t.Errorf("it is shown as %+v, %v", j, err)
	}
}

var _ overstay.Claims = (*fixture)(nil)
