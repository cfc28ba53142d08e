package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"crier/api"
	"crier/cmd/crier/out"
)

func (c *cli) ledgerCommand() *cobra.Command {
	return c.group("ledger", "The ledger: the only truth about who got what", c.ledgerTail(), c.ledgerVerify())
}

func (c *cli) ledgerTail() *cobra.Command {
	var req api.TailLedger
	cmd := c.command("tail [--from N] [--filter SUBJECT] [--follow]", "Show records of the ledger in their order", cobra.NoArgs,
		func(ctx context.Context, _ []string) error {
			if err := req.Validate(); err != nil {
				return err
			}
			svc, err := c.service()
			if err != nil {
				return err
			}
			if c.output == string(out.Table) {
				return svc.TailLedger(ctx, req, func(e api.LedgerEntry) error { return c.line(out.EntryLine(e)) })
			}
			if c.output == string(out.JSON) && req.Follow {
				return usage("-o json is one value and cannot follow; use -o jsonl")
			}
			if c.output == string(out.Lines) {
				return svc.TailLedger(ctx, req, func(e api.LedgerEntry) error { return c.print(e, nil) })
			}
			all := []api.LedgerEntry{}
			err = svc.TailLedger(ctx, req, func(e api.LedgerEntry) error {
				if len(all) == maxEntries {
					return usage("more than %d records are too many for -o %s; use -o jsonl", maxEntries, c.output)
				}
				all = append(all, e)
				return nil
			})
			if err != nil {
				return err
			}
			return c.print(all, nil)
		})
	f := cmd.Flags()
	f.Uint64Var(&req.From, "from", 0, "first sequence to show (default: the first that is stored)")
	f.StringVar(&req.Filter, "filter", "", "subject, with * and >, such as led.job.>")
	f.BoolVarP(&req.Follow, "follow", "f", false, "wait for more at the end")
	return cmd
}

// maxEntries bounds what tail keeps in memory for formats that are one value.
const maxEntries = 100_000

// line writes a line of a stream to standard output.
func (c *cli) line(text string) error {
	_, err := fmt.Fprintln(c.out, text)
	return err
}

func (c *cli) ledgerVerify() *cobra.Command {
	return c.command("verify", "Read the whole ledger and check every journal's chain", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		svc, err := c.service()
		if err != nil {
			return err
		}
		r, err := svc.VerifyLedger(ctx)
		if err != nil {
			return err
		}
		err = c.print(r, func(*out.Printer) out.Grid {
			rows := [][]string{{"valid", out.YesNo(r.Valid)}}
			for _, s := range r.Streams {
				rows = append(rows, []string{strings.ToLower(s.Name), out.Extent(s)})
			}
			for _, p := range r.Problems {
				rows = append(rows, []string{"problem", p})
			}
			return out.Grid{Rows: rows}
		})
		if err == nil && !r.Valid {
			err = exiting(exitError, errors.New("the ledger is not valid"))
		}
		return err
	})
}
