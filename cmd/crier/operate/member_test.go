package operate_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"crier/api"
	"crier/api/apitest"
	"crier/cmd/crier/cli"
	"crier/cmd/crier/operate"
	"crier/job"
)

// slow is a service whose members obey after a while, and of whom nothing is known half
// of the time until then.
type slow struct {
	*apitest.Fake
	obeys time.Time
	state string // to be
	looks int
}

func (s *slow) SilenceMember(ctx context.Context, id string, _ api.Operate) (api.Member, error) {
	s.state = "SILENCE"
	return s.Fake.GetMember(ctx, id)
}

func (s *slow) ResumeMember(ctx context.Context, id string, _ api.Operate) (api.Member, error) {
	s.state = "WORKING"
	return s.Fake.GetMember(ctx, id)
}

func (s *slow) GetMember(ctx context.Context, id string) (api.Member, error) {
	if time.Now().Before(s.obeys) {
		if s.looks++; s.looks%2 == 0 {
			return api.Member{}, job.Unavailable("no server")
		}
		return s.Fake.GetMember(ctx, id)
	}
	var err error
	s.Steer(func(c *apitest.Cluster) { err = c.See(id, s.state, time.Time{}) })
	if err != nil {
		return api.Member{}, err
	}
	return s.Fake.GetMember(ctx, id)
}

// What is shown is the member after it obeyed; one that takes longer is said to.
func TestOperateShowsWhatCameOfIt(t *testing.T) {
	for _, c := range []struct {
		verb   string
		before string
		after  time.Duration
		shows  string
		says   string
		took   time.Duration
	}{
		{"silence", "WORKING", 0, "SILENCE", "", 100 * time.Millisecond},
		{"silence", "WORKING", 3 * time.Second, "SILENCE", "", 3 * time.Second},
		{"silence", "WORKING", time.Minute, "WORKING", "asked; it is still WORKING\n", 5 * time.Second},
		{"resume", "SILENCE", 2 * time.Second, "WORKING", "", 2 * time.Second},
		{"resume", "SILENCE", time.Minute, "SILENCE", "asked; it is still SILENCE\n", 5 * time.Second},
		{"resume", "WORKING", time.Minute, "WORKING", "", 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			svc := &slow{Fake: apitest.New(), obeys: began.Add(c.after)}
			svc.Steer(func(k *apitest.Cluster) {
				if err := see("m1", c.before)(k); err != nil {
					t.Error(err)
				}
			})
			var out, errs bytes.Buffer
			x := &cli.CLI{Out: &out, Err: &errs, Now: svc.Now, Getenv: func(string) string { return "" },
				Dial: func(string, string) (api.Service, error) { return svc, nil }, Output: "table"}
			if code := x.Main(t.Context(), rooted(x), []string{"member", c.verb, "m1"}); code != cli.ExitOK {
				t.Errorf("%s: exit code %d", c.verb, code)
			}
			if !strings.Contains(out.String(), "state        "+c.shows+"\n") || errs.String() != c.says || time.Since(began) != c.took {
				t.Errorf("%s, obeyed after %s: after %s it says %q and shows\n%s", c.verb, c.after, time.Since(began), &errs, &out)
			}
		})
	}
}

// A cluster with a process for each role, one of which does not answer, fits a terminal.
func TestMembersFitATerminal(t *testing.T) {
	fake := apitest.New()
	away := 1
	fake.Steer(func(c *apitest.Cluster) {
		for i := range c.Members {
			m := &c.Members[i]
			m.ID, m.State, m.Roles, m.Reason = fmt.Sprintf("scheduler-%d", i+1), "WORKING", map[string]uint16{"scheduler": 1}, "ready, and working since the moment it announced to all"
			m.Away, m.Answered = &away, false
			m.Holds.Duties = []string{"folder", "mirror", "recorder"}
		}
	})
	var out, errs bytes.Buffer
	x := &cli.CLI{Out: &out, Err: &errs, Now: fake.Now, Getenv: func(k string) string { return map[string]string{"COLUMNS": "80"}[k] },
		Dial: func(string, string) (api.Service, error) { return fake, nil }, Output: "table"}
	if code := x.Main(t.Context(), rooted(x), []string{"member", "ls"}); code != cli.ExitOK || !strings.Contains(out.String(), "scheduler-1  WORKING, no answer") {
		t.Errorf("exit code %d, %s\n%s", code, &errs, &out)
	}
	for line := range strings.Lines(out.String()) {
		if len(line) > 81 { // with its end
			t.Errorf("%d columns: %s", len(line)-1, line)
		}
	}
}

// even is a service whose ring is held as the hint says.
type even struct{ *apitest.Fake }

func (e even) Ring(ctx context.Context, req api.AskRing) (api.Ring, error) {
	r, err := e.Fake.Ring(ctx, req)
	r.Differ, r.Different = 0, nil
	return r, err
}

// Whoever asks for differences is told that there are none.
func TestARingWithoutDifferences(t *testing.T) {
	for _, args := range [][]string{{"ring"}, {"ring", "--diff"}, {"ring", "--diff", "--kind", "job"}} {
		var out, errs bytes.Buffer
		fake := even{apitest.New()}
		x := &cli.CLI{Out: &out, Err: &errs, Now: fake.Now, Getenv: func(string) string { return "" },
			Dial: func(string, string) (api.Service, error) { return fake, nil }, Output: "table"}
		if code := x.Main(t.Context(), x.Group("crier", "", operate.Ring(x)), args); code != cli.ExitOK {
			t.Errorf("%q: exit code %d, %s", args, code, &errs)
		}
		if said := strings.HasSuffix(out.String(), "\n\nno differences\n"); said != (len(args) > 1) {
			t.Errorf("%q:\n%s", args, &out)
		}
	}
}
