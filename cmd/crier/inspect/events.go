package inspect

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"crier/api"
	"crier/cmd/crier/cli"
	"crier/cmd/crier/out"
	"crier/job"
)

// fromNow asks for what is published from now on: nothing is in the moment before.
const fromNow = api.Duration(time.Millisecond)

// Events is the group of commands about events.
func Events(c *cli.CLI) *cobra.Command {
	return c.Group("events", "Events: notices of what happens to jobs, slices and sets of recipients", eventsTail(c))
}

func eventsTail(c *cli.CLI) *cobra.Command {
	req := api.TailEvents{Follow: true}
	var id, since string
	var all bool
	cmd := c.Command("tail [--job J] [--kind K] [--all | --since 1h|CURSOR] [--follow=false]", "Show events as they are published", cobra.NoArgs,
		func(ctx context.Context, _ []string) (err error) {
			if c.Output != string(out.Table) && c.Output != string(out.Lines) {
				return cli.Usage("-o %s is one value, and events have no end; use -o table or -o jsonl", c.Output)
			}
			if err := req.Since(since); err != nil {
				return err
			}
			switch {
			case all && since != "":
				return cli.Usage("--all and --since do not go together: --all begins with the first event that is stored")
			case !all && since == "" && req.Follow:
				req.Within = fromNow
			}
			if err := req.Validate(); err != nil {
				return err
			}
			if id != "" {
				if req.Job, err = api.ParseJobID(id); err != nil {
					return err
				}
			}
			svc, err := c.Service()
			if err != nil {
				return err
			}
			if c.Output == string(out.Lines) {
				return svc.TailEvents(ctx, req, func(e api.Event) error { return c.Print(e, nil) })
			}
			return svc.TailEvents(ctx, req, func(e api.Event) error { return c.Line(out.EventLine(e, c.Width())) })
		})
	cmd.Long = cmd.Short + `.

It begins now, and goes on until it is interrupted; with --follow=false it begins with the
first event that is stored and ends with the last one. --since and --all begin elsewhere.

Each line has the event's cursor; --since CURSOR goes on behind it. An event may come
twice: of those about one job or set, one whose version was seen is a repeat. A control
tells that somebody paused or resumed a job or changed its rate, also of one that is sent,
whose state does not change by that. Of a set
(followers, a suppression list, a segment) it tells the revision and how many were added
or removed, not whom.`
	f := cmd.Flags()
	f.StringVar(&id, "job", "", "events of this job and its slices only")
	f.StringVar(&req.Kind, "kind", "", "events of this kind only: "+strings.Join(job.EventKinds(), ", "))
	_ = cmd.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions(job.EventKinds(), cobra.ShellCompDirectiveNoFileComp)) // the flag is there
	f.StringVar(&since, "since", "", "what was published within a length of time such as 1h, or behind a cursor (default: from now on)")
	f.BoolVar(&all, "all", false, "from the first that is stored")
	f.BoolVarP(&req.Follow, "follow", "f", true, "wait for more at the end")
	_ = cmd.RegisterFlagCompletionFunc("job", func(cmd *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) { // the flag is there
		return c.CompleteJobs(cmd, nil, word)
	})
	return cmd
}
