package operate

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"crier/api"
	"crier/cmd/crier/cli"
	"crier/cmd/crier/out"
)

// Lane is the group of commands about what the workers are at.
func Lane(c *cli.CLI) *cobra.Command {
	return c.Group("lane", "Lanes: the blocks that the workers have under way", laneList(c))
}

func laneList(c *cli.CLI) *cobra.Command {
	return c.Command("ls", "List the lanes of all workers", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		svc, err := c.Service()
		if err != nil {
			return err
		}
		list, err := svc.ListLanes(ctx)
		if err != nil {
			return err
		}
		return c.Print(list, func(p *out.Printer) out.Grid { return laneGrid(p, list) })
	})
}

func laneGrid(p *out.Printer, list api.LaneList) out.Grid {
	g := out.Grid{Of: "lanes", Columns: []out.Column{{Name: "worker", Flex: 2}, {Name: "lane", Right: true}, {Name: "phase"}, {Name: "for", Right: true}, {Name: "job"},
		{Name: "slice", Right: true}, {Name: "targets", Right: true, Wide: true}, {Name: "recipients", Wide: true}}}
	if len(list.Silent) > 0 {
		g.Columns = append(g.Columns, out.Column{Name: "why", Flex: 1, Wide: true})
	}
	for _, l := range list.Lanes {
		id, slice, block := "-", "-", "-"
		if l.Slice != nil {
			id, slice = l.Job.String(), fmt.Sprint(*l.Slice)
		}
		if l.First != nil && l.Last != nil {
			block = fmt.Sprintf("%d to %d", *l.First, *l.Last)
		}
		g.Rows = append(g.Rows, []string{l.Worker, fmt.Sprint(l.Lane), l.Phase, since(p, l.Since), id, slice, out.Count(l.Targets), block, ""}[:len(g.Columns)])
	}
	for _, s := range list.Silent {
		g.Rows = append(g.Rows, []string{s.Name, "-", "no answer", "-", "-", "-", "-", "-", s.Why})
	}
	return g
}
