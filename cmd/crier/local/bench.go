package local

import (
	"context"
	"fmt"
	"os"
	"strconv"

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
	return c.Group("bench", "Benchmarks", run, gateway)
}

func benchGrid(r bench.Result) out.Grid {
	return out.Grid{States: []string{"conserved"}, Rows: [][]string{
		{"recipients", out.Exact(r.Recipients)}, {"seconds", strconv.FormatFloat(r.Seconds, 'f', 2, 64)}, {"a second", out.Exact(uint64(r.RecipientsPerS))},
		{"delivered", out.Exact(r.Delivered)}, {"parked", out.Exact(r.Parked)}, {"dropped", out.Exact(r.Dropped)},
		{"conserved", out.YesNo(r.Conserved)}, {"duplicates", out.Exact(r.Duplicates)}, {"most memory", out.Bytes(r.RSSMaxBytes)},
		{"ledger", out.Bytes(r.LedgerBytes)},
	}}
}
