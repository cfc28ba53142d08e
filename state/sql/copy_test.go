package sql_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"crier/job"
	"crier/state/sql"
)

// TestCopyTo copies a database while it is written to: the copy has all that was done
// before, and what it has of the rest is a prefix.
func TestCopyTo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	db := open(t, filepath.Join(dir, "crier.db"))
	name := func(i int) string { return fmt.Sprintf("account-%d", i) }
	const before = 200
	for i := range before {
		if _, err := db.Accounts.Create(t.Context(), name(i), nil); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		for i := before; ctx.Err() == nil; i++ {
			if _, err := db.Accounts.Create(t.Context(), name(i), nil); err != nil {
				ended <- err
				return
			}
		}
		ended <- nil
	}()
	for n := range 5 {
		path := filepath.Join(dir, fmt.Sprintf("copy-%d.db", n))
		if err := db.CopyTo(t.Context(), path); err != nil {
			t.Fatal(err)
		}
		copied := open(t, path)
		has, err := copied.Accounts.Count(t.Context())
		if err != nil || has < before {
			t.Fatalf("copy %d has %d accounts, %v", n, has, err)
		}
		for _, i := range []int{0, before - 1, int(has) - 1} {
			if _, err := copied.Accounts.Find(t.Context(), name(i)); err != nil {
				t.Errorf("account %d of the %d in copy %d: %v", i, has, n, err)
			}
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := db.CopyTo(t.Context(), filepath.Join(dir, "copy-0.db")); err == nil {
		t.Error("a copy over a file that is there")
	}
}

// TestRewound: what was projected from the coordination store, and counts, begin anew in a
// copy; jobs stay as they are, and tell of nothing again.
func TestRewound(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "crier.db")
	db := open(t, path)
	id := job.ID{1}
	tr := job.Transition{Job: id, Version: 1, At: "2026-01-02T03:04:05Z", Spec: job.Spec{ID: id, Account: 1, Recipients: 5}}
	for _, err := range []error{
		db.Jobs.Project(t.Context(), sql.Projection{Recorder: "r", Through: 9, Transitions: []job.Transition{tr}}),
		db.Jobs.Project(t.Context(), sql.Projection{Recorder: "r", Counts: []sql.JobCounts{{Job: id, AsOf: 50, Counts: job.Counts{Package: 5, Pending: 5}}}}),
		db.Jobs.ProjectSlices(t.Context(), []sql.Slice{{Job: id, Version: 8, Since: time.Unix(1, 0)}}),
		db.Close(),
		sql.Rewound(t.Context(), path),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	db = open(t, path)
	if j, err := db.Jobs.Get(t.Context(), id); err != nil || j.Version != 1 || j.CountsAsOf != 0 || j.Counts.Package != 0 {
		t.Errorf("the job is %+v, %v", j, err)
	}
	if mark, err := db.Jobs.Watermark(t.Context(), "r"); mark != 9 || err != nil {
		t.Errorf("the watermark is %d, %v", mark, err)
	}
	for _, err := range []error{ // both are taken, though they are older than what was there
		db.Jobs.ProjectSlices(t.Context(), []sql.Slice{{Job: id, Version: 1, State: job.SliceSent, Since: time.Unix(2, 0)}}),
		db.Jobs.Project(t.Context(), sql.Projection{Recorder: "r", Counts: []sql.JobCounts{{Job: id, AsOf: 12, Counts: job.Counts{Package: 5, Parked: 5}}}}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if j, err := db.Jobs.Get(t.Context(), id); err != nil || j.CountsAsOf != 12 || j.Counts.Parked != 5 {
		t.Errorf("the job is %+v, %v", j, err)
	}
	if all, err := db.Jobs.Slices(t.Context(), id, 0, 0); err != nil || len(all) != 1 || all[0].State != job.SliceSent {
		t.Errorf("the slices are %+v, %v", all, err)
	}
}
