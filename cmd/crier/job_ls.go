package main

import (
	"context"
	"fmt"
	"strings"

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
				return stuckGrid(p, all)
			}
			return jobGrid(p, all, waitsForSomebody(req.State))
		})
	})
	c.AccountFlag(cmd, &req.Account, "name or id of the account; without it, all")
	cmd.Flags().StringVar(&req.State, "state", "", "only jobs in this state, such as sending or sent; paused: also those that are sent and hand over nothing of what is parked")
	cmd.Flags().BoolVar(&req.Stuck, "stuck", false, "only jobs that are in their state for longer than that is meant to last, the longest first")
	cli.LimitFlag(cmd, &limit)
	return cmd
}

// stuckGrid says of each job why it should have gone on, who is to move it on, and what it
// waits on.
func stuckGrid(p *out.Printer, all []api.Job) out.Grid {
	g := out.Grid{Of: "jobs that overstay their state", Columns: []out.Column{{Name: "job"}, {Name: "state", State: true}, {Name: "for", Right: true}, {Name: "late", Right: true}, {Name: "owner", Wide: true},
		{Name: "tries", Right: true, Wide: true}, {Name: "account", Flex: 1, Wide: true}, {Name: "waiting on", Below: true}}}
	for _, j := range all {
		g.Rows = append(g.Rows, []string{j.Job.String(), j.State.String(), out.Span(p.Now.Sub(j.UpdatedAt)), out.Span(p.Now.Sub(j.Due)), j.Owner,
			fmt.Sprint(j.Tries), j.Account, j.WaitingOn})
	}
	return g
}

// stateWords is a job's state with what a list would not tell otherwise: that it is paused,
// which is no state of its own once it is sent, and that nobody submitted it.
func stateWords(j api.Job) string {
	var more []string
	if j.Paused && j.State != job.Paused && !j.State.Terminal() {
		more = append(more, "(paused)")
	}
	if !j.Withdraws.IsZero() {
		more = append(more, "(withdrawal)")
	}
	return strings.Join(append([]string{j.State.String()}, more...), " ")
}

// waitsForSomebody reports whether jobs in a state wait for a person, who asks what for.
func waitsForSomebody(state string) bool {
	var s job.State
	return state != "" && s.UnmarshalText([]byte(state)) == nil && s.Rule().Needs == job.NeedsOperator
}

// jobGrid lists jobs; with why, what each waits on is told in any width.
func jobGrid(p *out.Printer, all []api.Job, why bool) out.Grid {
	g := out.Grid{Of: "jobs", Columns: []out.Column{{Name: "job"}, {Name: "state", State: true, Flex: 2, Wrap: true}, {Name: "account", Flex: 1}, {Name: "total", Right: true}, {Name: "handled", Right: true, Wide: true},
		{Name: "delivered", Right: true}, {Name: "parked", Right: true}, {Name: "class", Wide: true}, {Name: "pri", Right: true, Wide: true}, {Name: "age", Right: true, Wide: true}, {Name: "waiting on", Flex: 1, Wide: true}}}
	if why {
		g.Columns[len(g.Columns)-1] = out.Column{Name: "waiting on", Below: true}
	}
	for _, j := range all {
		g.Rows = append(g.Rows, []string{j.Job.String(), stateWords(j), j.Account, out.Count(j.Recipients), out.Percent(j.Done(), j.Recipients),
			out.Count(j.Counts.Delivered), out.Count(j.Counts.Parked), j.Class.String(), fmt.Sprint(j.Priority), out.Span(p.Now.Sub(j.SubmittedAt)), j.WaitingOn})
	}
	return g
}
