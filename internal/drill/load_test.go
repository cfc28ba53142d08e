package drill

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"crier/api"
	"crier/api/apitest"
	"crier/internal/drill/verdict"
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
		if err := r.choose(ctx); err != nil {
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

// What a drill makes Crier bar people by is what it judges by, and goes with it.
func TestAims(t *testing.T) {
	fake := apitest.New()
	r := &run{cfg: Config{Jobs: 3, Online: 40, Late: 8, Parked: 32, Seed: 1, Say: t.Logf, accountCap: 5}}
	r.api.list = []api.Service{fake}
	if err := r.populate(t.Context()); err != nil {
		t.Fatal(err)
	}
	size := func() (n [3]uint64) {
		for i, name := range []string{"drill-out", "drill-some"} {
			s, err := fake.GetSegment(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			n[i] = s.Recipients
		}
		list, err := fake.GetSuppression(t.Context(), "drill")
		if err != nil {
			t.Fatal(err)
		}
		n[2] = list.Entries
		return n
	}
	if got := size(); got != [3]uint64{5, 10, 5} || len(r.aims.Barred) != 10 || len(r.aims.Some) != 10 {
		t.Errorf("excluded, aimed at and suppressed are %d; %d are barred", got, len(r.aims.Barred))
	}
	submit := func(name string, class job.Class, but ...func(*api.SubmitJob)) {
		if err := r.submit(t.Context(), name, 0, class, but...); err != nil {
			t.Fatal(err)
		}
	}
	submit("first", job.Realtime, r.once)
	if err := r.exceed(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"0", "1", "2"} {
		submit(name, job.Normal)
	}
	submit("recalled", job.Realtime)
	r.recalled = r.jobs[len(r.jobs)-1]
	submit("again", job.Realtime, r.once)
	if r.recall(t.Context()); !r.aims.Group(r.recalled.String()).Recalled {
		t.Error("no job is recalled")
	}
	var got []string
	for _, g := range r.aims.Groups {
		got = append(got, fmt.Sprintf("%d jobs, %d to %d", len(g.Jobs), g.Least, g.Most))
	}
	if want := []string{"2 jobs, 1 to 1", "6 jobs, 5 to 5", "1 jobs, 0 to 1"}; !slices.Equal(got, want) {
		t.Errorf("the groups are %q, want %q", got, want)
	}
	// 70 are not barred, of whom 5 get as many as the cap lets them, and the others three.
	if n := verdict.Due(r.aims.Groups, r.people); n != 70+5*5+65*3 {
		t.Errorf("%d messages are due", n)
	}
	if err := r.forget(t.Context(), r.people); err != nil {
		t.Fatal(err)
	}
	if got := size(); got != [3]uint64{} {
		t.Errorf("when it is over, excluded, aimed at and suppressed are %d", got)
	}
}
