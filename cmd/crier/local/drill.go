package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"crier/cmd/crier/cli"
	"crier/cmd/crier/out"
	"crier/internal/drill"
	"crier/internal/drill/verdict"
)

// Drill is the group of commands that break a cluster on purpose.
func Drill(c *cli.CLI) *cobra.Command {
	return c.Group("drill", "Break the cluster on this machine on purpose, and judge what that did", drillList(c), drillRun(c))
}

func drillList(c *cli.CLI) *cobra.Command {
	return c.Command("ls", "List the drills", cobra.NoArgs, func(context.Context, []string) error {
		type row struct {
			Name       string `json:"name"`
			Hypothesis string `json:"hypothesis"`
		}
		var rows []row
		for _, d := range drill.All() {
			rows = append(rows, row{d.Name, d.Hypothesis})
		}
		return c.Print(rows, func(*out.Printer) out.Grid {
			g := out.Grid{Of: "drills", Columns: []out.Column{{Name: "name"}, {Name: "hypothesis", Flex: 1, Wrap: true}}}
			for _, r := range rows {
				g.Rows = append(g.Rows, []string{r.Name, r.Hypothesis})
			}
			return g
		})
	})
}

// everyDrill stands for all drills in their usual forms.
const everyDrill = "all"

// drillFlags are those of drill run.
type drillFlags struct {
	cfg    drill.Config
	cut    string
	rounds int    // 0 is as often as is usual
	report string // file of the JSON, besides what is printed
}

func drillRun(c *cli.CLI) *cobra.Command {
	d := drillFlags{cfg: drill.Config{Say: c.Say}}
	var cmd *cobra.Command
	cmd = c.Command("run NAME... [--dir DIR] [--rounds N]", "Run drills on a cluster that is up: one, or many with the distribution of their times; all is every drill",
		cobra.MinimumNArgs(1), func(ctx context.Context, args []string) (err error) {
			if err := knownDrills(args); err != nil {
				return err
			}
			if cmd.Flags().Changed("rounds") && d.rounds < 1 {
				return cli.Usage("--rounds %d: want 1 or more", d.rounds)
			}
			if d.cfg.Binary, err = os.Executable(); err != nil {
				return fmt.Errorf("finding this program: %w", err)
			}
			if d.cut != "" {
				var ok bool
				if d.cfg.CutFrom, d.cfg.CutTo, ok = strings.Cut(d.cut, ","); !ok {
					return cli.Usage("--cut %q: want two processes, roles or kinds, such as worker-1,nats-2 or scheduler,worker", d.cut)
				}
			}
			if (d.cut != "" || d.cfg.Both) && !slices.Contains(args, drill.CutPair) {
				return cli.Usage("--cut and --both are for the drill %s, which is not named", drill.CutPair)
			}
			if d.cfg.Seed == 0 {
				d.cfg.Seed = uint64(time.Now().Unix())
			}
			stop := context.AfterFunc(ctx, func() { c.Say("interrupted: mending the cluster; Ctrl-C again leaves at once") })
			defer stop()
			if len(args) == 1 && args[0] != everyDrill && d.rounds <= 1 && d.report == "" {
				return noCluster(drillOne(ctx, c, args[0], d.cfg))
			}
			return noCluster(drillMany(ctx, c, args, d))
		})
	cmd.ValidArgsFunction = func(*cobra.Command, []string, string) (names []string, _ cobra.ShellCompDirective) {
		for _, d := range drill.All() {
			names = append(names, d.Name)
		}
		return append(names, everyDrill), cobra.ShellCompDirectiveNoFileComp
	}
	dirFlag(c, cmd, &d.cfg.Dir)
	f := cmd.Flags()
	f.IntVar(&d.cfg.Online, "online", 600, "recipients connected from the start")
	f.IntVar(&d.cfg.Late, "late", 100, "recipients who log in after the fault")
	f.IntVar(&d.cfg.Parked, "parked", 20_000, "recipients who never log in")
	f.IntVar(&d.cfg.Jobs, "jobs", 6, "jobs under way at the same time")
	f.Uint32Var(&d.cfg.Rate, "rate", 0, "recipients a second, of all jobs (default: 60, or less, so that the load outlasts the fault)")
	f.Uint64Var(&d.cfg.Seed, "seed", 0, "of the recipients' ids (default: by the clock); each further drill has the next one")
	f.IntVar(&d.rounds, "rounds", 0, "how often each drill is run (default 1; those of all as often as is usual)")
	f.StringVar(&d.report, "report", "", "file for all that was measured, as JSON")
	f.DurationVar(&d.cfg.For, "for", 0, "how long the fault lasts (default: as long as the drill says)")
	f.StringVar(&d.cut, "cut", "", "for cut-pair: what the first process, role or kind sends the second is held (default: the busiest worker and its NATS server)")
	f.BoolVar(&d.cfg.Both, "both", false, "for cut-pair: both ways")
	return cmd
}

// knownDrills refuses a name that no drill has, and says which it may have meant.
func knownDrills(names []string) error {
	known := []string{everyDrill}
	for _, d := range drill.All() {
		known = append(known, d.Name)
	}
	for _, name := range names {
		if _, err := drill.Find(name); err != nil && name != everyDrill {
			return fmt.Errorf("%w%s", err, cli.Suggest(name, known))
		}
	}
	return nil
}

// drillOne runs one drill and shows it.
func drillOne(ctx context.Context, c *cli.CLI, name string, cfg drill.Config) error {
	rep, err := drill.Run(ctx, name, cfg)
	if err != nil {
		return err
	}
	if err := c.Print(rep, func(*out.Printer) out.Grid { return drillGrid(rep) }); err != nil {
		return err
	}
	switch rep.Verdict {
	case verdict.Fail:
		return cli.Exiting(cli.ExitThreshold, errors.New("the drill is not passed: "+first(rep.Reasons)))
	case verdict.Void:
		return errors.New("the drill shows nothing: " + first(rep.Reasons))
	}
	return nil
}

// first is the first of some reasons, and that there are more.
func first(reasons []string) string {
	if len(reasons) > 1 {
		return fmt.Sprintf("%s; and %d more", reasons[0], len(reasons)-1)
	}
	return strings.Join(reasons, "")
}

func drillGrid(r verdict.Report) out.Grid {
	rows := [][]string{{"drill", r.Drill}, {"hypothesis", r.Hypothesis}, {"verdict", string(r.Verdict)}}
	for _, x := range r.Reasons {
		rows = append(rows, []string{"reason", x})
	}
	l, f, o := r.Load, r.Fault, r.Oracle
	rows = append(rows,
		[]string{"load", fmt.Sprintf("%d jobs, %d online, %d late, %d parked; %.1f of %.1f recipients a second", l.Jobs, l.Online, l.Late, l.Parked, l.Before, l.Rate)},
		[]string{"fault", fmt.Sprintf("%s: %s, %.1f s", strings.Join(f.Victims, ", "), f.What, f.Seconds)}, []string{"proof", f.Proof})
	for _, x := range []struct {
		name string
		took *verdict.Seconds
	}{{"detected", r.Times.Detected}, {"resumed", r.Times.Resumed}, {"caught up", r.Times.CaughtUp}, {"worst stall", r.Times.Stall}} {
		if x.took != nil {
			rows = append(rows, []string{x.name, x.took.String()})
		}
	}
	rows = append(rows, []string{"messages", fmt.Sprintf("%d due, %d shown, lost %d, twice %d, strange %d, barred %d, over a cap %d, kept %d", o.Due, o.Shown, o.Lost, o.Twice, o.Strange, o.Barred, o.Over, o.Kept)},
		[]string{"stale", fmt.Sprintf("%d records behind a seal", r.Stale)})
	if x := r.Refused; x != nil {
		rows = append(rows, []string{"refused", fmt.Sprintf("%d appends, %d hand-offs of the victim when it went on", x.Appends, x.HandOffs)})
	}
	if x := r.Outage; x != nil {
		rows = append(rows, []string{"meanwhile", fmt.Sprintf("%d jobs taken in, %d answered 503, %d otherwise", x.Accepted, x.Unavailable, len(x.Other))},
			[]string{"SQL agreed", x.Agreed.String()}, []string{"moved", fmt.Sprintf("%d claims", x.Moved)})
	}
	rows = append(rows, []string{"reconciled", out.YesNo(len(r.Unproved) == 0)})
	for _, n := range r.Notes {
		rows = append(rows, []string{"note", n})
	}
	return out.Grid{Rows: rows, States: []string{"reconciled"}}
}
