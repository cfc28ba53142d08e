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
	create := c.Command("create NAME", "Create an account", cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
		req := api.CreateAccount{Name: args[0]}
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
		all, err := pages(limit, func(page api.Page) ([]api.Account, string, error) {
			list, err := svc.ListAccounts(ctx, page)
			return list.Accounts, list.Next, err
		})
		if err != nil {
			return err
		}
		return c.Print(all, func(p *out.Printer) out.Grid {
			g := out.Grid{Columns: []out.Column{{Name: "id", Right: true}, {Name: "name", Flex: 1}, {Name: "followers", Right: true},
				{Name: "revision", Right: true, Wide: true}, {Name: "created"}}}
			for _, a := range all {
				g.Rows = append(g.Rows, []string{fmt.Sprint(a.ID), a.Name, out.Count(a.Followers), fmt.Sprint(a.Revision), p.Ago(a.CreatedAt)})
			}
			return g
		})
	})
	limitFlag(cmd, &limit)
	return cmd
}

func accountFields(a api.Account) func(*out.Printer) out.Grid {
	return func(p *out.Printer) out.Grid {
		return out.Grid{Rows: [][]string{{"id", fmt.Sprint(a.ID)}, {"name", a.Name}, {"followers", out.Exact(a.Followers)},
			{"revision", fmt.Sprint(a.Revision)}, {"created", p.Ago(a.CreatedAt)}}}
	}
}

// limitFlag adds --limit to a command that lists.
func limitFlag(cmd *cobra.Command, limit *int) {
	cmd.Flags().IntVar(limit, "limit", 50, "most items; 0 is all")
}

// pages reads a list page by page until limit items are there; 0 is all.
func pages[T any](limit int, next func(api.Page) ([]T, string, error)) ([]T, error) {
	if limit < 0 {
		return nil, cli.Usage("--limit %d: want 0 or more", limit)
	}
	all := []T{}
	for cursor := ""; ; {
		page := api.Page{Limit: api.MaxPage, Cursor: cursor}
		if limit > 0 {
			page.Limit = min(limit-len(all), api.MaxPage)
		}
		items, after, err := next(page)
		if err != nil {
			return nil, err
		}
		all = append(all, items...)
		if after == "" || limit > 0 && len(all) >= limit {
			return all, nil
		}
		cursor = after
	}
}
