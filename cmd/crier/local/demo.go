// Package local is the commands that run Crier on this machine and judge it: the
// demonstration and the benchmarks.
package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"crier/cmd/crier/cli"
	"crier/cmd/crier/out"
	"crier/internal/crowd"
	"crier/internal/demo"
)

// errDemo says that a demo's verdict is bad.
var errDemo = errors.New("the demo's verdict is bad")

// Demo is the demonstration.
func Demo(c *cli.CLI) *cobra.Command {
	var fast bool
	cfg := demo.Config{Followers: 1_000_000, Online: 2_000, Late: 1_000, Rate: 200, Seed: 1}
	cmd := c.Command("demo [--fast]", "Run the main job on this machine, with real clients, and judge it by what they saw", cobra.NoArgs,
		func(ctx context.Context, _ []string) error {
			if fast {
				cfg.Rate = 0
			}
			return demoRun(ctx, c, cfg)
		})
	cmd.Flags().BoolVar(&fast, "fast", false, "as fast as it goes, instead of at 200 hand-offs a second")
	crowdCmd := c.Command("crowd", "The clients of a demo; started by it", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		return crowd.Serve(ctx, c.In, c.Out)
	})
	crowdCmd.Hidden = true
	cmd.AddCommand(crowdCmd)
	return cmd
}

// progressLine is how far a demo is, where no bar can be drawn; it is all of it only when
// all is done.
func progressLine(state string, done, total uint64) string {
	return fmt.Sprintf("%s  %s of %s  %s", state, out.Exact(done), out.Exact(total), out.Percent(done, total))
}

func demoRun(ctx context.Context, c *cli.CLI, cfg demo.Config) error {
	binary, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	dir, err := os.MkdirTemp("", "crier-demo-")
	if err != nil {
		return fmt.Errorf("making a directory for the server: %w", err)
	}
	defer os.RemoveAll(dir)
	width, terminal := cli.TerminalWidth(c.Out)
	bar, tenth := out.NewProgress(c.Out, width), uint64(0)
	cfg.Binary, cfg.Dir, cfg.Out = binary, dir, c.Out
	cfg.Progress = func(state string, done, total uint64) {
		if terminal {
			err = errors.Join(err, bar.Update(time.Now(), state, done, total))
		} else if t := 10 * done / max(total, 1); t > tenth {
			tenth = t
			fmt.Fprintln(c.Out, progressLine(state, done, total))
		}
	}
	v, runErr := demo.Run(ctx, cfg)
	if err := errors.Join(err, runErr); err != nil {
		return errors.Join(err, bar.Done())
	}
	fmt.Fprintln(c.Out, v)
	if !v.OK() {
		return cli.Exiting(cli.ExitError, errDemo)
	}
	return nil
}
