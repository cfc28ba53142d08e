// Package cli is what the commands of the command line share: where they read and
// write, how they reach the server, how they show data, and what their exit codes are.
//
// It guarantees that data goes to standard output and everything else to standard
// error.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"crier/api"
	"crier/api/client"
	"crier/api/problem"
	"crier/cmd/crier/out"
	"crier/internal/auth"
	"crier/internal/config"
	"crier/job"
)

// CLI is what the commands share. Effects on the outside are its fields.
type CLI struct {
	In       io.Reader
	Out, Err io.Writer
	Getenv   func(string) string
	Now      func() time.Time
	// Dial connects to a server.
	Dial func(server, key string) (api.Service, error)

	// Flags that all commands have.
	Server, DataDir, Output, Reason string
	// Started: a command began; errors before that are about usage.
	Started bool
}

// Main runs a command line and gives the exit code.
func (c *CLI) Main(ctx context.Context, root *cobra.Command, args []string) int {
	root.SetArgs(args)
	root.SetIn(c.In)
	root.SetOut(c.Out)
	root.SetErr(c.Err)
	cmd, err := root.ExecuteContextC(ctx)
	if !c.Started {
		err = missing(cmd, err)
	}
	if err != nil && !c.Started && !hasCode(err) {
		err = Exiting(ExitUsage, err)
	}
	code := exitCode(ctx, err)
	if err != nil && code != ExitInterrupt && err.Error() != "" {
		c.Say("crier: %s%s%s", message(cmd, err), c.advice(err), explained(err))
	}
	if err != nil && !c.Started {
		c.Say("Try \"%s --help\".", cmd.CommandPath())
	}
	return code
}

// fields is the annotation of a flag with its names in requests.
const fields = "crier_fields"

// Names tells how requests, and errors about them, name what a flag says, if it is not the
// flag's own name.
func Names(cmd *cobra.Command, flag string, names ...string) {
	_ = cmd.Flags().SetAnnotation(flag, fields, names) // the flag is there
}

// flagOf finds the flag that says what a field of a request is; "" if there is none.
func flagOf(cmd *cobra.Command, field string) (name string) {
	if f := cmd.Flags().Lookup(strings.ReplaceAll(field, "_", "-")); f != nil {
		return f.Name
	}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if slices.Contains(f.Annotations[fields], field) {
			name = f.Name
		}
	})
	return name
}

// message words an error for a terminal; a field at fault is named: by its flag, if it has
// one, and not at all if it is an argument, which stands in the usage.
func message(cmd *cobra.Command, err error) string {
	var je *job.Error
	text := err.Error()
	if !errors.As(err, &je) || je.Field == "" {
		return text
	}
	flag := flagOf(cmd, je.Field)
	rest, begins := strings.CutPrefix(text, je.Field+": ")
	switch {
	case begins && flag != "" && !readsSettings(cmd):
		return fmt.Sprintf("--%s: %s", flag, rest)
	case strings.Contains(strings.ToLower(text), strings.ToLower(je.Field)):
		return text
	case flag != "":
		return fmt.Sprintf("--%s: %s", flag, text)
	case je.Field == "of": // an export's argument
		return text
	case slices.Contains(strings.FieldsFunc(cmd.Use, func(r rune) bool { return !unicode.IsLetter(r) }), strings.ToUpper(je.Field)):
		return text
	}
	return fmt.Sprintf("%s (%s)", text, je.Field)
}

// readsSettings reports whether a command has settings from a file and from variables, too:
// an error names the setting then, for the flag may have no part in it.
func readsSettings(cmd *cobra.Command) bool { return cmd.Flags().Lookup("config") != nil }

// explained says where a code with which the server answered is explained.
func explained(err error) string {
	if code := problem.CodeFrom(err); code != "" {
		return fmt.Sprintf(" (see: crier error %s)", code)
	}
	return ""
}

// advice says what to do if the server that was asked does not answer.
func (c *CLI) advice(err error) string {
	server, named := c.server()
	var dial *net.OpError
	switch {
	case !errors.As(err, &dial) || dial.Op != "dial" || !strings.Contains(err.Error(), strings.TrimRight(server, "/")):
		return ""
	case named != "":
		return fmt.Sprintf("; it is the one that %s names; of a cluster, another API process may answer", named)
	}
	return "; start one with \"crier serve\", or name one with --server or CRIER_SERVER"
}

// Say writes a line to standard error, or more if a terminal is too narrow for it. If
// that cannot be written to, there is nobody to tell.
func (c *CLI) Say(format string, args ...any) {
	width, _ := TerminalWidth(c.Err)
	fmt.Fprintln(c.Err, out.Fold(strings.TrimRight(fmt.Sprintf(format, args...), "\n"), width))
}

// Group makes a command that only has others; a word that is none of them is an
// error.
func (c *CLI) Group(use, short string, subs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: cobra.ArbitraryArgs}
	cmd.RunE = onlyOthers
	cmd.AddCommand(subs...)
	return cmd
}

// onlyOthers runs a command that only has others.
func onlyOthers(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%s has no command %q%s", cmd.CommandPath(), args[0], suggest(cmd, args[0]))
	}
	return cmd.Help()
}

// Strict makes the commands that every command line has, help and completion, refuse words
// that are none of theirs. It comes after all other commands.
func (c *CLI) Strict(root *cobra.Command) {
	root.SetOut(c.Out) // completion takes it now
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "help":
			cmd.Run, cmd.RunE = nil, func(_ *cobra.Command, args []string) error {
				about, rest, err := root.Find(args)
				if err == nil && len(rest) > 0 && about.HasSubCommands() {
					err = onlyOthers(about, rest)
				}
				if err != nil {
					return err
				}
				about.InitDefaultHelpFlag()
				return about.Help()
			}
		case "completion":
			cmd.Args, cmd.RunE = cobra.ArbitraryArgs, onlyOthers
		}
	}
}

// Suggest says which of some names a word that is none of them may have meant.
func Suggest(word string, names []string) string {
	all := &cobra.Command{}
	for _, name := range names {
		all.AddCommand(&cobra.Command{Use: name, Run: func(*cobra.Command, []string) {}})
	}
	return suggest(all, word)
}

func suggest(cmd *cobra.Command, word string) string {
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(word); len(near) > 0 {
		return "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return ""
}

// elsewhere are the words that other programs have for a command's.
var elsewhere = map[string][]string{"rm": {"remove", "delete"}}

// Command makes a command that does something.
func (c *CLI) Command(use, short string, args cobra.PositionalArgs, do func(ctx context.Context, args []string) error) *cobra.Command {
	name, _, _ := strings.Cut(use, " ")
	return &cobra.Command{Use: use, Short: short, Args: fitting(args), DisableFlagsInUseLine: true, SuggestFor: elsewhere[name],
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := out.ParseFormat(c.Output); err != nil {
				return err
			}
			if err := job.ValidReason(c.Reason); err != nil {
				return Usage("--reason: %w", err)
			}
			c.Started = true
			return do(api.WithAct(cmd.Context(), &api.Act{Reason: c.Reason}), args)
		}}
}

// fitting words what a command wants, and what it got, when its arguments do not fit.
func fitting(args cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		err := args(cmd, given)
		if err == nil || hasCode(err) { // one with a code says what is wanted
			return err
		}
		got := "none"
		if len(given) > 0 {
			got = fmt.Sprintf("%d: %q", len(given), given)
		}
		return fmt.Errorf("%s takes %s, and got %s; usage: %s", cmd.CommandPath(), takes(cmd, args), got, cmd.UseLine())
	}
}

// mostArguments is more than any command counts.
const mostArguments = 10

// takes says how many arguments fit: it tries.
func takes(cmd *cobra.Command, args cobra.PositionalArgs) string {
	least, most := -1, -1
	for n := range mostArguments + 1 {
		if args(cmd, make([]string, n)) == nil {
			if most = n; least < 0 {
				least = n
			}
		}
	}
	switch {
	case most <= 0:
		return "no arguments"
	case least == most:
		return out.Many(uint64(most), "argument")
	case most == mostArguments:
		return "at least " + out.Many(uint64(least), "argument")
	}
	return "at most " + out.Many(uint64(most), "argument")
}

// FlagError words the value of a flag that is none as people do.
func FlagError(err error) error {
	var none *pflag.NotExistError
	if errors.As(err, &none) && strings.Trim(none.GetSpecifiedShortnames(), "0123456789") == "" && none.GetSpecifiedShortnames() != "" {
		return fmt.Errorf("-%s is negative: want a whole number from 0 on", none.GetSpecifiedShortnames())
	}
	var bad *pflag.InvalidValueError
	if !errors.As(err, &bad) {
		return err
	}
	want := ""
	switch kind := bad.GetFlag().Value.Type(); kind {
	case "duration":
		want = "a length of time such as 10s or 5m"
	case "bool":
		want = "true or false"
	case "int", "int64", "uint", "uint64":
		want = "a whole number"
	case "uint8", "uint16", "uint32":
		bits, _ := strconv.Atoi(strings.TrimPrefix(kind, "uint")) // it is one of these
		want = fmt.Sprintf("a whole number from 0 to %d", uint64(1)<<bits-1)
	default:
		return err
	}
	return fmt.Errorf("--%s %q: want %s", bad.GetFlag().Name, bad.GetValue(), want)
}

// Where gives the URL of the server, and the key that it is shown.
func (c *CLI) Where() (server, key string, err error) {
	server, _ = c.server()
	key, err = c.key(server)
	return server, key, err
}

// Service connects to the server.
func (c *CLI) Service() (api.Service, error) {
	server, key, err := c.Where()
	if err != nil {
		return nil, err
	}
	svc, err := c.Dial(server, key)
	if key == "" && job.CodeOf(err) == job.CodeDenied && !loopback(server) {
		return nil, &job.Error{Code: job.CodeDenied, Message: "no admin key for " + server + ": the key in the data directory is shown only to servers on this machine; set CRIER_TOKEN"}
	}
	return svc, err
}

// server gives the URL of the server, and what names it: nothing for the default.
func (c *CLI) server() (url, named string) {
	if c.Server != "" {
		return c.Server, "--server"
	}
	if env := c.Getenv("CRIER_SERVER"); env != "" {
		return env, "CRIER_SERVER"
	}
	return "http://" + config.DefaultListen, ""
}

// key is the one in CRIER_TOKEN, else the admin key in the data directory, which
// is shown to servers on this machine only.
func (c *CLI) key(server string) (string, error) {
	if key := c.Getenv("CRIER_TOKEN"); key != "" {
		return key, nil
	}
	if !loopback(server) {
		return "", nil
	}
	data := c.DataDir
	if data == "" {
		data = config.ClientData()
	}
	key, err := auth.ReadAdminKey(data)
	if errors.Is(err, os.ErrPermission) || job.CodeOf(err) == job.CodeNotFound {
		return "", nil
	}
	return key, err
}

// loopback reports whether a URL leads to this machine; an address of no host does, too.
func loopback(server string) bool {
	u, err := url.Parse(server)
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && (ip.IsLoopback() || ip.IsUnspecified())
}

// Dial makes a client of the server at a URL.
func Dial(server, key string) (api.Service, error) {
	return client.New(client.Config{Server: server, Key: key})
}

// Line writes a line of a stream to standard output.
func (c *CLI) Line(text string) error {
	_, err := fmt.Fprintln(c.Out, text)
	return err
}

// Width is how wide a line on standard output may be, 0 if nothing bounds it.
func (c *CLI) Width() int {
	width, _ := c.width()
	return width
}

// Print shows data on standard output. That a list is empty is said on standard error, so
// that whoever reads the output gets no line.
func (c *CLI) Print(v any, grid func(*out.Printer) out.Grid) error {
	format, err := out.ParseFormat(c.Output)
	if err != nil {
		return err
	}
	width, terminal := c.width()
	p := &out.Printer{W: c.Out, Format: format, Width: width, Now: c.Now(), Color: terminal && c.Getenv("NO_COLOR") == "" && c.Getenv("TERM") != "dumb"}
	if err := p.Print(v, grid); err != nil {
		return err
	}
	if none := p.None(); none != "" {
		c.Say("no %s found", none)
	}
	if left := p.LeftOut(); terminal && len(left) > 0 {
		c.Say("not shown at this width: %s", strings.Join(left, ", "))
	}
	return nil
}

// width is how wide a table or a text may be, 0 if nothing bounds it, and whether it is a
// terminal that it is for.
func (c *CLI) width() (width int, terminal bool) {
	width, terminal = TerminalWidth(c.Out)
	if n, err := strconv.Atoi(c.Getenv("COLUMNS")); err == nil && n > 0 {
		width = n
	}
	return width, terminal
}

// Section prints one more table, after an empty line.
func (c *CLI) Section(grid func(*out.Printer) out.Grid) error {
	if err := c.Line(""); err != nil {
		return err
	}
	return c.Print(nil, grid)
}

// TerminalWidth gives the width of a terminal; anything else has none.
func TerminalWidth(w any) (int, bool) {
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
