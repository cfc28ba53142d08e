package check

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"crier/api"
	"crier/cmd/crier/cli"
)

// within bounds the whole command: a monitoring system does not wait for long.
const askWithin = 10 * time.Second

// percent is a flag such as 70%.
type percent float64

// String implements pflag.Value.
func (p *percent) String() string { return strconv.FormatFloat(float64(*p), 'g', -1, 64) + "%" }

// Set implements pflag.Value.
func (p *percent) Set(s string) error {
	n, err := strconv.ParseFloat(strings.TrimSuffix(s, "%"), 64)
	if err != nil || !(n >= 0 && n <= 100) {
		return fmt.Errorf("want a percentage such as 70%%")
	}
	*p = percent(n)
	return nil
}

// Type implements pflag.Value.
func (p *percent) Type() string { return "percent" }

const about = `Judges the cluster for a monitoring system, by what the server tells.

The exit code is 0 if all is well, 1 for a warning, 2 if something is critical and 3 if
something cannot be known, whatever the format; of several the worst counts, and what is
critical comes before what is not known. A server that does not answer is critical, and so is
one whose disk is full.`

// Command is the command.
func Command(c *cli.CLI) *cobra.Command {
	var format string
	var t Thresholds
	// Wrong use must not be taken for a verdict, and who reads the one line is told, too.
	misused := func(err error) error {
		err = errors.Join(err, writeMisuse(c.Out, err))
		return cli.Exiting(int(Unknown), err)
	}
	cmd := c.Command("check [-o nagios|json|prometheus] [flags]", "Judge the cluster for a monitoring system", cobra.NoArgs,
		func(ctx context.Context, _ []string) error {
			write, ok := formats[format]
			if !ok {
				return misused(fmt.Errorf("output %q: want one of %s", format, strings.Join(formatNames, ", ")))
			}
			if t.LedgerWarn >= t.LedgerCrit {
				return misused(fmt.Errorf("--ledger-warn %v%% is not below --ledger-crit %v%%: it would never warn", t.LedgerWarn, t.LedgerCrit))
			}
			if t.DiskCrit > 0 && t.DiskWarn >= t.DiskCrit {
				return cli.Exiting(int(Unknown), fmt.Errorf("--disk-warn %v%% is not below --disk-crit %v%%: it would never warn", t.DiskWarn, t.DiskCrit))
			}
			if t.MembersMin < 0 {
				return cli.Exiting(int(Unknown), fmt.Errorf("--members-min %d: want 0 or more", t.MembersMin))
			}
			all := Judge(Look(ctx, c), t)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err := write(c.Out, all); err != nil {
				return cli.Exiting(int(Unknown), err)
			}
			return cli.Ending(int(Worst(all)))
		})
	cmd.Long = about
	fits := cmd.Args
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if err := fits(cmd, args); err != nil {
			return misused(err)
		}
		return nil
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return misused(cli.FlagError(err)) })
	f := cmd.Flags()
	f.StringVarP(&format, "output", "o", "nagios", strings.Join(formatNames, ", "))
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formatNames, cobra.ShellCompDirectiveNoFileComp)) // the flag is there
	thresholds(f, &t)
	return cmd
}

// Defaults are the thresholds of who gives none.
func Defaults() (t Thresholds) {
	thresholds(pflag.NewFlagSet("check", pflag.ContinueOnError), &t)
	return t
}

// thresholds makes the flags, and puts the defaults in.
func thresholds(f *pflag.FlagSet, t *Thresholds) {
	t.LedgerWarn, t.LedgerCrit = 70, 85
	f.Var((*percent)(&t.LedgerWarn), "ledger-warn", "warn from so much of the ledger's, or the controls', limit on")
	f.Var((*percent)(&t.LedgerCrit), "ledger-crit", "critical from so much of it on")
	f.Var((*percent)(&t.DiskWarn), "disk-warn", "warn from so much of a disk on (default: as the server does)")
	f.Var((*percent)(&t.DiskCrit), "disk-crit", "critical from so much of it on (default: as the server does)")
	f.Lookup("disk-warn").DefValue, f.Lookup("disk-crit").DefValue = "", "" // said in words
	f.IntVar(&t.MembersMin, "members-min", 1, "critical if fewer members work: one that leaves is not listed any more, so give how many there should be; one that is silenced does not work")
	durations(f, t)
}

func durations(f *pflag.FlagSet, t *Thresholds) {
	for _, d := range []struct {
		into    *time.Duration
		name    string
		preset  time.Duration
		meaning string
	}{
		{&t.IndexLag, "index-lag-crit", 10 * time.Second, "the index is so far behind the ledger"},
		{&t.Stuck, "stuck-crit", time.Hour, "a job has not gone on for so long"},
		{&t.Disagree, "disagree-crit", 30 * time.Second, "a member has had another view for so long"},
		{&t.Unreachable, "unreachable-crit", 10 * time.Second, "nobody has reached a member with a live lease for so long (at once it is a warning)"},
		{&t.Unsealed, "unsealed-crit", 10 * time.Second, "the journal of a worker that is gone has not been sealed for so long"},
	} {
		f.DurationVar(d.into, d.name, d.preset, "critical if "+d.meaning)
	}
}

// Look asks the server for all that is judged, within 10 s.
func Look(ctx context.Context, c *cli.CLI) Seen {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	s := Seen{}
	svc, err := c.Service()
	if err != nil {
		s.StatusErr, s.MembersErr, s.JournalErr = err, err, err
		return s
	}
	s.Status, s.StatusErr = svc.Status(ctx)
	var members api.MemberList
	members, s.MembersErr = svc.ListMembers(ctx)
	s.Members = members.Members
	s.Journals, s.JournalErr = svc.ListJournals(ctx, api.Page{Limit: 1})
	s.Now = c.Now()
	return s
}
