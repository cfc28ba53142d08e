package sqltest

import (
	"cmp"
	"errors"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"crier/job"
	"crier/state/sql"
)

// spec makes the job that was submitted so many seconds after Start.
func spec(second int, account uint32, random byte) *job.Spec {
	at := Start().Add(time.Duration(second) * time.Second)
	return &job.Spec{ID: job.NewID(at, [10]byte{random}), Account: account, Package: job.Digest{1}, Set: job.Digest{2},
		Recipients: 12, Body: job.Digest{3}, Class: job.Realtime, Priority: 99, Rate: 5, OnUnknown: job.Resend,
		CollapseKey: "k", SubmittedAt: at, ExpiresAt: at.Add(time.Hour)}
}

// step makes the transition of a version, v seconds after the submit.
func step(s *job.Spec, v uint64, state job.State) job.Transition {
	return job.Transition{Job: s.ID, Version: v, State: state, Reason: "because " + state.String(),
		At: stepAt(s, v).Format(time.RFC3339Nano), Spec: *s}
}

func stepAt(s *job.Spec, v uint64) time.Time {
	return s.SubmittedAt.Add(time.Duration(v) * time.Second)
}

func project(t *testing.T, s Store, through uint64, ts ...job.Transition) {
	t.Helper()
	must(t, s.Jobs.Project(t.Context(), sql.Projection{Recorder: "r", Through: through, Transitions: ts}))
}

func wantJob(t *testing.T, s Store, want sql.Job) {
	t.Helper()
	got, err := s.Jobs.Get(t.Context(), want.Spec.ID)
	must(t, err)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the job is %+v, want %+v", got, want)
	}
}

func jobVersions(t *testing.T, s Store) {
	sp := spec(0, 7, 1)
	_, err := s.Jobs.Get(t.Context(), sp.ID)
	wantCode(t, "a job that is not there", err, job.CodeNotFound)

	project(t, s, 10, step(sp, 1, job.Submitted))
	wantJob(t, s, sql.Job{Spec: *sp, Version: 1, State: job.Submitted, Reason: "because submitted", StateAt: stepAt(sp, 1)})
	project(t, s, 20, step(sp, 2, job.Packed), step(sp, 3, job.Queued))
	third := sql.Job{Spec: *sp, Version: 3, State: job.Queued, Reason: "because queued", StateAt: stepAt(sp, 3)}
	wantJob(t, s, third)

	// What is known or older changes nothing, even if it says something else.
	project(t, s, 15, step(sp, 1, job.Submitted), step(sp, 3, job.JobFailed))
	wantJob(t, s, third)
	if w, err := s.Jobs.Watermark(t.Context(), "r"); w != 20 || err != nil {
		t.Errorf("the watermark went back to %d, %v", w, err)
	}
	if w, err := s.Jobs.Watermark(t.Context(), "another"); w != 0 || err != nil {
		t.Errorf("another recorder's watermark is %d, %v", w, err)
	}
}

func jobAtomic(t *testing.T, s Store) {
	sp, other := spec(0, 7, 1), spec(1, 7, 2)
	project(t, s, 10, step(sp, 1, job.Submitted))
	first := sql.Job{Spec: *sp, Version: 1, State: job.Submitted, Reason: "because submitted", StateAt: stepAt(sp, 1)}
	bad := step(sp, 2, job.Packed)
	bad.At = "yesterday"
	otherSpec := step(other, 1, job.Submitted)
	otherSpec.Spec = *sp
	for name, p := range map[string]sql.Projection{
		"a gap":        {Transitions: []job.Transition{step(sp, 2, job.Packed), step(sp, 4, job.Queued)}},
		"a late start": {Transitions: []job.Transition{step(sp, 2, job.Packed), step(other, 2, job.Packed)}},
		"no time":      {Transitions: []job.Transition{step(other, 1, job.Submitted), bad}},
		"another spec": {Transitions: []job.Transition{step(sp, 2, job.Packed), otherSpec}},
		"counts of no job": {Transitions: []job.Transition{step(sp, 2, job.Packed)},
			Counts: []sql.JobCounts{{Job: other.ID, AsOf: 5}}},
	} {
		p.Recorder, p.Through = "r", 99
		err := s.Jobs.Project(t.Context(), p)
		var gap *sql.GapError
		switch {
		case err == nil:
			t.Errorf("%s: no error", name)
		case name == "a gap" && (!errors.As(err, &gap) || *gap != sql.GapError{Job: sp.ID, Have: 2, Got: 4}):
			t.Errorf("%s: %v", name, err)
		case name == "a late start" && (!errors.As(err, &gap) || *gap != sql.GapError{Job: other.ID, Have: 0, Got: 2}):
			t.Errorf("%s: %v", name, err)
		}
		wantJob(t, s, first)
		if w, _ := s.Jobs.Watermark(t.Context(), "r"); w != 10 {
			t.Errorf("%s: the watermark moved to %d", name, w)
		}
		_, err = s.Jobs.Get(t.Context(), other.ID)
		wantCode(t, name+": the other job", err, job.CodeNotFound)
	}
}

func jobCounts(t *testing.T, s Store) {
	sp := spec(0, 7, 1)
	counts := job.Counts{Package: 12, Delivered: 5, Parked: 3, Pending: 1, Dropped: map[job.Reason]uint64{job.ReasonRelation: 2, job.ReasonSuppressed: 1}}
	want := sql.Job{Spec: *sp, Version: 1, State: job.Submitted, Reason: "because submitted", StateAt: stepAt(sp, 1),
		Counts: counts, CountsAsOf: 40}
	must(t, s.Jobs.Project(t.Context(), sql.Projection{Recorder: "r", Through: 41,
		Transitions: []job.Transition{step(sp, 1, job.Submitted)}, Counts: []sql.JobCounts{{Job: sp.ID, AsOf: 40, Counts: counts}}}))
	wantJob(t, s, want)
	for _, asOf := range []uint64{39, 40} {
		must(t, s.Jobs.Project(t.Context(), sql.Projection{Recorder: "r", Through: 41,
			Counts: []sql.JobCounts{{Job: sp.ID, AsOf: asOf, Counts: job.Counts{Package: 12, Pending: 12}}}}))
		wantJob(t, s, want)
	}
	want.Counts, want.CountsAsOf = job.Counts{Package: 12, Delivered: 12}, 50
	must(t, s.Jobs.Project(t.Context(), sql.Projection{Recorder: "r", Through: 50,
		Counts: []sql.JobCounts{{Job: sp.ID, AsOf: 50, Counts: want.Counts}}}))
	wantJob(t, s, want)
}

// jobLists compares every list with one made by filtering a slice.
func jobLists(t *testing.T, s Store) {
	rng := rand.New(rand.NewPCG(4, 2))
	states := []job.State{job.Submitted, job.Sending, job.Completed, job.JobFailed, job.Sent}
	var all []sql.Job
	var ts []job.Transition
	for i := range 60 {
		sp := spec(rng.IntN(12), uint32(rng.IntN(3)), byte(i))
		st := states[rng.IntN(len(states))]
		ts = append(ts, step(sp, 1, st))
		all = append(all, sql.Job{Spec: *sp, Version: 1, State: st, Reason: "because " + st.String(), StateAt: stepAt(sp, 1)})
	}
	if _, ok, err := s.Jobs.OldestOpen(t.Context()); ok || err != nil {
		t.Errorf("an oldest open job of none: %v", err)
	}
	project(t, s, 1, ts...)
	slices.SortFunc(all, func(a, b sql.Job) int {
		return cmp.Or(b.Spec.SubmittedAt.Compare(a.Spec.SubmittedAt), cmp.Compare(b.Spec.ID.String(), a.Spec.ID.String()))
	})
	for _, account := range []*uint32{nil, number(0), number(1), number(9)} {
		for _, of := range [][]job.State{nil, {job.Sending}, {job.Sent, job.Completed}} {
			var want []sql.Job
			for _, j := range all {
				if (account == nil || j.Spec.Account == *account) && (of == nil || slices.Contains(of, j.State)) {
					want = append(want, j)
				}
			}
			for _, limit := range []int{7, max(len(want), 1), max(len(want)-1, 1)} { // the last page is full, or not
				got := pages(t, limit, len(want), func(cursor string) ([]sql.Job, string, error) {
					return s.Jobs.List(t.Context(), sql.JobFilter{Account: account, States: of, Limit: limit, Cursor: cursor})
				})
				if !reflect.DeepEqual(got, want) {
					t.Errorf("account %v, states %v, %d a page: %d jobs, want %d", account, of, limit, len(got), len(want))
				}
			}
		}
	}
	_, _, err := s.Jobs.List(t.Context(), sql.JobFilter{Cursor: "12.nonsense"})
	wantCode(t, "a bad cursor", err, job.CodeInvalid)
	countsAndOldest(t, s, all)
}

func countsAndOldest(t *testing.T, s Store, newestFirst []sql.Job) {
	want := map[job.State]uint64{}
	var oldest sql.Job
	for _, j := range newestFirst {
		want[j.State]++
		if j.State != job.Completed && j.State != job.JobFailed {
			oldest = j
		}
	}
	if got, err := s.Jobs.CountByState(t.Context()); err != nil || !maps.Equal(got, want) {
		t.Errorf("counts %v, %v; want %v", got, err, want)
	}
	if got, ok, err := s.Jobs.OldestOpen(t.Context()); err != nil || !ok || !reflect.DeepEqual(got, oldest) {
		t.Errorf("the oldest open job is %v, %v; want %v", got.Spec.ID, err, oldest.Spec.ID)
	}
	project(t, s, 2, step(&oldest.Spec, 2, job.JobFailed))
	if got, _, err := s.Jobs.OldestOpen(t.Context()); err != nil || got.Spec.ID == oldest.Spec.ID {
		t.Errorf("the oldest open job is still %v, %v", got.Spec.ID, err)
	}
}
