package rights

import (
	"context"

	"github.com/spf13/cobra"

	"crier/api"
	"crier/cmd/crier/cli"
	"crier/cmd/crier/out"
	"crier/job"
)

// Token is the command that makes tokens of recipients.
func Token(c *cli.CLI) *cobra.Command {
	var recipient, ttl string
	var plain bool
	mint := c.Command("mint --recipient N [--ttl D] [--plain]", "Make a token with which a recipient connects to a gateway", cobra.NoArgs,
		func(ctx context.Context, _ []string) error {
			r, err := job.ParseRecipient(recipient)
			if err != nil {
				return cli.Usage("--recipient: %w", err)
			}
			d, err := api.ParseDuration(ttl)
			switch {
			case err != nil:
				return cli.Usage("--ttl %q: want a length of time such as 12h or 30d", ttl)
			case d <= 0:
				return cli.Usage("--ttl %s: want more than 0", ttl)
			}
			req := api.MintToken{Recipient: &r, TTL: d}
			if err := req.Validate(); err != nil {
				return err
			}
			svc, err := c.Service()
			if err != nil {
				return err
			}
			t, err := svc.MintToken(ctx, req)
			if err != nil {
				return err
			}
			if plain {
				return c.Line(t.Token)
			}
			return c.Print(t, func(p *out.Printer) out.Grid {
				return out.Grid{Rows: [][]string{{"token", t.Token}, {"recipient", t.Recipient.String()}, {"expires", p.Ago(t.Expires)}}}
			})
		})
	mint.Flags().StringVar(&recipient, "recipient", "", "recipient id")
	mint.Flags().StringVar(&ttl, "ttl", api.DefaultTokenTTL.String(), "how long it is good for, such as 12h or 30d")
	mint.Flags().BoolVar(&plain, "plain", false, "the token alone, for a variable: T=$(crier token mint --recipient 1 --plain)")
	_ = mint.MarkFlagRequired("recipient") // the flag is there
	return c.Group("token", "Recipients' tokens", mint)
}
