package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"crier/api"
	"crier/audience/source"
	"crier/cmd/crier/cli"
	"crier/cmd/crier/out"
	"crier/job"
)

func (c *commands) suppressionCommand() *cobra.Command {
	return c.Group("suppression", "Suppression lists: recipients who get nothing", c.suppressionImport(),
		c.suppressionChange("add", "Put recipients on a list", api.Service.AddSuppressed),
		c.suppressionChange("rm", "Take recipients off a list", api.Service.RemoveSuppressed), c.suppressionList(), c.suppressionInfo(), c.suppressionExport())
}

const suppressionAccount = "name or id of the account whose list it is; without it, the global list"

func (c *commands) suppressionChange(verb, short string, do func(api.Service, context.Context, api.SuppressionChange) (api.SuppressionList, error)) *cobra.Command {
	var account string
	cmd := c.Command(verb+" [--account A] ID...", short+"; - reads ids from standard input", cobra.MinimumNArgs(1),
		func(ctx context.Context, args []string) error {
			svc, err := c.Service()
			if err != nil {
				return err
			}
			var total api.SuppressionList
			err = c.eachIDs(args, func(ids []job.Recipient) error {
				one, err := do(svc, ctx, api.SuppressionChange{Account: account, IDs: ids})
				one.Changed += total.Changed
				total = one
				return err
			})
			if err != nil {
				return err
			}
			return c.Print(total, suppressionFields(total, true))
		})
	c.AccountFlag(cmd, &account, suppressionAccount)
	return cmd
}

func (c *commands) suppressionImport() *cobra.Command {
	var account string
	var req api.ImportIDs
	cmd := c.Command("import [--account A] [--skip N] FILE", "Import a file of ids into a list, one a line or separated by commas, gzipped or not; - is standard input",
		cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
			return c.importIDs(args[0], req, func(svc api.Service, in io.Reader) (api.IDsImport, error) {
				return svc.ImportSuppressed(ctx, account, req, in)
			})
		})
	c.AccountFlag(cmd, &account, suppressionAccount)
	cmd.Flags().IntVar(&req.Skip, "skip", 0, "lines to leave out at the start")
	return cmd
}

func (c *commands) suppressionList() *cobra.Command {
	var limit int
	cmd := c.Command("ls [--limit N]", "List the lists that were ever written to, the global one first", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		svc, err := c.Service()
		if err != nil {
			return err
		}
		all, err := cli.Listed(c.CLI, limit, func(page api.Page) ([]api.SuppressionList, string, error) {
			list, err := svc.ListSuppression(ctx, page)
			return list.Lists, list.Next, err
		})
		if err != nil {
			return err
		}
		return c.Print(all, func(*out.Printer) out.Grid {
			g := out.Grid{Of: "suppression lists", Columns: []out.Column{{Name: "list", Flex: 1}, {Name: "entries", Right: true}, {Name: "revision", Right: true}}}
			for _, l := range all {
				g.Rows = append(g.Rows, []string{listName(l), out.Count(l.Entries), fmt.Sprint(l.Revision)})
			}
			return g
		})
	})
	cli.LimitFlag(cmd, &limit)
	return cmd
}

func (c *commands) suppressionExport() *cobra.Command {
	var account string
	cmd := c.Command("export [--account A]", "Write the ids on a list, one a line", cobra.NoArgs,
		func(ctx context.Context, _ []string) error { return c.export(ctx, source.FormatSuppression, account) })
	c.AccountFlag(cmd, &account, suppressionAccount)
	return cmd
}

func (c *commands) suppressionInfo() *cobra.Command {
	var account string
	cmd := c.Command("info [--account A]", "Show a list", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		svc, err := c.Service()
		if err != nil {
			return err
		}
		list, err := svc.GetSuppression(ctx, account)
		if err != nil {
			return err
		}
		return c.Print(list, suppressionFields(list, false))
	})
	c.AccountFlag(cmd, &account, suppressionAccount)
	return cmd
}

// suppressionFields is a list as names and values, after a change with what it changed.
func suppressionFields(l api.SuppressionList, change bool) func(*out.Printer) out.Grid {
	return func(*out.Printer) out.Grid {
		rows := [][]string{{"list", listName(l)}, {"entries", out.Exact(l.Entries)}, {"revision", fmt.Sprint(l.Revision)}}
		if change {
			rows = append(rows, []string{"changed", out.Exact(l.Changed)})
		}
		return out.Grid{Rows: rows}
	}
}

// listName is what a list is called.
func listName(l api.SuppressionList) string {
	if l.AccountID == nil {
		return "(global)"
	}
	return l.Account
}
