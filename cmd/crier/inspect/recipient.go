package inspect

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"crier/api"
	"crier/cmd/crier/cli"
	"crier/cmd/crier/out"
	"crier/job"
)

// Recipient is the group of commands about single recipients.
func Recipient(c *cli.CLI) *cobra.Command {
	return c.Group("recipient", "Recipients, one at a time", recipientInfo(c), recipientErase(c))
}

func recipientInfo(c *cli.CLI) *cobra.Command {
	cmd := c.Command("info RECIPIENT", "Where a recipient is connected, what waits for it, what it was charged of its caps, and its last jobs", cobra.ExactArgs(1),
		func(ctx context.Context, args []string) error {
			r, err := job.ParseRecipient(args[0])
			if err != nil {
				return cli.Usage("%w", err)
			}
			svc, err := c.Service()
			if err != nil {
				return err
			}
			x, err := svc.GetRecipient(ctx, r)
			if err != nil {
				return err
			}
			return c.Print(x, func(p *out.Printer) out.Grid { return recipientFields(p, x) })
		})
	cmd.Long = cmd.Short + `.

The last 10 jobs that have it in their package are looked for among the newest 100; what became of each is read in the
ledger, and crier job explain JOB RECIPIENT tells why.
Keys of other tenants than default see what is their own, and not where it is connected.`
	return cmd
}

func recipientErase(c *cli.CLI) *cobra.Command {
	cmd := c.Command("erase RECIPIENT --reason WHY", "Forget a recipient: its tokens, its connections, what waits for it, what it was charged, its place in sets", cobra.ExactArgs(1),
		func(ctx context.Context, args []string) error {
			r, err := job.ParseRecipient(args[0])
			if err != nil {
				return cli.Usage("%w", err)
			}
			if c.Reason == "" {
				return cli.Usage("say why, for the audit log: --reason WHY")
			}
			svc, err := c.Service()
			if err != nil {
				return err
			}
			x, err := svc.EraseRecipient(ctx, r, api.Erase{Reason: c.Reason})
			if err != nil {
				return err
			}
			return c.Print(x, func(*out.Printer) out.Grid { return erasureFields(x) })
		})
	cmd.Long = cmd.Short + `.

Nothing that was submitted before reaches it, also with a new token; what is submitted later does if it is aimed at it,
also under a key of what is sent once that it got before.
It may be repeated, and is to be after an error. The server says what is kept all the same.`
	return cmd
}

func erasureFields(x api.Erasure) out.Grid {
	g := out.Grid{Rows: [][]string{{"recipient", x.Recipient.String()}, {"record", fmt.Sprint(x.Record)}, {"connections closed", fmt.Sprint(x.Connections)},
		{"keys revoked", fmt.Sprint(x.Keys)}, {"accounts followed", out.Exact(x.Followed)}, {"segments", out.Exact(x.Segments)},
		{"messages dropped", out.Exact(x.Parked - min(x.Left, x.Parked))}, {"messages left", out.Exact(x.Left)}}}
	for _, k := range x.Kept {
		g.Rows = append(g.Rows, []string{"kept", k.What})
	}
	return g
}

func recipientFields(p *out.Printer, x api.Recipient) out.Grid {
	g := out.Grid{Rows: [][]string{{"recipient", x.Recipient.String()}}}
	add := func(name, format string, a ...any) {
		g.Rows = append(g.Rows, []string{name, fmt.Sprintf(format, a...)})
	}
	if len(x.Online) == 0 {
		add("online", "no")
	}
	for _, o := range x.Online {
		add("online", "%s at %s, %s", out.Many(uint64(o.Connections), "connection"), o.Gateway, p.Ago(o.Since))
	}
	for _, r := range [][]string{{"primary", x.Primary}, {"home", x.Home}} {
		if r[1] != "" {
			g.Rows = append(g.Rows, r)
		}
	}
	for _, s := range x.Silent {
		add("silent", "%s: %s", s.Name, s.Why)
	}
	charged := "charged " + x.Day
	if x.Zone != "" {
		charged += " " + x.Zone
	}
	for _, u := range x.Frequency {
		account, messages := "all accounts", out.Many(uint64(u.Messages), "message")
		if u.AccountID != nil {
			account = u.Account
		}
		if u.Cap > 0 {
			messages = fmt.Sprintf("%d of %s", u.Messages, out.Many(uint64(u.Cap), "message"))
		}
		add(charged, "%s, of %s", messages, account)
	}
	add("parked", "%s", out.Exact(x.ParkedTotal))
	for _, w := range x.Parked {
		since := "long ago"
		if w.Since != (time.Time{}) {
			since = p.Ago(w.Since)
		}
		maybe := ""
		if w.Maybe {
			maybe = ", perhaps seen"
		}
		what := ""
		if !w.Withdraws.IsZero() {
			what = "withdrawal of " + w.Withdraws.String() + ", "
		}
		add("  "+w.Job.String(), "%sof %s, %s, expires %s%s", what, w.Account, since, p.Ago(w.Expires), maybe)
	}
	if more := x.ParkedTotal - uint64(len(x.Parked)); more > 0 {
		add("  more", "%s", out.Exact(more))
	}
	if len(x.Recent) == 0 {
		add("recent jobs", "none of the newest %d", api.MaxRecentLooked)
	} else {
		add("recent jobs", "%d", len(x.Recent))
	}
	for _, r := range x.Recent {
		add("  "+r.Job.String(), "%s; the job of %s, submitted %s, is %s", became(r), r.Account, p.Ago(r.Submitted), r.State)
	}
	return g
}

// became is what became of a job for a recipient, in words.
func became(r api.Recent) string {
	switch {
	case r.Outcome == nil:
		return "unknown: " + r.Unknown
	case r.Reason != job.NoReason:
		return fmt.Sprintf("%s (%s)", *r.Outcome, r.Reason)
	}
	return r.Outcome.String()
}
