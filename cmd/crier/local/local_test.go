package local

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"crier/cmd/crier/cli"
	"crier/cmd/crier/out"
	"crier/internal/campaign"
	"crier/internal/cluster"
	"crier/internal/drill/verdict"
)

func table(t *testing.T, grid func(*out.Printer) out.Grid) string {
	t.Helper()
	var b bytes.Buffer
	p := &out.Printer{W: &b, Format: out.Table, Width: 100, Now: time.Unix(1_700_000_000, 0)}
	if err := p.Print(struct{}{}, grid); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestClusterTable(t *testing.T) {
	rows := []clusterRow{
		{Name: "api-1", Kind: cluster.Crier, Role: "api", PID: 4711, State: cluster.Running, StartedAt: time.Unix(1_700_000_000-90, 0),
			Addresses: map[string]string{cluster.AddrAPI: "http://127.0.0.1:7420", cluster.AddrMember: "127.0.0.1:7421"}},
		{Name: "nats-2", Kind: cluster.NATS, PID: 4712, State: cluster.Gone, Addresses: map[string]string{cluster.AddrClient: "127.0.0.1:4222"}},
	}
	got := table(t, func(p *out.Printer) out.Grid { return clusterGrid(p, rows) })
	lines := strings.Split(strings.TrimSpace(got), "\n")
	if len(lines) != 3 {
		t.Fatalf("it is\n%s", got)
	}
	for i, words := range [][]string{{"NAME", "ADDRESSES"}, {"api-1", "api", "4711", "running", "1m", "api :7420, member :7421"}, {"nats-2", "gone", "client :4222"}} {
		for _, w := range words {
			if !strings.Contains(lines[i], w) {
				t.Errorf("line %d lacks %q:\n%s", i, w, got)
			}
		}
	}
	if strings.Contains(lines[2], "4712") {
		t.Errorf("a process that is gone has a number:\n%s", got)
	}
}

// No address is cut, however narrow the terminal is.
func TestClusterTableIsNarrow(t *testing.T) {
	rows := []clusterRow{{Name: "scheduler-1", Role: "scheduler", PID: 4711, State: cluster.Running, StartedAt: time.Unix(1_700_000_000-90, 0),
		Addresses: map[string]string{cluster.AddrAPI: "http://127.0.0.1:34567", cluster.AddrMember: "127.0.0.1:34568", cluster.AddrProxy: "127.0.0.1:34569"}}}
	got := (&out.Printer{Width: 80}).Render(clusterGrid(&out.Printer{}, rows))
	if !strings.Contains(got, "\n  addresses: api :34567, member :34568, proxy :34569\n") {
		t.Errorf("it is\n%s", got)
	}
}

// What is so already is said, with the exit code of nothing to do.
func TestAProcessThatIsSoAlready(t *testing.T) {
	gone := &cluster.Process{Record: cluster.Record{Name: "api-1"}}
	for name, err := range map[string]error{"api-1 is gone already": kill(gone), "api-1 is not paused: it is gone": goOn(gone)} {
		var b bytes.Buffer
		c := &cli.CLI{Out: &b, Err: &b, Output: "table", Getenv: func(string) string { return "" }}
		cmd := c.Command("act", "Act", cobra.NoArgs, func(context.Context, []string) error { return err })
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		if code := c.Main(t.Context(), cmd, nil); code != cli.ExitNothing || b.String() != "crier: "+name+"\n" {
			t.Errorf("exit code %d, %q; want %q", code, b.String(), name)
		}
	}
}

// A process that is paused is not started, and the command that lets it go on is named.
func TestStartOfWhatIsPaused(t *testing.T) {
	err := paused(cluster.Paused, "api-1")
	if want := "api-1 is paused; to let it go on: crier cluster continue api-1"; err == nil || err.Error() != want {
		t.Errorf("it is %v, want %s", err, want)
	}
	if err := paused(cluster.Gone, "api-1"); err != nil {
		t.Error(err)
	}
}

func TestDrillTable(t *testing.T) {
	took := verdict.Seconds(6.25)
	got := table(t, func(*out.Printer) out.Grid {
		return drillGrid(verdict.Report{Drill: "kill-worker", Verdict: verdict.Fail, Reasons: []string{"2 messages were lost"},
			Fault: verdict.Fault{Victims: []string{"worker-2"}, What: "kill -9", Proof: "gone"}, Times: verdict.Times{Resumed: &took},
			Oracle: verdict.Oracle{Due: 10, Shown: 8, Lost: 2}, Unproved: []string{"x"}})
	})
	for _, want := range []string{"fail", "2 messages were lost", "worker-2: kill -9", "6.25 s", "10 due, 8 shown, lost 2", "reconciled"} {
		if !strings.Contains(got, want) {
			t.Errorf("it lacks %q:\n%s", want, got)
		}
	}
	if strings.Contains(got, "detected") {
		t.Errorf("it shows what was not measured:\n%s", got)
	}
	if first([]string{"a", "b", "c"}) != "a; and 2 more" || first([]string{"a"}) != "a" || first(nil) != "" {
		t.Error("the first of some reasons is worded badly")
	}
}

func TestCampaignTable(t *testing.T) {
	void := campaign.Run{Step: "kill-api", Round: 1, Error: "the cluster is not whole"}
	failed := campaign.Run{Step: "kill-api", Round: 1, Again: true, Report: &verdict.Report{Verdict: verdict.Fail, Reasons: []string{"too late, by far more than anybody who had this cluster in mind would have thought"}}}
	res := campaign.Result{Verdict: verdict.Fail, Runs: []campaign.Run{void, failed, failed}, Steps: []campaign.Summary{
		{Step: "cut-pair scheduler,worker 120s", Rounds: 20, Pass: 20, Resumed: &campaign.Distribution{N: 20, Min: 3, P50: 4, P99: 5.5, Max: 6}},
		{Step: "kill-api", Rounds: 1, Fail: 1, Lost: 3, Resumed: &campaign.Distribution{N: 1, Min: 7, P50: 7, P99: 7, Max: 7}}}}
	var b bytes.Buffer
	c := &cli.CLI{Out: &b, Output: "table", Now: time.Now, Getenv: func(string) string { return "80" }}
	if err := printCampaign(c, res); err != nil {
		t.Fatal(err)
	}
	want := `DRILL                           PASS  FAIL  VOID  LOST  TWICE  STALE  REFUSED
cut-pair scheduler,worker 120s    20     0     0     0      0      0        0
kill-api                           0     1     0     3      0      0        0

DRILL                           SECONDS  LEAST  MEDIAN  99 %  MOST
cut-pair scheduler,worker 120s  resumed   3.00    4.00  5.50  6.00
kill-api                        resumed   7.00    7.00  7.00  7.00

DRILL     WHY IT DID NOT PASS
kill-api  the cluster is not whole
kill-api  too late, by far more than anybody who had this cluster in mind would
          have thought
`
	if got := b.String(); got != want {
		t.Errorf("it is\n%swant\n%s", got, want)
	}
	b.Reset()
	if c.Output = "json"; printCampaign(c, res) != nil || strings.Count(b.String(), `"verdict": "fail"`) != 3 || strings.Contains(b.String(), "DRILL") {
		t.Errorf("as JSON it is\n%s", b.String())
	}
	if why := whys("kill-api", []campaign.Run{void, failed, failed}); len(why) != 2 {
		t.Errorf("the reasons are %q", why)
	}
}

// A demo is not done before it is, and not at less when it is.
func TestProgressLine(t *testing.T) {
	for _, c := range []struct {
		done uint64
		want string
	}{{0, "0.0%"}, {99_999, "10.0%"}, {997_000, "99.7%"}, {999_999, "99.9%"}, {1_000_000, "100%"}} {
		if got := progressLine("sending", c.done, 1_000_000); !strings.HasSuffix(got, " of 1,000,000  "+c.want) {
			t.Errorf("%d: %s, want %s", c.done, got, c.want)
		}
	}
}
