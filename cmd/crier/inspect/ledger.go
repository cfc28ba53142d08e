// Package inspect is the commands that look at what a server holds: the ledger, the events, and where recipients stand. Each
// group is a function that is given what the commands share; a new one is a file here
// and a word in the list of the root.
package inspect

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"crier/api"
	"crier/cmd/crier/cli"
	"crier/cmd/crier/out"
)

// Ledger is the group of commands about the ledger.
func Ledger(c *cli.CLI) *cobra.Command {
	return c.Group("ledger", "The ledger: the only truth about who got what", ledgerTail(c), ledgerVerify(c))
}

func ledgerTail(c *cli.CLI) *cobra.Command {
	var req api.TailLedger
	cmd := c.Command("tail [--from N] [--filter SUBJECT] [--follow]", "Show records of the ledger in their order", cobra.NoArgs,
		func(ctx context.Context, _ []string) error {
			if err := req.Validate(); err != nil {
				return err
			}
			svc, err := c.Service()
			if err != nil {
				return err
			}
			if c.Output == string(out.Table) {
				return svc.TailLedger(ctx, req, func(e api.LedgerEntry) error { return c.Line(out.EntryLine(e)) })
			}
			if c.Output == string(out.JSON) && req.Follow {
				return cli.Usage("-o json is one value and cannot follow; use -o jsonl")
			}
			if c.Output == string(out.Lines) {
				return svc.TailLedger(ctx, req, func(e api.LedgerEntry) error { return c.Print(e, nil) })
			}
			all := []api.LedgerEntry{}
			err = svc.TailLedger(ctx, req, func(e api.LedgerEntry) error {
				if len(all) == maxEntries {
					return cli.Usage("more than %d records are too many for -o %s; use -o jsonl", maxEntries, c.Output)
				}
				all = append(all, e)
				return nil
			})
			if err != nil {
				return err
			}
			return c.Print(all, nil)
		})
	f := cmd.Flags()
	f.Uint64Var(&req.From, "from", 0, "first sequence to show (default: the first that is stored)")
	f.StringVar(&req.Filter, "filter", "", "subject, with * and >, such as led.job.>")
	f.BoolVarP(&req.Follow, "follow", "f", false, "wait for more at the end")
	return cmd
}

// maxEntries bounds what tail keeps in memory for formats that are one value.
const maxEntries = 100_000

func ledgerVerify(c *cli.CLI) *cobra.Command {
	return c.Command("verify", "Read the whole ledger and check every journal's chain", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		svc, err := c.Service()
		if err != nil {
			return err
		}
		r, err := svc.VerifyLedger(ctx)
		if err != nil {
			return err
		}
		err = c.Print(r, func(*out.Printer) out.Grid {
			rows := [][]string{{"valid", out.YesNo(r.Valid)}}
			for _, s := range r.Streams {
				rows = append(rows, []string{strings.ToLower(s.Name), out.Extent(s)})
			}
			for _, p := range r.Problems {
				rows = append(rows, []string{"problem", p})
			}
			return out.Grid{Rows: rows, States: []string{"valid"}}
		})
		if err == nil && !r.Valid {
			err = cli.Exiting(cli.ExitError, errors.New("the ledger is not valid"))
		}
		return err
	})
}
