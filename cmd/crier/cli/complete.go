package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"crier/api"
)

// completionTime is how long a shell may wait for live ids.
const completionTime = time.Second

// live asks the server for completions; without one there are none.
func (c *CLI) live(cmd *cobra.Command, args []string, ask func(context.Context, api.Service) ([]string, error)) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, completionTime)
	defer cancel()
	svc, err := c.Service()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	words, err := ask(ctx, svc)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return words, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}

// CompleteJobs gives the newest jobs, described by their state and account.
func (c *CLI) CompleteJobs(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return c.live(cmd, args, func(ctx context.Context, svc api.Service) ([]string, error) {
		list, err := svc.ListJobs(ctx, api.ListJobs{})
		var words []string
		for _, j := range list.Jobs {
			words = append(words, cobra.CompletionWithDesc(j.Job.String(), j.State.String()+" of "+j.Account))
		}
		return words, err
	})
}

// CompleteMembers gives the members, described by their states.
func (c *CLI) CompleteMembers(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return c.live(cmd, args, func(ctx context.Context, svc api.Service) ([]string, error) {
		list, err := svc.ListMembers(ctx)
		var words []string
		for _, m := range list.Members {
			words = append(words, cobra.CompletionWithDesc(m.ID, m.State))
		}
		return words, err
	})
}

// CompleteAccounts gives accounts by their names.
func (c *CLI) CompleteAccounts(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return c.live(cmd, args, func(ctx context.Context, svc api.Service) ([]string, error) {
		list, err := svc.ListAccounts(ctx, api.Page{Limit: api.MaxPage})
		var words []string
		for _, a := range list.Accounts {
			words = append(words, a.Name)
		}
		return words, err
	})
}

// CompleteSegments gives segments by their names.
func (c *CLI) CompleteSegments(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return c.live(cmd, args, func(ctx context.Context, svc api.Service) ([]string, error) {
		list, err := svc.ListSegments(ctx, api.ListSegments{Page: api.Page{Limit: api.MaxPage}})
		var words []string
		for _, s := range list.Segments {
			words = append(words, s.Name)
		}
		return words, err
	})
}

// AccountFlag adds --account, with live completion.
func (c *CLI) AccountFlag(cmd *cobra.Command, account *string, usage string) {
	cmd.Flags().StringVar(account, "account", "", usage)
	_ = cmd.RegisterFlagCompletionFunc("account", func(cmd *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) { // the flag is there
		return c.CompleteAccounts(cmd, nil, word)
	})
}
