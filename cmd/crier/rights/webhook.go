package rights

import (
	"context"

	"github.com/spf13/cobra"

	"crier/cmd/crier/cli"
	"crier/cmd/crier/out"
)

const webhookAbout = `. A job submitted with --webhook URL tells it, by a POST of the event as
JSON, when the job is over, or comes into the states of --webhook-on. The requests are
signed as Standard Webhooks has it (webhook-id, webhook-timestamp, webhook-signature) with
the tenant's secret. What is not answered with 2xx is sent again, for a day; an event may
come twice, with the same webhook-id.`

// Webhook is the command about webhooks.
func Webhook(c *cli.CLI) *cobra.Command {
	cmd := c.Group("webhook", "Webhooks: telling receivers outside what becomes of jobs", webhookSecret(c))
	cmd.Long = cmd.Short + webhookAbout
	return cmd
}

func webhookSecret(c *cli.CLI) *cobra.Command {
	var tenant string
	cmd := c.Command("secret [--tenant T]", "Make the secret that signs a tenant's webhooks, or another one; it is shown this once", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		svc, err := c.Service()
		if err != nil {
			return err
		}
		if tenant == "" {
			self, err := svc.Self(ctx)
			if err != nil {
				return err
			}
			tenant = self.Tenant
		}
		s, err := svc.MakeWebhookSecret(ctx, tenant)
		if err != nil {
			return err
		}
		text := "keep the secret: it is shown this once"
		if s.Former {
			text += "; for a day, requests are signed with the former one, too"
		}
		c.Say("%s", text)
		return c.Print(s, func(*out.Printer) out.Grid {
			return out.Grid{Rows: [][]string{{"tenant", s.Tenant}, {"secret", s.Secret}}}
		})
	})
	cmd.Flags().StringVar(&tenant, "tenant", "", "whose secret (default: the tenant of the key that is used)")
	return cmd
}
