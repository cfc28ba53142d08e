package operate

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"crier/api"
	"crier/cmd/crier/cli"
	"crier/cmd/crier/out"
)

// Ring is the command about who should hold what.
func Ring(c *cli.CLI) *cobra.Command {
	var req api.AskRing
	var limit int
	cmd := c.Command("ring [--kind range|job|slice|journal] [--diff]", "Who should hold what by the hint, and who does by the claims", cobra.NoArgs,
		func(ctx context.Context, _ []string) error {
			if limit < 0 {
				return cli.Usage("--limit %d: want 0 or more", limit)
			}
			if err := req.Validate(); err != nil {
				return err
			}
			svc, err := c.Service()
			if err != nil {
				return err
			}
			r, err := wholeRing(ctx, svc, req, limit)
			if err != nil {
				return err
			}
			return printRing(c, r, req.Diff)
		})
	f := cmd.Flags()
	f.StringVar(&req.Kind, "kind", api.RingRange, "what: "+strings.Join(api.RingKinds, ", "))
	f.BoolVar(&req.Diff, "diff", false, "list what another holds than the hint says")
	f.IntVar(&limit, "limit", 50, "most differences; 0 is all")
	_ = cmd.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions(api.RingKinds, cobra.ShellCompDirectiveNoFileComp)) // the flag is there
	return cmd
}

// wholeRing reads the pages of what differs until limit of it is there; 0 is all.
func wholeRing(ctx context.Context, svc api.Service, req api.AskRing, limit int) (api.Ring, error) {
	var all []api.Different
	for {
		req.Limit = api.MaxPage
		if limit > 0 {
			req.Limit = min(limit-len(all), api.MaxPage)
		}
		r, err := svc.Ring(ctx, req)
		if err != nil {
			return r, err
		}
		all = append(all, r.Different...)
		if r.Next == "" || limit > 0 && len(all) >= limit {
			r.Different = all
			return r, nil
		}
		req.Cursor = r.Next
	}
}

func printRing(c *cli.CLI, r api.Ring, diff bool) error {
	if c.Output != string(out.Table) {
		return c.Print(r, nil)
	}
	held := fmt.Sprintf("%s of %s, %s by another than the hint says", out.Count(r.Claimed), out.Many(r.Things, r.Kind), out.Count(r.Differ))
	rows := [][]string{{"held", held}, {"view", r.View}, {"other views", dash(strings.Join(r.Disagree, ", "))}}
	if r.Kind == api.RingRange && r.Claimed < r.Things {
		rows = append(rows, []string{"unclaimed", out.Many(r.Things-r.Claimed, r.Kind) + ", which is nothing wrong: one is claimed once a recipient of it is sent something"})
	}
	if r.Frozen {
		rows = append(rows, []string{"frozen", "the coordination store answers nobody; nothing new is taken"})
	}
	if err := c.Print(r, func(*out.Printer) out.Grid { return out.Grid{Rows: rows} }); err != nil {
		return err
	}
	if len(r.Members) > 0 {
		if err := c.Section(func(*out.Printer) out.Grid { return ringGrid(r) }); err != nil {
			return err
		}
	}
	switch {
	case !diff:
		return nil
	case len(r.Different) == 0:
		return errors.Join(c.Line(""), c.Line("no differences"))
	}
	if err := c.Section(func(p *out.Printer) out.Grid { return differenceGrid(p, r) }); err != nil {
		return err
	}
	if r.Next != "" {
		c.Say("there is more; see it with --limit 0")
	}
	return nil
}

func ringGrid(r api.Ring) out.Grid {
	g := out.Grid{Columns: []out.Column{{Name: "member", Flex: 2}, {Name: "weight", Right: true}, {Name: "hinted", Right: true}, {Name: "holds", Right: true},
		{Name: "as hinted", Right: true}, {Name: "others hold", Right: true}, {Name: "unclaimed", Right: true}}}
	for _, m := range r.Members {
		g.Rows = append(g.Rows, []string{m.ID, fmt.Sprint(m.Weight), out.Count(m.Hinted), out.Count(m.Holds), out.Count(m.Both), out.Count(m.Others), out.Count(m.Nobodys)})
	}
	return g
}

func differenceGrid(p *out.Printer, r api.Ring) out.Grid {
	g := out.Grid{Columns: []out.Column{{Name: r.Kind}, {Name: "hint", Flex: 1}, {Name: "holder", Flex: 1}, {Name: "for", Right: true}, {Name: "epoch", Right: true, Wide: true}}}
	for _, d := range r.Different {
		g.Rows = append(g.Rows, []string{d.Thing, dash(d.Hint), dash(d.Holder), since(p, d.Since), fmt.Sprint(d.Epoch)})
	}
	return g
}
