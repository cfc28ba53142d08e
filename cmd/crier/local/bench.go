package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"crier/cmd/crier/cli"
	"crier/cmd/crier/out"
	"crier/internal/bench"
	"crier/internal/bench/lastmile"
	"crier/internal/bench/logins"
)

// Bench is the group of benchmarks.
func Bench(c *cli.CLI) *cobra.Command {
	gateway := child(c, "gateway", "A simulated gateway", func(ctx context.Context) error { return bench.ServeGateway(ctx, c.In, c.Out) })
	readers := child(c, "readers", "Clients that read and acknowledge", func(ctx context.Context) error { return lastmile.ServeReaders(ctx, c.In, c.Out) })
	bare := child(c, "bare", "A bare loop over sockets", func(ctx context.Context) error { return lastmile.ServeBare(ctx, c.In, c.Out) })
	return c.Group("bench", "Benchmarks", pipeline(c), lastMile(c), smallJobs(c), login(c), gateway, readers, bare)
}

// child is a command that only a benchmark starts.
func child(c *cli.CLI, name, what string, run func(context.Context) error) *cobra.Command {
	cmd := c.Command(name, what+"; started by the benchmark", cobra.NoArgs, func(ctx context.Context, _ []string) error { return run(ctx) })
	cmd.Hidden = true
	return cmd
}

// withServer finds what a benchmark needs to start a server, and removes it afterwards.
func withServer(parent string, run func(binary, dir string) error) error {
	binary, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	dir, err := os.MkdirTemp(parent, "crier-bench-")
	if err != nil {
		return fmt.Errorf("making a directory for the server: %w", err)
	}
	defer os.RemoveAll(dir)
	return run(binary, dir)
}

// parentFlag is where the server of a benchmark keeps its data.
func parentFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "dir", "", "where the server keeps its data meanwhile (default: the temporary directory)")
}

func pipeline(c *cli.CLI) *cobra.Command {
	p := bench.Pipeline{Population: bench.Population{Gateways: 8, Seed: 1}}
	var parent string
	run := c.Command("pipeline [--recipients N]", "Measure the whole pipeline with simulated gateways in processes of their own", cobra.NoArgs,
		func(ctx context.Context, _ []string) error {
			return withServer(parent, func(binary, dir string) error {
				p.Binary, p.Dir, p.Progress = binary, dir, c.Err
				res, err := p.Run(ctx)
				if err != nil {
					return err
				}
				return c.Print(res, func(pr *out.Printer) out.Grid { return benchGrid(res) })
			})
		})
	run.Flags().Uint64Var(&p.Recipients, "recipients", 10_000_000, "how many recipients the package has")
	parentFlag(run, &parent)
	return run
}

func login(c *cli.CLI) *cobra.Command {
	l := logins.Run{Members: logins.Members{Seed: 1}}
	var parent string
	cmd := c.Command("login [--recipients N]", "Measure how fast recipients who log in get what was parked for them", cobra.NoArgs,
		func(ctx context.Context, _ []string) error {
			return withServer(parent, func(binary, dir string) error {
				l.Binary, l.Dir, l.Progress = binary, dir, c.Err
				res, err := l.Do(ctx)
				if err != nil {
					return err
				}
				return c.Print(res, func(pr *out.Printer) out.Grid { return loginGrid(res) })
			})
		})
	fs := cmd.Flags()
	fs.Uint64Var(&l.Recipients, "recipients", 10_000_000, "how many recipients there are, in a space of ids 143 times as large")
	fs.IntVar(&l.Jobs, "jobs", 1000, "how many jobs are parked, a multiple of the items")
	fs.IntVar(&l.Items, "items", 10, "in how many of the jobs each recipient is")
	fs.IntVar(&l.Heavy, "heavy", 20, "how many recipients are in all jobs")
	fs.IntVar(&l.Rounds, "rounds", 1, "how often everything is parked and drained; the first is measured")
	fs.IntVar(&l.Window, "window", 1000, "how many recipients wait at a time when the most logins a second are looked for")
	fs.Float64Var(&l.Load, "load", 0.6, "which part of these come when the latencies are measured")
	fs.DurationVar(&l.Lasts, "lasts", 10*time.Second, "how long each of the two is measured, at most")
	parentFlag(cmd, &parent)
	return cmd
}

func loginGrid(r logins.Result) out.Grid {
	took := func(l logins.Latency) string {
		if l.Logins == 0 {
			return "not measured: nobody was left who had not come"
		}
		return fmt.Sprintf("%.1f ms, p99 %.1f ms, at most %.1f ms", l.P50, l.P99, l.Max)
	}
	g := out.Grid{States: []string{"conserved"}, Rows: [][]string{
		{"recipients", out.Exact(r.Recipients)}, {"parked of each", fmt.Sprintf("%d of %d jobs", r.Items, r.Jobs)},
		{"logins a second", out.Exact(uint64(r.LoginsPerS))}, {"at that rate", took(r.Saturated)},
		{fmt.Sprintf("at %.0f a second", r.LoadPerS), took(r.Below)},
		{fmt.Sprintf("with %d parked", r.HeavyItems), took(r.Heavy)}, {"the first of them", took(r.HeavyFirst)},
		{"delivered", out.Exact(r.Delivered)}, {"conserved", out.YesNo(r.Conserved)}, {"duplicates", out.Exact(r.Twice)},
		{"most memory", out.Bytes(r.RSSMaxBytes)}, {"ledger", out.Bytes(r.LedgerBytes)},
	}}
	for n := range r.IndexBytes {
		g.Rows = append(g.Rows, []string{fmt.Sprintf("index, round %d", n+1), fmt.Sprintf("%s parked, %s drained", out.Bytes(r.IndexBytes[n]), out.Bytes(r.DrainedBytes[n]))})
	}
	return g
}

func benchGrid(r bench.Result) out.Grid {
	return out.Grid{States: []string{"conserved"}, Rows: [][]string{
		{"recipients", out.Exact(r.Recipients)}, {"seconds", strconv.FormatFloat(r.Seconds, 'f', 2, 64)}, {"a second", out.Exact(uint64(r.RecipientsPerS))},
		{"delivered", out.Exact(r.Delivered)}, {"parked", out.Exact(r.Parked)}, {"dropped", out.Exact(r.Dropped)},
		{"conserved", out.YesNo(r.Conserved)}, {"duplicates", out.Exact(r.Duplicates)}, {"most memory", out.Bytes(r.RSSMaxBytes)},
		{"ledger", out.Bytes(r.LedgerBytes)},
	}}
}

func lastMile(c *cli.CLI) *cobra.Command {
	r := lastmile.Run{}
	var parent string
	run := c.Command("last-mile [--connections N]", "Measure messages to real connections, acknowledged, against a bare loop over as many sockets", cobra.NoArgs,
		func(ctx context.Context, _ []string) error {
			var res lastmile.Result
			err := withServer(parent, func(binary, dir string) (err error) {
				r.Binary, r.Dir, r.Progress = binary, dir, c.Err
				res, err = r.Do(ctx)
				return err
			})
			if err != nil {
				return err
			}
			if err := c.Print(res, func(*out.Printer) out.Grid { return lastMileGrid(res) }); err != nil {
				return err
			}
			switch {
			case len(res.Violations) > 0:
				return fmt.Errorf("the measurement is worth nothing: %s", first(res.Violations))
			case len(res.Missed) > 0:
				return cli.Exiting(cli.ExitThreshold, errors.New("the gateway is not as it should be: "+strings.Join(res.Missed, "; ")))
			}
			return nil
		})
	run.Flags().IntVar(&r.Connections, "connections", 10_000, "how many recipients are connected")
	run.Flags().IntVar(&r.Jobs, "jobs", 40, "how many jobs a round has, each to all of them")
	run.Flags().IntVar(&r.UnderWay, "under-way", 8, "how many jobs are under way at a time")
	run.Flags().IntVar(&r.Rounds, "rounds", 3, "how often the server and the bare loop are measured, in turn")
	run.Flags().IntVar(&r.Readers, "readers", 2, "in how many processes the readers are")
	run.Flags().IntVar(&r.BodyBytes, "body", 100, "how many bytes a message has")
	parentFlag(run, &parent)
	return run
}

func lastMileGrid(r lastmile.Result) out.Grid {
	ratio := func(f float64) string { return strconv.FormatFloat(f, 'f', 2, 64) }
	return out.Grid{States: []string{"conserved"}, Rows: [][]string{
		{"connections", out.Exact(uint64(r.Connections))}, {"messages", out.Exact(uint64(r.Messages))},
		{"a second", out.Exact(uint64(r.MessagesPerS))}, {"bare loop", out.Exact(uint64(r.BarePerS))},
		{"ratio", fmt.Sprintf("%s (wanted: %s)", ratio(r.Ratio), ratio(r.WantRatio))},
		{"ratio of processor time", ratio(r.CPURatio)},
		{"idle connection", fmt.Sprintf("%s resident, %s in use (wanted: %s)", out.Bytes(r.RSSPerConnection), out.Bytes(r.HeapPerConnection), out.Bytes(r.WantPerConnection))},
		{"conserved", out.YesNo(r.Conserved)}, {"duplicates", out.Exact(uint64(r.Twice))},
	}}
}

func smallJobs(c *cli.CLI) *cobra.Command {
	b := bench.SmallJobs{Pipeline: bench.Pipeline{Population: bench.Population{Gateways: 2, Seed: 1}}}
	var parent string
	run := c.Command("small-jobs [--jobs N]", "Measure jobs a second, each to few recipients, with simulated gateways", cobra.NoArgs,
		func(ctx context.Context, _ []string) error {
			var res bench.SmallResult
			err := withServer(parent, func(binary, dir string) (err error) {
				b.Binary, b.Dir, b.Progress = binary, dir, c.Err
				res, err = b.Run(ctx)
				return err
			})
			if err != nil {
				return err
			}
			if err := c.Print(res, func(*out.Printer) out.Grid { return smallGrid(res) }); err != nil {
				return err
			}
			if len(res.Violations) > 0 {
				return fmt.Errorf("the measurement is worth nothing: %s", first(res.Violations))
			}
			return nil
		})
	run.Flags().IntVar(&b.Jobs, "jobs", 500, "how many jobs are sent")
	run.Flags().Uint64Var(&b.Each, "recipients", 20_000, "how many recipients each of them has")
	run.Flags().Uint64Var(&b.Recipients, "among", 1_000_000, "how many recipients the packages are drawn from")
	run.Flags().IntVar(&b.Packages, "packages", 50, "how many packages there are; jobs take turns with them")
	run.Flags().IntVar(&b.UnderWay, "under-way", 16, "how many jobs are under way at a time")
	parentFlag(run, &parent)
	return run
}

func smallGrid(r bench.SmallResult) out.Grid {
	decimal := func(f float64) string { return strconv.FormatFloat(f, 'f', 1, 64) }
	return out.Grid{States: []string{"conserved"}, Rows: [][]string{
		{"jobs", out.Exact(uint64(r.Jobs))}, {"recipients each", out.Exact(r.RecipientsEach)}, {"under way", out.Exact(uint64(r.UnderWay))},
		{"jobs a second", decimal(r.JobsPerS)}, {"half are sent in", decimal(r.P50Ms) + " ms"}, {"99 % in", decimal(r.P99Ms) + " ms"},
		{"ledger, of a job", out.Bytes(r.LedgerPerJob)}, {"conserved", out.YesNo(r.Conserved)}, {"most memory", out.Bytes(r.RSSMaxBytes)},
	}}
}
