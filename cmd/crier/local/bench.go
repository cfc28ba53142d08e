package local

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"crier/cmd/crier/cli"
	"crier/cmd/crier/out"
	"crier/internal/bench"
)

// Bench is the group of benchmarks.
func Bench(c *cli.CLI) *cobra.Command {
	p := bench.Pipeline{Population: bench.Population{Gateways: 8, Seed: 1}}
	run := c.Command("pipeline [--recipients N]", "Measure the whole pipeline with simulated gateways in processes of their own", cobra.NoArgs,
		func(ctx context.Context, _ []string) error {
			binary, err := os.Executable()
			if err != nil {
				return fmt.Errorf("finding this program: %w", err)
			}
			dir, err := os.MkdirTemp(p.Dir, "crier-bench-")
			if err != nil {
				return fmt.Errorf("making a directory for the server: %w", err)
			}
			defer os.RemoveAll(dir)
			p.Binary, p.Dir, p.Progress = binary, dir, c.Err
			res, err := p.Run(ctx)
			if err != nil {
				return err
			}
			return c.Print(res, func(pr *out.Printer) out.Grid { return benchGrid(res) })
		})
	run.Flags().Uint64Var(&p.Recipients, "recipients", 10_000_000, "how many recipients the package has")
	run.Flags().StringVar(&p.Dir, "dir", "", "where the server keeps its data meanwhile (default: the temporary directory)")
	gateway := c.Command("gateway", "A simulated gateway; started by the benchmark", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		return bench.ServeGateway(ctx, c.In, c.Out)
	})
	gateway.Hidden = true
	return c.Group("bench", "Benchmarks", run, login(c), gateway)
}

func login(c *cli.CLI) *cobra.Command {
	var l bench.Login
	cmd := c.Command("login [--recipients N]", "Measure how fast recipients who log in get what was parked for them", cobra.NoArgs,
		func(ctx context.Context, _ []string) (err error) {
			if l.Binary, err = os.Executable(); err != nil {
				return fmt.Errorf("finding this program: %w", err)
			}
			dir, err := os.MkdirTemp(l.Dir, "crier-bench-")
			if err != nil {
				return fmt.Errorf("making a directory for the server: %w", err)
			}
			defer os.RemoveAll(dir)
			l.Dir, l.Progress, l.Seed = dir, c.Err, 1
			res, err := l.Run(ctx)
			if err != nil {
				return err
			}
			return c.Print(res, func(pr *out.Printer) out.Grid { return loginGrid(res) })
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
	fs.StringVar(&l.Dir, "dir", "", "where the server keeps its data meanwhile (default: the temporary directory)")
	return cmd
}

func loginGrid(r bench.LoginResult) out.Grid {
	took := func(l bench.Latency) string {
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
