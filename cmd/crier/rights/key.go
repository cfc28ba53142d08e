// Package rights is the commands about who may use the server, and who did what: keys,
// tenants, and the audit log.
//
// It guarantees that a key is shown when it is made, on standard output, and never again.
package rights

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

const keyAbout = `. A key belongs to a tenant and has a role:

  viewer     sees the tenant's accounts, packages and jobs
  submitter  and sends: followers, packages, jobs and their controls
  admin      and makes accounts and keys, and reads the audit log
  device     of one recipient's application: it sees what became of a job for that
             recipient. Recipients connect with tokens ("crier token"), not with keys.

The key in the data directory (keys/admin.key) may do everything, for all tenants; it
cannot be revoked, only replaced. It has no row in this list, because it is there before
there is a database: as who did or made something its id and its name are "bootstrap".`

// Key is the command about keys.
func Key(c *cli.CLI) *cobra.Command {
	self := c.Command("self", "Describe the key that is used", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		svc, err := c.Service()
		if err != nil {
			return err
		}
		k, err := svc.Self(ctx)
		if err != nil {
			return err
		}
		return c.Print(k, keyFields(k))
	})
	revoke := c.Command("revoke ID", "End a key for good, within 5 s in every process", cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
		svc, err := c.Service()
		if err != nil {
			return err
		}
		k, err := svc.RevokeKey(ctx, args[0])
		if err != nil {
			return err
		}
		return c.Print(k, keyFields(k))
	})
	cmd := c.Group("key", "Keys: who may use the server", keyCreate(c), keyList(c), revoke, self)
	cmd.Long = cmd.Short + keyAbout
	return cmd
}

func keyCreate(c *cli.CLI) *cobra.Command {
	var req api.CreateKey
	var role, recipient string
	cmd := c.Command("create NAME --role R [--tenant T] [--recipient N]", "Make a key; it is shown this once", cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
		req.Name = args[0]
		var err error
		if req.Role, err = job.ParseRole(role); err != nil {
			return cli.Usage("--role: %w", err)
		}
		if recipient != "" {
			r, err := job.ParseRecipient(recipient)
			if err != nil {
				return cli.Usage("--recipient: %w", err)
			}
			req.Recipient = &r
		}
		if err := req.Validate(); err != nil {
			return err
		}
		svc, err := c.Service()
		if err != nil {
			return err
		}
		k, err := svc.CreateKey(ctx, req)
		if err != nil {
			return err
		}
		c.Say("keep the key: it is shown this once; whoever has it sets CRIER_TOKEN to it")
		return c.Print(k, func(p *out.Printer) out.Grid {
			g := keyFields(k.Key)(p)
			g.Rows = append([][]string{{"key", k.Secret}}, g.Rows...)
			return g
		})
	})
	f := cmd.Flags()
	f.StringVar(&role, "role", "", strings.Join(job.Roles(), ", "))
	f.StringVar(&req.Tenant, "tenant", "", "whose key it is (default: the tenant of the key that is used)")
	f.StringVar(&recipient, "recipient", "", "recipient id, for the role device")
	_ = cmd.MarkFlagRequired("role") // the flag is there
	_ = cmd.RegisterFlagCompletionFunc("role", cobra.FixedCompletions(job.Roles(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func keyFields(k api.Key) func(*out.Printer) out.Grid {
	return func(p *out.Printer) out.Grid {
		rows := [][]string{{"id", k.ID}, {"name", k.Name}, {"role", k.Role.String()}, {"tenant", k.Tenant}}
		if k.Recipient != nil {
			rows = append(rows, []string{"recipient", k.Recipient.String()})
		}
		for _, at := range []struct {
			name string
			at   time.Time
		}{{"created", k.CreatedAt}, {"used", k.UsedAt}, {"revoked", k.RevokedAt}} {
			if !at.at.IsZero() {
				rows = append(rows, []string{at.name, p.Ago(at.at)})
			}
		}
		return out.Grid{Rows: rows}
	}
}

func keyList(c *cli.CLI) *cobra.Command {
	var tenant string
	var limit int
	cmd := c.Command("ls [--tenant T] [--limit N]", "List keys in the order of their making", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		svc, err := c.Service()
		if err != nil {
			return err
		}
		all, err := cli.Listed(c, limit, func(page api.Page) ([]api.Key, string, error) {
			list, err := svc.ListKeys(ctx, tenant, page)
			return list.Keys, list.Next, err
		})
		if err != nil {
			return err
		}
		return c.Print(all, func(p *out.Printer) out.Grid {
			g := out.Grid{Of: "keys", Columns: []out.Column{{Name: "id"}, {Name: "name", Flex: 1}, {Name: "role"}, {Name: "tenant"}, {Name: "created", Wide: true}, {Name: "used", Below: true}, {Name: "state"}}}
			for _, k := range all {
				g.Rows = append(g.Rows, []string{k.ID, k.Name, k.Role.String(), k.Tenant, p.Ago(k.CreatedAt), ago(p, k.UsedAt, "never"), state(k)})
			}
			return g
		})
	})
	cmd.Long = cmd.Short + ". A use is in USED within 10 s, if the database answers."
	cmd.Flags().StringVar(&tenant, "tenant", "", "whose keys (default: all that the key sees)")
	cli.LimitFlag(cmd, &limit)
	return cmd
}

func state(k api.Key) string {
	if k.RevokedAt.IsZero() {
		return "in force"
	}
	return "revoked"
}

func ago(p *out.Printer, at time.Time, none string) string {
	if at.IsZero() {
		return none
	}
	return p.Ago(at)
}

// limit is a limit in words.
func limit[N uint32 | uint64](n N) string {
	if n == 0 {
		return "no limit"
	}
	return out.Exact(uint64(n))
}
