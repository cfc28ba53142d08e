package main

import (
	"context"

	"github.com/spf13/cobra"

	"crier/api"
	"crier/cmd/crier/cli"
	"crier/cmd/crier/out"
	"crier/job"
)

func (c *commands) jobList() *cobra.Command {
	var req api.ListJobs
	var limit int
	cmd := c.Command("ls [--account A] [--state S] [--stuck] [--limit N]", "List jobs, the newest first", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		if err := req.Validate(); err != nil {
			return err
		}
		svc, err := c.Service()
		if err != nil {
			return err
		}
		all, err := cli.Listed(c.CLI, limit, func(page api.Page) ([]api.Job, string, error) {
			req.Page = page
			list, err := svc.ListJobs(ctx, req)
			return list.Jobs, list.Next, err
		})
		if err != nil {
			return err
		}
		return c.Print(all, func(p *out.Printer) out.Grid {
			if req.Stuck {
				return out.StuckGrid(p, all)
			}
			return out.JobGrid(p, all, waitsForSomebody(req.State))
		})
	})
	c.AccountFlag(cmd, &req.Account, "name or id of the account; without it, all")
	cmd.Flags().StringVar(&req.State, "state", "", "only jobs in this state, such as sending or sent; paused: also those that are sent and hand over nothing of what is parked")
	cmd.Flags().BoolVar(&req.Stuck, "stuck", false, "only jobs that are in their state for longer than that is meant to last, the longest first")
	cli.LimitFlag(cmd, &limit)
	return cmd
}

// waitsForSomebody reports whether jobs in a state wait for a person, who asks what for.
func waitsForSomebody(state string) bool {
	var s job.State
	return state != "" && s.UnmarshalText([]byte(state)) == nil && s.Rule().Needs == job.NeedsOperator
}
