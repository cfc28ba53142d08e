package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"crier/api"
	"crier/cmd/crier/cli"
	"crier/cmd/crier/out"
	"crier/job"
)

// jobControl makes pause, resume or cancel.
func (c *commands) jobControl(verb, short string, do func(api.Service, context.Context, job.ID) (api.Job, error)) *cobra.Command {
	return c.onJob(verb+" JOB", short, cobra.ExactArgs(1), func(ctx context.Context, svc api.Service, id job.ID, _ []string) error {
		j, err := do(svc, ctx, id)
		if err != nil {
			return err
		}
		if verb == "cancel" && !j.State.Terminal() {
			c.Say("the cancel is recorded; see its end with: crier job watch %s", id)
		}
		return c.Print(j, jobFields(j))
	})
}

func (c *commands) jobRecall() *cobra.Command {
	return c.onJob("recall JOB --reason WHY", "Stop a job for good, and take back what it delivered", cobra.ExactArgs(1),
		func(ctx context.Context, svc api.Service, id job.ID, _ []string) error {
			if c.Reason == "" {
				return cli.Usage("say why, for the audit log and whoever looks at the job: --reason WHY")
			}
			j, err := svc.RecallJob(ctx, id, api.Recall{Reason: c.Reason})
			if err != nil {
				return err
			}
			if j.State != job.JobRecalled {
				c.Say("the recall is recorded; see its end with: crier job watch %s", id)
			}
			return c.Print(j, jobFields(j))
		})
}

func (c *commands) jobRate() *cobra.Command {
	return c.onJob("rate JOB N", "Change a job's rate, in recipients a second; 0 is unlimited", cobra.ExactArgs(2),
		func(ctx context.Context, svc api.Service, id job.ID, args []string) error {
			rate, err := strconv.ParseUint(args[0], 10, 32)
			if err != nil {
				return cli.Usage("rate %q: want a number of recipients a second; 0 is unlimited", args[0])
			}
			j, err := svc.SetRate(ctx, id, uint32(rate))
			if err != nil {
				return err
			}
			return c.Print(j, jobFields(j))
		})
}

func (c *commands) jobResolve() *cobra.Command {
	var resend, drop bool
	cmd := c.onJob("resolve JOB (--resend | --drop)", "Decide on the recipients who are in doubt, and who come in doubt later", cobra.ExactArgs(1),
		func(ctx context.Context, svc api.Service, id job.ID, _ []string) error {
			if resend == drop {
				return cli.Usage("want --resend or --drop; usage: crier job resolve JOB (--resend | --drop)")
			}
			decision := job.DecideResend
			if drop {
				decision = job.DecideDrop
			}
			res, err := svc.ResolveJob(ctx, id, decision)
			if err != nil {
				return err
			}
			err = c.Print(res, func(*out.Printer) out.Grid {
				return out.Grid{Rows: [][]string{{"job", res.Job.String()}, {"decision", res.Decision}, {"in doubt", out.Exact(res.Resolved)}}}
			})
			if err == nil && res.Resolved == 0 {
				err = cli.Exiting(cli.ExitNothing, fmt.Errorf("nobody is in doubt in %s; the decision stands for who comes in doubt later", id))
			}
			return err
		})
	cmd.Flags().BoolVar(&resend, "resend", false, "send again to those who are or come online; some may see the message twice")
	cmd.Flags().BoolVar(&drop, "drop", false, "give them up: they count as failed")
	return cmd
}
