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

func (c *commands) jobExplain() *cobra.Command {
	return c.onJob("explain JOB RECIPIENT", "One recipient's outcome in a job, with its evidence", cobra.ExactArgs(2),
		func(ctx context.Context, svc api.Service, id job.ID, args []string) error {
			r, err := job.ParseRecipient(args[0])
			if err != nil {
				return cli.Usage("%w", err)
			}
			x, err := svc.ExplainJob(ctx, id, r)
			if err != nil {
				return err
			}
			return c.Print(x, func(p *out.Printer) out.Grid { return explainFields(p, x) })
		})
}

// meaning says what an outcome is, by its reason if there is one.
func meaning(x api.Explanation) string {
	if x.Reason != job.NoReason {
		return x.Reason.Means()
	}
	return x.Outcome.Means()
}

func explainFields(p *out.Printer, x api.Explanation) out.Grid {
	outcome := x.Outcome.String()
	if x.Reason != job.NoReason {
		outcome += ": " + x.Reason.String()
	}
	outcome = strings.ReplaceAll(outcome, "_", " ")
	g := out.Grid{Rows: [][]string{{"job", x.Job.String()}, {"recipient", x.Recipient.String()}, {"outcome", outcome}}}
	if means := meaning(x); means != "" {
		g.Rows = append(g.Rows, []string{"which means", means})
	}
	if x.Because != "" {
		g.Rows = append(g.Rows, []string{"because", x.Because})
	}
	for _, e := range x.Evidence {
		where := fmt.Sprintf("ledger %d", e.Seq)
		if !e.Report.IsZero() {
			where = "report " + e.Report.String()[:12]
		}
		text := e.Says
		if e.Record != "" {
			text += ", record " + e.Record
		}
		if !e.At.IsZero() {
			text += ", " + p.Ago(e.At)
		}
		g.Rows = append(g.Rows, []string{where, text})
	}
	return g
}

func (c *commands) jobReconcile() *cobra.Command {
	return c.onJob("reconcile JOB", "Prove that nothing of a job is lost or counted twice, and that its filters dropped whom they should", cobra.ExactArgs(1),
		func(ctx context.Context, svc api.Service, id job.ID, _ []string) error {
			r, err := svc.ReconcileJob(ctx, id)
			if err != nil {
				return err
			}
			err = c.Print(r, func(*out.Printer) out.Grid {
				rows := append([][]string{{"job", r.Job.String()}, {"state", r.State.String()}}, countRows(r.Counts, false)...)
				rows = append(rows, withdrawalRows(r.Withdrawal)...)
				rows = append(rows, []string{"conserved", out.YesNo(r.Conserved)})
				for _, v := range r.Violations {
					rows = append(rows, []string{"violation", v})
				}
				return out.Grid{Rows: rows, States: []string{"state", "conserved"}}
			})
			if err == nil && !r.Conserved {
				err = cli.Exiting(cli.ExitError, fmt.Errorf("%s is not conserved", id))
			}
			return err
		})
}
