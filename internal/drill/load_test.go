package drill

import (
	"context"
	"slices"
	"strings"
	"testing"

	"crier/api"
	"crier/api/apitest"
	"crier/job"
)

// A drill leaves no job under way, however it ends; that a job cannot be cancelled is an
// error only to who interrupts it.
func TestADrillLeavesNothingUnderWay(t *testing.T) {
	for _, interrupted := range []bool{false, true} {
		ctx, interrupt := context.WithCancel(t.Context())
		defer interrupt()
		fake := apitest.New()
		var said []string
		r := &run{cfg: Config{Say: func(format string, args ...any) { said = append(said, format) }}, account: "news"}
		r.api.list = []api.Service{fake}
		if _, err := fake.CreateAccount(ctx, api.CreateAccount{Name: r.account}); err != nil {
			t.Fatal(err)
		}
		if _, err := fake.AddFollowers(ctx, r.account, []job.Recipient{1, 2, 3}); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"over", "under way"} {
			if err := r.submit(ctx, name, 0, job.Normal); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := fake.CancelJob(ctx, r.jobs[0]); err != nil { // what is over is in nobody's way
			t.Fatal(err)
		}
		r.onEnd(func() error { return r.cancelJobs(ctx) })
		if interrupted {
			interrupt()
		}
		if err := r.end(); err != nil || len(said) > 0 {
			t.Errorf("interrupted %t: %v, %q", interrupted, err, said)
		}
		j, err := fake.GetJob(t.Context(), r.jobs[1])
		if err != nil || j.State != job.JobCancelled {
			t.Errorf("interrupted %t: the job is %s, %v", interrupted, j.State, err)
		}
		fake.Fail = func(string) error { return &job.Error{Code: job.CodeDenied, Message: "another key"} }
		if err := r.end(); (err != nil) != interrupted || !slices.ContainsFunc(said, func(s string) bool { return strings.Contains(s, "goes on") }) {
			t.Errorf("a job that cannot be cancelled: %v, %q", err, said)
		}
	}
}
