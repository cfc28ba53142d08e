package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"crier/api"
	"crier/api/client"
	"crier/cmd/crier/out"
	"crier/internal/auth"
	"crier/internal/config"
	"crier/internal/launch"
	"crier/job"
)

// cli is what the commands share. Effects on the outside are its fields.
type cli struct {
	in       io.Reader
	out, err io.Writer
	getenv   func(string) string
	now      func() time.Time
	// dial connects to a server.
	dial func(server, key string) (api.Service, error)
	// serve runs the server until ctx ends.
	serve func(ctx context.Context, cfg config.Server, p launch.Process) error

	server, data, output string // flags
	started              bool   // a command began; errors before that are about usage
}

// main runs a command line and gives the exit code.
func (c *cli) main(ctx context.Context, args []string) int {
	root := c.root()
	root.SetArgs(args)
	root.SetIn(c.in)
	root.SetOut(c.out)
	root.SetErr(c.err)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && !c.started {
		err = exiting(exitUsage, err)
	}
	code := exitCode(ctx, err)
	if err != nil && code != exitInterrupt {
		c.say("crier: %s", message(err))
	}
	if code == exitUsage && !c.started {
		c.say("Try \"%s --help\".", cmd.CommandPath())
	}
	return code
}

// message words an error for a terminal; a field at fault is named.
func message(err error) string {
	var je *job.Error
	if errors.As(err, &je) && je.Field != "" && !strings.Contains(strings.ToLower(err.Error()), je.Field) {
		return fmt.Sprintf("%s (%s)", err, je.Field)
	}
	return err.Error()
}

// say writes a line to standard error. If that cannot be written to, there is
// nobody to tell.
func (c *cli) say(format string, args ...any) {
	fmt.Fprintln(c.err, strings.TrimRight(fmt.Sprintf(format, args...), "\n"))
}

// about stands in the help of the root.
const about = `.

Variables: CRIER_SERVER and CRIER_DATA stand for --server and --data, CRIER_TOKEN
is the admin key (else keys/admin.key in the data directory), NO_COLOR turns
colours off.

Exit codes: 0 done, 1 error, 2 wrong use, 3 not found, 4 denied, 5 conflict, 6 may
succeed later, 7 the job failed or was cancelled, 8 a measurement missed its goal,
9 nothing to do, 130 interrupted.`

func (c *cli) root() *cobra.Command {
	root := c.group("crier", "Sends one message to a set of recipients: each reachable recipient once")
	root.SilenceErrors, root.SilenceUsage = true, true
	root.Version = version
	root.Long = root.Short + about
	width, _ := terminalWidth(c.out) // 0, which does not fold, if it is no terminal
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages", fmt.Sprintf(".FlagUsagesWrapped %d", width)))
	p := root.PersistentFlags()
	p.StringVar(&c.server, "server", "", "URL of the server (default: CRIER_SERVER, else http://"+config.DefaultListen+")")
	p.StringVar(&c.data, "data", "", "data directory of a server on this machine, for its key (default: CRIER_DATA, else "+config.ClientData()+")")
	p.StringVarP(&c.output, "output", "o", string(out.Table), strings.Join(out.Formats(), ", "))
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(out.Formats(), cobra.ShellCompDirectiveNoFileComp)) // the flag is there
	root.AddCommand(c.serveCommand(), c.accountCommand(), c.followersCommand(), c.suppressionCommand(), c.packageCommand(),
		c.jobCommand(), c.eventsCommand(), c.ledgerCommand(), c.tokenCommand(), c.statusCommand(), c.benchCommand(), c.demoCommand(), c.versionCommand())
	return root
}

// group makes a command that only has others; a word that is none of them is an
// error.
func (c *cli) group(use, short string, subs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: cobra.ArbitraryArgs}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return fmt.Errorf("%s has no command %q%s", cmd.CommandPath(), args[0], suggest(cmd, args[0]))
		}
		return cmd.Help()
	}
	cmd.AddCommand(subs...)
	return cmd
}

func suggest(cmd *cobra.Command, word string) string {
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(word); len(near) > 0 {
		return "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return ""
}

// command makes a command that does something.
func (c *cli) command(use, short string, args cobra.PositionalArgs, do func(ctx context.Context, args []string) error) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: fitting(args), DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := out.ParseFormat(c.output); err != nil {
				return err
			}
			c.started = true
			return do(cmd.Context(), args)
		}}
}

// fitting words what a command wants when its arguments do not fit.
func fitting(args cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		if args(cmd, given) == nil {
			return nil
		}
		return fmt.Errorf("%s; usage: %s", out.Many(uint64(len(given)), "argument"), cmd.UseLine())
	}
}

// service connects to the server.
func (c *cli) service() (api.Service, error) {
	server := c.server
	if server == "" {
		server = c.getenv("CRIER_SERVER")
	}
	if server == "" {
		server = "http://" + config.DefaultListen
	}
	key, err := c.key(server)
	if err != nil {
		return nil, err
	}
	return c.dial(server, key)
}

// key is the admin key: CRIER_TOKEN, else the one in the data directory, which
// is shown to servers on this machine only.
func (c *cli) key(server string) (string, error) {
	if key := c.getenv("CRIER_TOKEN"); key != "" {
		return key, nil
	}
	if !loopback(server) {
		return "", nil
	}
	data := c.data
	if data == "" {
		data = config.ClientData()
	}
	key, err := auth.ReadAdminKey(data)
	if errors.Is(err, os.ErrPermission) || job.CodeOf(err) == job.CodeNotFound {
		return "", nil
	}
	return key, err
}

func loopback(server string) bool {
	u, err := url.Parse(server)
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

func dialServer(server, key string) (api.Service, error) {
	return client.New(client.Config{Server: server, Key: key})
}

// print shows data on standard output.
func (c *cli) print(v any, grid func(*out.Printer) out.Grid) error {
	format, err := out.ParseFormat(c.output)
	if err != nil {
		return err
	}
	width, terminal := terminalWidth(c.out)
	if n, err := strconv.Atoi(c.getenv("COLUMNS")); err == nil && n > 0 {
		width = n
	}
	p := &out.Printer{W: c.out, Format: format, Width: width, Now: c.now(), Color: terminal && c.getenv("NO_COLOR") == "" && c.getenv("TERM") != "dumb"}
	return p.Print(v, grid)
}

// terminalWidth gives the width of a terminal; anything else has none.
func terminalWidth(w any) (int, bool) {
	f, ok := w.(*os.File)
	if !ok {
		return 0, false
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, false
	}
	return int(size.Col), true
}
