package operate_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/cobra"

	"crier/api"
	"crier/api/apitest"
	"crier/cmd/crier/cli"
	"crier/cmd/crier/operate"
	"crier/job"
)

// watched runs "member ls --watch" over a fake that changes at each look, and ends
// after the last change.
func watched(t *testing.T, output string, looks ...func(*apitest.Cluster) error) (stdout, stderr string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		fake := apitest.New()
		n := 0
		fake.Fail = func(string) error {
			if n++; n > len(looks) {
				cancel()
				return ctx.Err()
			}
			var err error
			fake.Steer(func(c *apitest.Cluster) { err = looks[n-1](c) })
			return err
		}
		var out, errs bytes.Buffer
		c := &cli.CLI{Out: &out, Err: &errs, Now: fake.Now, Getenv: func(string) string { return "" },
			Dial: func(string, string) (api.Service, error) { return fake, nil }, Output: output}
		if code := c.Main(ctx, rooted(c), []string{"member", "ls", "--watch"}); code != cli.ExitInterrupt {
			t.Errorf("exit code %d: %s", code, &errs)
		}
		stdout, stderr = out.String(), errs.String()
	})
	return stdout, stderr
}

// rooted is the command under a root that is as quiet as the real one.
func rooted(c *cli.CLI) *cobra.Command {
	root := c.Group("crier", "", operate.Member(c))
	root.SilenceErrors, root.SilenceUsage = true, true
	return root
}

func see(id, state string) func(*apitest.Cluster) error {
	return func(c *apitest.Cluster) error { return c.See(id, state, time.Time{}) }
}

func same(*apitest.Cluster) error { return nil }

// Only what changes is told, each change once, and a server that goes away for a while is
// waited for.
func TestWatchShowsTheStatesChanging(t *testing.T) {
	down := func(*apitest.Cluster) error { return job.Unavailable("no server") }
	gone := func(c *apitest.Cluster) error { c.Members = c.Members[:2]; return nil }
	stdout, stderr := watched(t, "table", same, same, see("m2", "WORKING"), down, down, see("m2", api.Unreachable), see("m2", api.Lapsed), same, gone)
	want := `03:04:05  m1  WORKING, incarnation 1: ready, and working since the moment it announced to all
03:04:05  m2  ONLINE, incarnation 3, another view: waited for the others' views long enough
03:04:05  m3-with-a-long-name-in-another-rack  unreachable, incarnation 12
03:04:05  m2  ONLINE -> WORKING, incarnation 3, another view: waited for the others' views long enough
03:04:05  m2  WORKING -> unreachable, incarnation 3, another view: waited for the others' views long enough
03:04:05  m2  unreachable -> lapsed, incarnation 3, another view: waited for the others' views long enough
03:04:05  m3-with-a-long-name-in-another-rack  unreachable -> gone
`
	if stdout != want {
		t.Errorf("shown:\n%swant:\n%s", stdout, want)
	}
	if stderr != "no server; it is waited for\n" {
		t.Errorf("said: %q", stderr)
	}
}

func TestWatchInLinesOfJSON(t *testing.T) {
	frozen := func(c *apitest.Cluster) error { c.Members[0].Frozen = true; return nil }
	stdout, _ := watched(t, "jsonl", same, same, see("m2", "WORKING"), frozen, same)
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	if len(lines) != 5 || !strings.Contains(lines[3], `"id":"m2","self":false,"state":"WORKING"`) || !strings.Contains(lines[4], `"frozen":true`) {
		t.Errorf("%d lines:\n%s", len(lines), stdout)
	}
}

// An error that will not pass ends the watch.
func TestWatchEndsWithAnError(t *testing.T) {
	fake := apitest.New()
	fake.Fail = func(string) error { return errors.New("the inside") }
	var out, errs bytes.Buffer
	c := &cli.CLI{Out: &out, Err: &errs, Now: fake.Now, Getenv: func(string) string { return "" },
		Dial: func(string, string) (api.Service, error) { return fake, nil }, Output: "table"}
	if code := c.Main(t.Context(), rooted(c), []string{"member", "ls", "-w"}); code != cli.ExitError || !strings.Contains(errs.String(), "the inside") {
		t.Errorf("exit code %d: %s", code, &errs)
	}
}
