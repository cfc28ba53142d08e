package operate

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"crier/api"
	"crier/cmd/crier/cli"
	"crier/cmd/crier/out"
)

// Journal is the group of commands about the workers' journals.
func Journal(c *cli.CLI) *cobra.Command {
	return c.Group("journal", "Journals: what each worker wrote into the ledger", journalList(c))
}

func journalList(c *cli.CLI) *cobra.Command {
	var limit int
	cmd := c.Command("ls [--limit N]", "List the journals, by name", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		if limit < 0 {
			return cli.Usage("--limit %d: want 0 or more", limit)
		}
		svc, err := c.Service()
		if err != nil {
			return err
		}
		all := []api.Journal{}
		for page := (api.Page{}); ; {
			page.Limit = api.MaxPage
			if limit > 0 {
				page.Limit = min(limit-len(all), api.MaxPage)
			}
			list, err := svc.ListJournals(ctx, page)
			if err != nil {
				return err
			}
			all = append(all, list.Journals...)
			if page.Cursor = list.Next; page.Cursor == "" || limit > 0 && len(all) >= limit {
				break
			}
		}
		return c.Print(all, func(p *out.Printer) out.Grid { return journalGrid(p, all) })
	})
	cmd.Flags().IntVar(&limit, "limit", 0, "most journals; 0 is all")
	return cmd
}

func journalGrid(p *out.Printer, all []api.Journal) out.Grid {
	g := out.Grid{Of: "journals", Columns: []out.Column{{Name: "journal", Flex: 2}, {Name: "state", State: true}, {Name: "owner"}, {Name: "records", Right: true}, {Name: "open", Right: true},
		{Name: "sealed by", Flex: 1}, {Name: "last", Right: true, Wide: true}, {Name: "written", Right: true, Wide: true}}}
	for _, j := range all {
		state, owner, last := "open", "there", "-"
		if j.Sealed {
			state = "sealed"
		}
		if j.Lapsed {
			owner = "gone"
		}
		if j.Last > 0 {
			last = fmt.Sprint(j.Last)
		}
		g.Rows = append(g.Rows, []string{j.Journal, state, owner, out.Count(j.Records), out.Count(j.Open), dash(j.SealedBy), last, p.Ago(j.LastAt)})
	}
	return g
}
