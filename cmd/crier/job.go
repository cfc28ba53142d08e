package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"crier/api"
	"crier/cmd/crier/inspect"
	"crier/cmd/crier/out"
	"crier/job"
)

func (c *commands) jobCommand() *cobra.Command {
	return c.Group("job", "Jobs: sends", c.jobSubmit(), c.jobList(), c.jobInfo(), c.jobWatch(), c.jobWait(),
		c.jobControl("pause", "Stop new hand-offs", api.Service.PauseJob),
		c.jobControl("resume", "Let a paused job go on", api.Service.ResumeJob),
		c.jobControl("cancel", "Stop a job for good", api.Service.CancelJob), c.jobRecall(),
		c.jobRate(), c.jobExplain(), c.jobReconcile(), inspect.JobExport(c.CLI), c.jobResolve())
}

// onJob makes a command about one job: its first argument is the id.
func (c *commands) onJob(use, short string, args cobra.PositionalArgs, do func(ctx context.Context, svc api.Service, id job.ID, args []string) error) *cobra.Command {
	cmd := c.Command(use, short, args, func(ctx context.Context, args []string) error {
		id, err := api.ParseJobID(args[0])
		if err != nil {
			return err
		}
		svc, err := c.Service()
		if err != nil {
			return err
		}
		return do(ctx, svc, id, args[1:])
	})
	cmd.ValidArgsFunction = c.CompleteJobs
	return cmd
}

func (c *commands) jobInfo() *cobra.Command {
	return c.onJob("info JOB", "Show a job", cobra.ExactArgs(1), func(ctx context.Context, svc api.Service, id job.ID, _ []string) error {
		j, err := svc.GetJob(ctx, id)
		if err != nil {
			return err
		}
		return c.Print(j, jobFields(j))
	})
}

// jobFields is a job as a screen of names and values.
func jobFields(j api.Job) func(*out.Printer) out.Grid {
	return func(p *out.Printer) out.Grid {
		state := j.State.String()
		if j.Paused {
			state += ", paused by " + pausedBy(j)
		}
		rows := [][]string{{"job", j.Job.String()}, {"state", state}, {"since", p.Ago(j.UpdatedAt)}}
		if j.Overstayed {
			rows = append(rows, []string{"overstayed", fmt.Sprintf("since %s; the %s should have moved it on", p.Ago(j.Due), j.Owner)})
		}
		if !j.Withdraws.IsZero() {
			rows = append(rows, []string{"withdraws", j.Withdraws.String()})
		}
		for _, r := range [][]string{{"reason", j.Reason}, {"waiting on", j.WaitingOn}, {"collapse key", j.CollapseKey}, {"sent once", onceWords(j.SendOnce)}, {"idempotency key", j.IdempotencyKey}} {
			if r[1] != "" {
				rows = append(rows, r)
			}
		}
		if j.SubmittedBy != "" {
			rows = append(rows, []string{"submitted by", j.SubmittedBy})
		}
		rows = append(rows, []string{"account", fmt.Sprintf("%s (%d)", j.Account, j.AccountID)}, []string{"tenant", j.Tenant},
			[]string{"class", fmt.Sprintf("%s, priority %d", j.Class, j.Priority)}, []string{"rate", rateWords(j.Rate)},
			[]string{"on unknown", onUnknownWords(j)},
			[]string{"package", j.Package.String()})
		rows = append(append(rows, targetRows(j)...), webhookRows(p, j.Webhook)...)
		rows = append(rows, []string{"message", out.Bytes(uint64(j.BodyBytes))},
			[]string{"submitted", p.Ago(j.SubmittedAt)})
		if !j.DisplayAt.IsZero() {
			rows = append(rows, []string{"display at", fmt.Sprintf("%s (%s)", j.DisplayAt.UTC().Format(time.RFC3339), p.Ago(j.DisplayAt))})
		}
		rows = append(rows, []string{"expires", p.Ago(j.ExpiresAt)},
			[]string{"handled", fmt.Sprintf("%s of %s (%s)", out.Exact(j.Done()), out.Exact(j.Recipients), out.Percent(j.Done(), j.Recipients))})
		return out.Grid{States: []string{"state"}, Rows: append(append(rows, countRows(j.Counts, true)...), withdrawalRows(j.Withdrawal)...)}
	}
}

// pausedBy says who paused a job, and why.
func pausedBy(j api.Job) string {
	who := "an operator"
	if j.PausedBy == job.RestoreKey {
		who = "the restore of a backup"
	}
	if j.PausedWhy != "" {
		who += ": " + j.PausedWhy
	}
	return who
}

// onceWords says for how long whoever gets the message does not get it again.
func onceWords(o *api.Once) string {
	if o == nil {
		return ""
	}
	return fmt.Sprintf("in %s, by a key of the submitter's or the message itself: %s", out.Span(time.Duration(o.Window)), o.Key)
}

// targetRows lists a job's segments and control group.
func targetRows(j api.Job) (rows [][]string) {
	for _, x := range []struct {
		what string
		refs []api.SegmentRef
	}{{"include", j.Include}, {"exclude", j.Exclude}} {
		for _, r := range x.refs {
			rows = append(rows, []string{x.what, fmt.Sprintf("segment %s at revision %d (%s)", r.Name, r.Revision, out.Many(r.Recipients, "recipient"))})
		}
	}
	if j.ControlGroup > 0 {
		rows = append(rows, []string{"control group", strconv.FormatFloat(j.ControlGroup, 'f', -1, 64) + "%"})
	}
	return rows
}

// webhookRows says who is told of a job's states, and how far.
func webhookRows(p *out.Printer, w *job.WebhookState) (rows [][]string) {
	if w == nil {
		return nil
	}
	rows = append(rows, []string{"webhook", w.URL}, []string{"is told of", strings.Join(w.Wants(), ", ")})
	for _, d := range w.Deliveries {
		text := fmt.Sprintf("%s, %s", d.Outcome, out.Many(uint64(d.Attempts), "attempt"))
		switch {
		case d.Outcome == job.DeliveryOpen && d.Attempts > 0:
			text += ", the next " + p.Ago(d.Due)
		case !d.Ended.IsZero():
			text += ", " + p.Ago(d.Ended)
		}
		if d.Error != "" {
			text += ": " + d.Error
		}
		rows = append(rows, []string{fmt.Sprintf("told %s (%d)", d.State, d.Version), text})
	}
	return rows
}

// onUnknownWords says what becomes of who is in doubt.
func onUnknownWords(j api.Job) string {
	if j.Decision == "" {
		return j.OnUnknown.String()
	}
	return fmt.Sprintf("%s, as an operator decided; %s as submitted", j.Decision, j.OnUnknown)
}

func rateWords(rate uint32) string {
	if rate == 0 {
		return "unlimited"
	}
	return out.Many(uint64(rate), "recipient") + " a second"
}

// withdrawalRows says what became of what a recalled job had delivered.
func withdrawalRows(w api.Withdrawal) [][]string {
	if w.Withdrawal.IsZero() {
		return nil
	}
	rows := [][]string{{"withdrawn", out.Exact(w.Withdrawn)}}
	if w.Withdrawing > 0 {
		rows = append(rows, []string{"being withdrawn", out.Exact(w.Withdrawing)})
	}
	if w.Refused > 0 {
		rows = append(rows, []string{"withdrawal refused", out.Exact(w.Refused) + ": Their clients cannot take a message back, and keep it."})
	}
	return append(rows, []string{"withdrawal", w.Withdrawal.String()})
}

// countRows lists the outcomes that recipients have, the package first; it may explain why
// somebody is not served, and is not about to be.
func countRows(n job.Counts, explain bool) [][]string {
	number := func(n uint64, means string) string {
		if !explain {
			return out.Exact(n)
		}
		return out.Exact(n) + ": " + means
	}
	rows := [][]string{{"recipients", out.Exact(n.Package)}}
	for _, x := range []struct {
		o job.Outcome
		n uint64
	}{{job.Delivered, n.Delivered}, {job.HandedOff, n.HandedOff}, {job.Parked, n.Parked}, {job.Pending, n.Pending}, {job.InDoubt, n.InDoubt},
		{job.Expired, n.Expired}, {job.Recalled, n.Recalled}, {job.Cancelled, n.Cancelled}, {job.Failed, n.Failed - n.FailedForAny()}} {
		if x.n > 0 {
			text := out.Exact(x.n)
			if x.o == job.InDoubt || x.o == job.Failed {
				text = number(x.n, x.o.Means())
			}
			rows = append(rows, []string{"  " + strings.ReplaceAll(x.o.String(), "_", " "), text})
		}
	}
	for r := job.NoReason; r <= job.ReasonUnknown; r++ {
		if n.FailedFor[r] > 0 {
			rows = append(rows, []string{"  failed: " + strings.ReplaceAll(r.String(), "_", " "), number(n.FailedFor[r], r.Means())})
		}
		if n.Dropped[r] > 0 {
			rows = append(rows, []string{"  dropped: " + strings.ReplaceAll(r.String(), "_", " "), number(n.Dropped[r], r.Means())})
		}
	}
	return rows
}
