package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"crier/cmd/crier/cli"
	"crier/cmd/crier/out"
	"crier/internal/campaign"
	"crier/internal/drill"
	"crier/internal/drill/verdict"
)

// drillMany runs a campaign and shows what it came to, also what there is of it if it is
// interrupted.
func drillMany(ctx context.Context, c *cli.CLI, names []string, d drillFlags) error {
	steps, err := stepsOf(ctx, names, d)
	if err != nil {
		return err
	}
	n, total := 0, 0
	for _, s := range steps {
		total += s.Rounds
	}
	cfg := campaign.Config{Drill: d.cfg, Done: func(r campaign.Run) {
		if !r.Again {
			n++
		}
		c.Say("%d/%d %s: %s %s", n, total, r.Step, r.Verdict(), r.Why())
	}}
	res, err := campaign.Do(ctx, cfg, steps)
	if res.Interrupted {
		c.Say("%d of %d rounds were run", n, total)
	}
	if len(res.Runs) > 0 || res.Interrupted {
		err = errors.Join(printCampaign(c, res), writeReport(d.report, res), err)
	}
	if err != nil {
		return err
	}
	switch res.Verdict {
	case verdict.Fail:
		return cli.Exiting(cli.ExitThreshold, errors.New("not all drills are passed"))
	case verdict.Void:
		return errors.New("some drills show nothing, at the second try either")
	}
	return nil
}

// writeReport writes all that was measured to a file, if one is wanted.
func writeReport(path string, res campaign.Result) error {
	if path == "" {
		return nil
	}
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("writing what was measured: %w", err)
	}
	return errors.Join((&out.Printer{W: f, Format: out.JSON}).Print(res, nil), f.Close())
}

// stepsOf are the steps that the command line names.
func stepsOf(ctx context.Context, names []string, d drillFlags) (steps []campaign.Step, err error) {
	for _, name := range names {
		if name == everyDrill {
			all, err := campaign.Everything(ctx, d.cfg.Dir)
			if err != nil {
				return nil, err
			}
			steps = append(steps, all...)
			continue
		}
		if _, err := drill.Find(name); err != nil {
			return nil, err
		}
		s := campaign.Step{Drill: name, Rounds: 1}
		if name == drill.CutPair {
			s.From, s.To = d.cfg.CutFrom, d.cfg.CutTo
		}
		steps = append(steps, s)
	}
	for i := range steps {
		if d.rounds > 0 {
			steps[i].Rounds = d.rounds
		}
		if d.cfg.For > 0 {
			steps[i].For = d.cfg.For
		}
	}
	return steps, nil
}

// printCampaign shows the steps, how long things took, and what did not pass.
func printCampaign(c *cli.CLI, r campaign.Result) error {
	if err := c.Print(r, func(*out.Printer) out.Grid { return stepsGrid(r) }); err != nil || c.Output != string(out.Table) {
		return err
	}
	for _, grid := range []out.Grid{timesGrid(r), whysGrid(r)} {
		if len(grid.Rows) == 0 {
			continue
		}
		if err := c.Section(func(*out.Printer) out.Grid { return grid }); err != nil {
			return err
		}
	}
	return nil
}

func stepsGrid(r campaign.Result) out.Grid {
	g := out.Grid{Columns: []out.Column{{Name: "drill", Flex: 2}, {Name: "pass", Right: true}, {Name: "fail", Right: true}, {Name: "void", Right: true},
		{Name: "lost", Right: true}, {Name: "twice", Right: true}, {Name: "stale", Right: true}, {Name: "refused", Right: true}}}
	for _, s := range r.Steps {
		row := []string{s.Step}
		for _, n := range []int{s.Pass, s.Fail, s.Void, s.Lost, s.Twice, s.Stale, s.Refused} {
			row = append(row, strconv.Itoa(n))
		}
		g.Rows = append(g.Rows, row)
	}
	return g
}

// timesGrid shows each time that was measured, in seconds.
func timesGrid(r campaign.Result) out.Grid {
	g := out.Grid{Columns: []out.Column{{Name: "drill", Flex: 2}, {Name: "seconds"}, {Name: "least", Right: true}, {Name: "median", Right: true},
		{Name: "99 %", Right: true}, {Name: "most", Right: true}}}
	for _, s := range r.Steps {
		for _, x := range []struct {
			what string
			took *campaign.Distribution
		}{{"detected", s.Detected}, {"resumed", s.Resumed}, {"caught up", s.CaughtUp}, {"worst stall", s.Stall}} {
			if x.took == nil {
				continue
			}
			row := []string{s.Step, x.what}
			for _, t := range []float64{x.took.Min, x.took.P50, x.took.P99, x.took.Max} {
				row = append(row, fmt.Sprintf("%.2f", t))
			}
			g.Rows = append(g.Rows, row)
		}
	}
	return g
}

func whysGrid(r campaign.Result) out.Grid {
	g := out.Grid{Columns: []out.Column{{Name: "drill", Flex: 2}, {Name: "why it did not pass", Flex: 1, Wrap: true}}}
	for _, s := range r.Steps {
		for _, why := range whys(s.Step, r.Runs) {
			g.Rows = append(g.Rows, []string{s.Step, why})
		}
	}
	return g
}

// whys is why rounds of a step did not pass, each reason once.
func whys(step string, runs []campaign.Run) (list []string) {
	seen := map[string]bool{}
	for _, r := range runs {
		if why := r.Why(); r.Step == step && why != "" && !seen[why] {
			seen[why] = true
			list = append(list, why)
		}
	}
	return list
}
