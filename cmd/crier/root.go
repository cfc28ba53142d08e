package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"crier/cmd/crier/check"
	"crier/cmd/crier/cli"
	"crier/cmd/crier/inspect"
	"crier/cmd/crier/local"
	"crier/cmd/crier/operate"
	"crier/cmd/crier/out"
	"crier/cmd/crier/rights"
	"crier/cmd/crier/support"
	"crier/internal/config"
	"crier/internal/launch"
)

// commands are the command line. Groups that need little of each other are packages
// below this one.
type commands struct {
	*cli.CLI
	// serve runs the server until ctx ends.
	serve func(ctx context.Context, cfg config.Server, p launch.Process) error
}

// main runs a command line and gives the exit code.
func (c *commands) main(ctx context.Context, args []string) int { return c.Main(ctx, c.root(), args) }

// about stands in the help of the root.
func about() string {
	var exits []string
	for _, e := range cli.Exits() {
		exits = append(exits, fmt.Sprintf("%d %s", e.Exit, e.Means))
	}
	return before + out.Fold("Exit codes: "+strings.Join(exits, ", ")+`. "crier check" has its own: 0 to 3. "crier error" says what to do.`, 80)
}

const before = `.

Variables: CRIER_SERVER and CRIER_DATA stand for --server and --data, CRIER_TOKEN
is the key (else keys/admin.key below --data, which may do everything),
CRIER_CLUSTER is the directory of a cluster on this machine ("crier cluster",
"crier drill"), NO_COLOR turns colours off.

A key of its own for whoever submits jobs: "crier key create NAME --role submitter".

`

func (c *commands) root() *cobra.Command {
	root := c.Group("crier", "Sends one message to a set of recipients: each reachable recipient once")
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return cli.FlagError(err) })
	root.Version = version
	root.Long = root.Short + about()
	c.Help(root)
	p := root.PersistentFlags()
	p.StringVar(&c.Server, "server", "", "URL of the server (default: CRIER_SERVER, else http://"+config.DefaultListen+")")
	p.StringVar(&c.DataDir, "data", "", "directory that has keys/admin.key: the data directory of a server on this machine, or its --keys (default: CRIER_DATA, else "+config.ClientData()+")")
	p.StringVarP(&c.Output, "output", "o", string(out.Table), strings.Join(out.Formats(), ", "))
	p.StringVar(&c.Reason, "reason", "", "why, for the audit log: one line")
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(out.Formats(), cobra.ShellCompDirectiveNoFileComp)) // the flag is there
	root.AddCommand(c.serveCommand(), c.accountCommand(), c.followersCommand(), c.suppressionCommand(), c.segmentCommand(), c.packageCommand(),
		c.jobCommand(), inspect.Events(c.CLI), inspect.Ledger(c.CLI), inspect.Recipient(c.CLI), inspect.Error(c.CLI), operate.Member(c.CLI), operate.Ring(c.CLI), operate.Journal(c.CLI), operate.Lane(c.CLI),
		rights.Token(c.CLI), rights.Key(c.CLI), rights.Tenant(c.CLI), rights.Webhook(c.CLI), rights.Audit(c.CLI), operate.Status(c.CLI), local.Backup(c.CLI), local.Restore(c.CLI), check.Command(c.CLI), support.Command(c.CLI, version), local.Bench(c.CLI), local.Demo(c.CLI), local.Cluster(c.CLI), local.Drill(c.CLI), c.versionCommand())
	c.Strict(root)
	return root
}
