package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"crier/api"
	"crier/cmd/crier/out"
	"crier/job"
)

func (c *commands) suppressionCommand() *cobra.Command {
	return c.Group("suppression", "Suppression lists: recipients who get nothing",
		c.suppressionChange("add", "Put recipients on a list", api.Service.AddSuppressed),
		c.suppressionChange("rm", "Take recipients off a list", api.Service.RemoveSuppressed), c.suppressionInfo())
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
		name := l.Account
		if l.AccountID == nil {
			name = "(global)"
		}
		rows := [][]string{{"list", name}, {"entries", out.Count(l.Entries)}, {"revision", fmt.Sprint(l.Revision)}}
		if change {
			rows = append(rows, []string{"changed", out.Count(l.Changed)})
		}
		return out.Grid{Rows: rows}
	}
}
