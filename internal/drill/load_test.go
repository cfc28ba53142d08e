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

// Drills share an account, and leave it without followers; one that has some, of a drill
// that is at work or was cut short, is left alone.
func TestDrillsShareAnAccount(t *testing.T) {
	fake := apitest.New()
	at := func(seed uint64) *run {
		r := &run{cfg: Config{Online: 5, Late: 3, Parked: 12, Seed: seed, Say: t.Logf}}
		r.api.list = []api.Service{fake}
		if err := r.populate(t.Context()); err != nil {
			t.Fatal(err)
		}
		return r
	}
	followers := func(name string) uint64 {
		a, err := fake.GetAccount(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		return a.Followers
	}
	first := at(1)
	beside := at(2)
	if first.account != "drill" || beside.account != "drill-2" || followers("drill") != 20 || followers("drill-2") != 20 {
		t.Errorf("two at once have %s with %d followers and %s with %d", first.account, followers("drill"), beside.account, followers("drill-2"))
	}
	over, end := context.WithCancel(t.Context())
	end() // it was interrupted
	if first.dismiss(over); followers("drill") != 0 {
		t.Errorf("%d follow when it is over", followers("drill"))
	}
	if next := at(3); next.account != "drill" || followers("drill") != 20 || followers("drill-2") != 20 {
		t.Errorf("the next has %s with %d followers", next.account, followers(next.account))
	}
	list, err := fake.ListAccounts(t.Context(), api.Page{})
	if err != nil || len(list.Accounts) != 2 {
		t.Errorf("there are %+v, %v", list.Accounts, err)
	}
}
