package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"crier/api"
	"crier/cmd/crier/cli"
	"crier/cmd/crier/out"
	"crier/job"
)

// controlAbout says what pause, resume and cancel do to what is under way.
var controlAbout = map[string]string{
	"pause":  `Nothing new is handed to gateways, also of what is parked. What a gateway has already is shown, and counts as delivered when it is acknowledged. The time to live goes on: who waits beyond it does not get the message. A job that is sent stays so, and is marked as paused. "crier job resume" ends the pause.`,
	"resume": `It goes on where it stopped, after more urgent jobs; what is parked is handed over again to those who are or come online. It also ends a quarantine. Of a job that the restore of a backup paused, nobody is missed then, but who was sent it since the backup may get it twice.`,
	"cancel": `Nothing new is handed to gateways, and who waits for it gets nothing: they count as cancelled. What a gateway has already may still be shown; who acknowledges it counts as delivered, the others as cancelled or, if nobody can know, as failed, within some 30 s. It is final from its answer on. What was delivered stays on the displays: "crier job recall" takes it back, too.`,
}

// jobControl makes pause, resume or cancel.
func (c *commands) jobControl(verb, short string, do func(api.Service, context.Context, job.ID) (api.Job, error)) *cobra.Command {
	cmd := c.Command(verb+" JOB...", short, cobra.MinimumNArgs(1), func(ctx context.Context, args []string) error {
		var done []api.Job
		err := c.Each(ctx, args, func(svc api.Service, arg string) error {
			id, err := api.ParseJobID(arg)
			if err != nil {
				return err
			}
			j, err := do(svc, ctx, id)
			if err != nil {
				return err
			}
			if look := seenDone(verb, j.State); look != "" {
				c.Say("the %s is recorded; see %s %s", verb, look, id)
			}
			done = append(done, j)
			return nil
		})
		switch {
		case len(done) == 0:
			return err
		case len(args) == 1:
			return c.Print(done[0], jobFields(done[0]))
		}
		return errors.Join(c.Print(done, func(p *out.Printer) out.Grid { return out.JobGrid(p, done, false) }), err)
	})
	cmd.Long, cmd.ValidArgsFunction = short+".\n\n"+controlAbout[verb], c.CompleteJobs
	return cmd
}

// seenDone says where to see that a job does what it was told; "" if it does in a state.
func seenDone(verb string, s job.State) string {
	switch {
	case verb == "cancel" && !s.Terminal():
		return "its end with: crier job watch"
	case verb == "pause" && s == job.Sending, verb == "resume" && (s == job.Paused || s == job.Quarantined):
		return "it done with: crier job info"
	}
	return ""
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
