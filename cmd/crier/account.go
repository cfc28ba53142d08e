package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"crier/api"
	"crier/cmd/crier/cli"
	"crier/cmd/crier/out"
)

func (c *commands) accountCommand() *cobra.Command {
	var tenant string
	create := c.Command("create NAME [--tenant T]", "Create an account", cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
		req := api.CreateAccount{Name: args[0], Tenant: tenant}
		if err := req.Validate(); err != nil {
			return err
		}
		svc, err := c.Service()
		if err != nil {
			return err
		}
		a, err := svc.CreateAccount(ctx, req)
		if err != nil {
			return err
		}
		return c.Print(a, accountFields(a))
	})
	create.Flags().StringVar(&tenant, "tenant", "", "who owns it (default: the tenant of the key)")
	info := c.Command("info ACCOUNT", "Show an account by its name or id", cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
		svc, err := c.Service()
		if err != nil {
			return err
		}
		a, err := svc.GetAccount(ctx, args[0])
		if err != nil {
			return err
		}
		return c.Print(a, accountFields(a))
	})
	info.ValidArgsFunction = c.CompleteAccounts
	return c.Group("account", "Accounts: the senders", create, c.accountList(), info)
}

func (c *commands) accountList() *cobra.Command {
	var limit int
	cmd := c.Command("ls [--limit N]", "List accounts", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		svc, err := c.Service()
		if err != nil {
			return err
		}
		all, err := cli.Listed(c.CLI, limit, func(page api.Page) ([]api.Account, string, error) {
			list, err := svc.ListAccounts(ctx, page)
			return list.Accounts, list.Next, err
		})
		if err != nil {
			return err
		}
		return c.Print(all, func(p *out.Printer) out.Grid {
			g := out.Grid{Of: "accounts", Columns: []out.Column{{Name: "id", Right: true}, {Name: "name", Flex: 1}, {Name: "tenant", Wide: true}, {Name: "followers", Right: true},
				{Name: "revision", Right: true, Wide: true}, {Name: "created"}}}
			for _, a := range all {
				g.Rows = append(g.Rows, []string{fmt.Sprint(a.ID), a.Name, a.Tenant, out.Count(a.Followers), fmt.Sprint(a.Revision), p.Ago(a.CreatedAt)})
			}
			return g
		})
	})
	cli.LimitFlag(cmd, &limit)
	return cmd
}

func accountFields(a api.Account) func(*out.Printer) out.Grid {
	return func(p *out.Printer) out.Grid {
		return out.Grid{Rows: [][]string{{"id", fmt.Sprint(a.ID)}, {"name", a.Name}, {"tenant", a.Tenant}, {"followers", out.Exact(a.Followers)},
			{"revision", fmt.Sprint(a.Revision)}, {"created", p.Ago(a.CreatedAt)}}}
	}
}
