package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"crier/api"
	"crier/audience/source"
	"crier/cmd/crier/cli"
	"crier/cmd/crier/out"
	"crier/job"
)

func (c *commands) followersCommand() *cobra.Command {
	return c.Group("followers", "Followers of accounts", c.followersImport(),
		c.followersChange("add", "Add followers to an account", api.Service.AddFollowers),
		c.followersChange("rm", "Remove followers from an account", api.Service.RemoveFollowers), c.followersList(),
		c.followersOf("info", "Show how many followers an account has", c.followersInfo),
		c.followersOf("export", "Write the ids of an account's followers, one a line; for a package: crier package build --from followers",
			func(ctx context.Context, account string) error { return c.export(ctx, source.FormatFollowers, account) }))
}

// followersOf makes a command about the followers of one account, which is its argument, as
// in other groups, or named by --account, as where there are other arguments.
func (c *commands) followersOf(verb, short string, do func(ctx context.Context, account string) error) *cobra.Command {
	var account string
	cmd := c.Command(verb+" ACCOUNT", short, cobra.MaximumNArgs(1), func(ctx context.Context, args []string) error {
		if len(args)+min(len(account), 1) != 1 {
			return cli.Usage("which account? Name one: crier followers %s ACCOUNT, or --account", verb)
		}
		return do(ctx, cmp.Or(account, strings.Join(args, "")))
	})
	cmd.ValidArgsFunction = c.CompleteAccounts
	c.AccountFlag(cmd, &account, "name or id of the account, in the place of the argument")
	return cmd
}

func (c *commands) followersInfo(ctx context.Context, account string) error {
	svc, err := c.Service()
	if err != nil {
		return err
	}
	a, err := svc.GetAccount(ctx, account)
	if err != nil {
		return err
	}
	return c.Print(a, func(*out.Printer) out.Grid {
		return out.Grid{Rows: [][]string{{"account", fmt.Sprintf("%s (%d)", a.Name, a.ID)}, {"followers", out.Exact(a.Followers)}, {"revision", fmt.Sprint(a.Revision)}}}
	})
}

// followersList is the list of accounts, which has their followers.
func (c *commands) followersList() *cobra.Command {
	cmd := c.accountList()
	cmd.Short = "List accounts with how many followers they have; for their ids: crier followers export"
	return cmd
}

func (c *commands) followersImport() *cobra.Command {
	var req api.ImportFollowers
	cmd := c.Command("import --format edges|ids [--account A] [--skip N] FILE", "Import a file of edges or ids, gzipped or not; - is standard input",
		cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
			if err := req.Validate(); err != nil {
				return err
			}
			svc, err := c.Service()
			if err != nil {
				return err
			}
			in, err := c.open(args[0])
			if err != nil {
				return err
			}
			defer in.Close() // only read
			res, err := svc.ImportFollowers(ctx, req, in)
			if job.CodeOf(err) == job.CodeNotFound && req.Account != "" {
				return job.NotFound(fmt.Sprintf("there is no account %q; to make it: crier account create %s", req.Account, shellQuote(req.Account)))
			}
			if err != nil {
				return refused(args[0], err)
			}
			return c.Print(res, func(*out.Printer) out.Grid {
				return out.Grid{Rows: [][]string{{"read", out.Exact(res.Read)}, {"self-loops", out.Exact(res.SelfLoops)},
					{"other accounts", out.Exact(res.OtherAccounts)}, {"repeated", out.Exact(res.Repeated)}, {"already", out.Exact(res.Already)},
					{"added", out.Exact(res.Added)}, {"accounts created", out.Exact(res.AccountsCreated)}, {"accounts touched", out.Exact(res.AccountsTouched)}}}
			})
		})
	cmd.Flags().StringVar(&req.Format, "format", "", "edges: \"src dst\" a line, recipient src follows the account with the id dst; ids: recipients, one a line")
	cmd.Flags().IntVar(&req.Skip, "skip", 0, "lines to leave out at the start")
	c.AccountFlag(cmd, &req.Account, "name or id of the account; with edges, only those that lead to it")
	_ = cmd.MarkFlagRequired("format") // the flag is there
	return cmd
}

// refused says which file was not accepted, by its name here instead of the
// server's; what is in a file is no matter of usage.
func refused(file string, err error) error {
	if job.CodeOf(err) == job.CodeInvalid || job.CodeOf(err) == job.CodeTooLarge {
		if file == "-" {
			file = "standard input"
		}
		return cli.Exiting(cli.ExitError, errors.New(file+": "+strings.TrimPrefix(err.Error(), "input: ")))
	}
	return err
}

// open opens a file to read; - is standard input.
func (c *commands) open(name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(c.In), nil
	}
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, job.NotFound("there is no file " + name)
	}
	return f, err
}

func (c *commands) followersChange(verb, short string, do func(api.Service, context.Context, string, []job.Recipient) (api.FollowersChange, error)) *cobra.Command {
	var account string
	cmd := c.Command(verb+" --account A ID...", short+"; - reads ids from standard input", cobra.MinimumNArgs(1),
		func(ctx context.Context, args []string) error {
			svc, err := c.Service()
			if err != nil {
				return err
			}
			var total api.FollowersChange
			err = c.eachIDs(args, func(ids []job.Recipient) error {
				one, err := do(svc, ctx, account, ids)
				one.Changed += total.Changed
				one.Unchanged += total.Unchanged
				total = one
				return err
			})
			if err != nil {
				return err
			}
			return c.Print(total, func(*out.Printer) out.Grid {
				return out.Grid{Rows: [][]string{{"account", total.Account}, {"changed", out.Exact(total.Changed)}, {"unchanged", out.Exact(total.Unchanged)},
					{"followers", out.Exact(total.Followers)}, {"revision", fmt.Sprint(total.Revision)}}}
			})
		})
	c.AccountFlag(cmd, &account, "name or id of the account")
	_ = cmd.MarkFlagRequired("account") // the flag is there
	return cmd
}

// eachIDs reads recipient ids from the arguments, or from standard input if the
// only one is -, and calls do with as many as one request may carry.
func (c *commands) eachIDs(args []string, do func([]job.Recipient) error) error {
	var in io.Reader = strings.NewReader(strings.Join(args, "\n"))
	if len(args) == 1 && args[0] == "-" {
		in = c.In
	}
	var ids []job.Recipient
	scan := bufio.NewScanner(in)
	for scan.Scan() {
		for _, word := range strings.FieldsFunc(scan.Text(), func(r rune) bool { return r == ' ' || r == '\t' || r == ',' || r == '\r' }) {
			id, err := job.ParseRecipient(word)
			if err != nil {
				return cli.Usage("%w", err)
			}
			if ids = append(ids, id); len(ids) == api.MaxIDs {
				if err := do(ids); err != nil {
					return err
				}
				ids = ids[:0]
			}
		}
	}
	if err := scan.Err(); err != nil {
		return fmt.Errorf("read recipient ids: %w", err)
	}
	if len(ids) == 0 {
		return nil
	}
	return do(ids)
}
