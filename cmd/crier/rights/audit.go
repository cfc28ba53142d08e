package rights

import (
	"cmp"
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"crier/api"
	"crier/api/decision"
	"crier/cmd/crier/cli"
	"crier/cmd/crier/out"
)

// Audit is the command about who did what.
func Audit(c *cli.CLI) *cobra.Command {
	return c.Group("audit", "The audit log: who changed what, when, and why", auditList(c))
}

// object is what an act was about, and what that was changed to.
func object(a api.AuditEntry) string {
	if a.Detail == "" {
		return a.Object
	}
	return a.Object + ": " + a.Detail
}

func auditList(c *cli.CLI) *cobra.Command {
	var req api.ListAudit
	var since string
	var limit int
	cmd := c.Command("ls [filters] [--limit N]", "List acts, the newest first", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		if since != "" {
			var err error
			if req.Within, err = api.ParseDuration(since); err != nil || req.Within <= 0 {
				return cli.Usage("--since %q: want a length of time such as 1h or 7d", since)
			}
		}
		if err := cmp.Or(req.Validate(), decision.ValidateAudit(req)); err != nil {
			return err
		}
		svc, err := c.Service()
		if err != nil {
			return err
		}
		all, err := cli.Listed(c, limit, func(page api.Page) ([]api.AuditEntry, string, error) {
			req.Page = page
			list, err := svc.ListAudit(ctx, req)
			return list.Acts, list.Next, err
		})
		if err != nil {
			return err
		}
		return c.Print(all, func(p *out.Printer) out.Grid {
			g := out.Grid{Of: "acts", Columns: []out.Column{{Name: "at"}, {Name: "key", Flex: 1}, {Name: "tenant", Wide: true}, {Name: "operation"}, {Name: "object", Below: true},
				{Name: "result"}, {Name: "id", Wide: true}, {Name: "age", Right: true, Wide: true}, {Name: "reason", Below: true}}}
			for _, a := range all {
				g.Rows = append(g.Rows, []string{a.At.UTC().Truncate(time.Second).Format(time.RFC3339), cmp.Or(a.KeyName, a.Key), a.Tenant, a.Operation, object(a), a.Result, a.Key, out.Span(p.Now.Sub(a.At)), a.Reason})
			}
			return g
		})
	})
	cmd.Long = cmd.Short + `.

Times are UTC. Of the key its name stands there; "bootstrap" is the admin key of the data
directory (keys/admin.key), "restore" is crier restore.`
	f := cmd.Flags()
	f.StringVar(&req.Tenant, "tenant", "", "whose objects (default: all that the key sees)")
	f.StringVar(&req.Key, "key", "", "id of the key with which it was done")
	f.StringVar(&req.Operation, "operation", "", "id of the operation, such as submit-job: "+strings.Join(decision.Audited(), ", "))
	f.StringVar(&req.Object, "object", "", "such as account/news, suppression/account/news or job/job_...")
	f.StringVar(&req.Result, "result", "", strings.Join(decision.Results(), ", "))
	_ = cmd.RegisterFlagCompletionFunc("operation", cobra.FixedCompletions(decision.Audited(), cobra.ShellCompDirectiveNoFileComp)) // the flags are there
	_ = cmd.RegisterFlagCompletionFunc("result", cobra.FixedCompletions(decision.Results(), cobra.ShellCompDirectiveNoFileComp))
	f.StringVar(&since, "since", "", "only what was done within this time, such as 1h or 7d")
	cli.LimitFlag(cmd, &limit)
	return cmd
}
