package rights

import (
	"context"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"crier/api"
	"crier/cmd/crier/cli"
	"crier/cmd/crier/out"
	"crier/job"
)

// Tenant is the command about tenants.
func Tenant(c *cli.CLI) *cobra.Command {
	info := c.Command("info NAME", "Show a tenant with its limits", cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
		svc, err := c.Service()
		if err != nil {
			return err
		}
		t, err := svc.GetTenant(ctx, args[0])
		if err != nil {
			return err
		}
		return c.Print(t, tenantFields(t))
	})
	return c.Group("tenant", "Tenants: who owns accounts, packages, jobs and keys", tenantCreate(c), tenantList(c), info, tenantLimits(c))
}

// limitFlags are the flags of limits; which of them were given, the command knows.
type limitFlags struct{ job.Limits }

func (l *limitFlags) add(f *pflag.FlagSet) {
	f.Uint32Var(&l.Jobs, "jobs", 0, "jobs that may be under way: accepted, and neither sent nor over; 0 is no limit")
	f.Uint64Var(&l.Recipients, "recipients", 0, "recipients that a job may have; 0 is no limit")
	f.Uint32Var(&l.Rate, "rate", 0, "recipients a second that a job may have, and has if it asks for no rate; 0 is no limit")
	f.Uint32Var(&l.Requests, "requests", 0, "requests a second of all its keys, at each API process; 0 is no limit")
}

func tenantCreate(c *cli.CLI) *cobra.Command {
	var limits limitFlags
	cmd := c.Command("create NAME [limits]", "Make a tenant", cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
		req := api.CreateTenant{Name: args[0], Limits: limits.Limits}
		if err := req.Validate(); err != nil {
			return err
		}
		svc, err := c.Service()
		if err != nil {
			return err
		}
		t, err := svc.CreateTenant(ctx, req)
		if err != nil {
			return err
		}
		return c.Print(t, tenantFields(t))
	})
	limits.add(cmd.Flags())
	return cmd
}

func tenantLimits(c *cli.CLI) *cobra.Command {
	var limits limitFlags
	var cmd *cobra.Command
	cmd = c.Command("limits NAME [limits]", "Change limits of a tenant; those that are not given stay. Jobs that were accepted keep what they have", cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
		var req api.SetLimits
		set := cmd.Flags().Changed
		if set("jobs") {
			req.Jobs = &limits.Jobs
		}
		if set("recipients") {
			req.Recipients = &limits.Recipients
		}
		if set("rate") {
			req.Rate = &limits.Rate
		}
		if set("requests") {
			req.Requests = &limits.Requests
		}
		if req.Validate() != nil {
			return cli.Usage("want some of --jobs, --recipients, --rate, --requests; usage: %s", cmd.UseLine())
		}
		svc, err := c.Service()
		if err != nil {
			return err
		}
		t, err := svc.SetLimits(ctx, args[0], req)
		if err != nil {
			return err
		}
		return c.Print(t, tenantFields(t))
	})
	limits.add(cmd.Flags())
	return cmd
}

func tenantFields(t api.Tenant) func(*out.Printer) out.Grid {
	return func(p *out.Printer) out.Grid {
		return out.Grid{Rows: [][]string{{"tenant", t.Name}, {"created", ago(p, t.CreatedAt, "from the start")}, {"jobs under way", out.Count(t.Jobs)}, {"of at most", limit(t.Limits.Jobs)},
			{"recipients of a job", limit(t.Limits.Recipients)}, {"rate of a job", limit(t.Limits.Rate)}, {"requests a second", limit(t.Limits.Requests)}}}
	}
}

func tenantList(c *cli.CLI) *cobra.Command {
	var most int
	cmd := c.Command("ls [--limit N]", "List tenants by name", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		svc, err := c.Service()
		if err != nil {
			return err
		}
		all, err := cli.Listed(c, most, func(page api.Page) ([]api.Tenant, string, error) {
			list, err := svc.ListTenants(ctx, page)
			return list.Tenants, list.Next, err
		})
		if err != nil {
			return err
		}
		return c.Print(all, func(p *out.Printer) out.Grid {
			g := out.Grid{Of: "tenants", Columns: []out.Column{{Name: "tenant", Flex: 1}, {Name: "jobs", Right: true}, {Name: "at most", Right: true}, {Name: "recipients", Right: true},
				{Name: "rate", Right: true}, {Name: "requests/s", Right: true}, {Name: "created", Wide: true}}}
			for _, t := range all {
				g.Rows = append(g.Rows, []string{t.Name, out.Count(t.Jobs), limit(t.Limits.Jobs), limit(t.Limits.Recipients), limit(t.Limits.Rate), limit(t.Limits.Requests), ago(p, t.CreatedAt, "from the start")})
			}
			return g
		})
	})
	cli.LimitFlag(cmd, &most)
	return cmd
}
