package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"crier/api"
	"crier/api/apitest"
	"crier/api/problem"
	"crier/cmd/crier/out"
	"crier/internal/auth"
	"crier/job"
)

// terminal is a CLI over buffers, with what it dialled.
type terminal struct {
	*CLI
	out, err bytes.Buffer
	env      map[string]string
	fake     *apitest.Fake
	dialled  []string // server and key
}

func newTerminal() *terminal {
	x := &terminal{env: map[string]string{}, fake: apitest.New()}
	x.CLI = &CLI{In: strings.NewReader(""), Out: &x.out, Err: &x.err, Getenv: func(k string) string { return x.env[k] }, Now: time.Now, Output: "table",
		Dial: func(server, key string) (api.Service, error) {
			x.dialled = []string{server, key}
			return x.fake, nil
		}}
	return x
}

// root is a command line with one command that ends as it is told.
func (x *terminal) root(do func(context.Context, []string) error) *cobra.Command {
	root := &cobra.Command{Use: "crier", SilenceErrors: true, SilenceUsage: true}
	root.PersistentFlags().StringVarP(&x.Output, "output", "o", "table", "")
	cancel := x.Command("cancel JOB", "End a job", cobra.ExactArgs(1), do)
	cancel.Flags().String("to", "", "")
	cancel.Flags().String("hook", "", "")
	Names(cancel, "hook", "/webhook/url")
	root.AddCommand(x.Group("job", "Jobs", cancel))
	return root
}

// Scripts act on the exit code; a reader acts on the one line on standard error, which
// says how to call the command only to who called it wrongly.
func TestExitCodesAndMessages(t *testing.T) {
	interrupted, cancel := context.WithCancel(context.Background())
	cancel()
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
	for name, c := range map[string]struct {
		ctx  context.Context
		args string
		err  error
		code int
		says string
	}{
		"nothing wrong":        {args: "job cancel 7"},
		"an unknown command":   {args: "job cancle", code: ExitUsage, says: "crier: crier job has no command \"cancle\"; did you mean cancel?\nTry \"crier job --help\".\n"},
		"nothing like it":      {args: "job zzzzzzzz", code: ExitUsage, says: "crier: crier job has no command \"zzzzzzzz\"\nTry \"crier job --help\".\n"},
		"too few arguments":    {args: "job cancel", code: ExitUsage, says: "crier: crier job cancel takes 1 argument, and got none; usage: crier job cancel JOB\nTry \"crier job cancel --help\".\n"},
		"too many arguments":   {args: "job cancel 7 8", code: ExitUsage, says: "crier: crier job cancel takes 1 argument, and got 2: [\"7\" \"8\"]; usage: crier job cancel JOB\nTry \"crier job cancel --help\".\n"},
		"an unknown flag":      {args: "job cancel 7 --fast", code: ExitUsage, says: "crier: unknown flag: --fast\nTry \"crier job cancel --help\".\n"},
		"an unknown format":    {args: "job cancel 7 -o xml", code: ExitUsage, says: "xml"},
		"not there":            {args: "job cancel 7", err: job.NotFound("there is no job 7"), code: ExitNotFound, says: "crier: there is no job 7\n"},
		"a bad field":          {args: "job cancel 7", err: job.Invalid("priority", "0 is too low", nil), code: ExitUsage, says: "crier: 0 is too low (priority)\n"},
		"a field, first":       {args: "job cancel 7 --to x", err: job.Invalid("to", "to: x is not empty", nil), code: ExitUsage, says: "crier: --to: x is not empty\n"},
		"a field by a pointer": {args: "job cancel 7", err: job.Invalid("/webhook/url", "it cannot be read", nil), code: ExitUsage, says: "crier: --hook: it cannot be read\n"},
		"a server's answer":    {args: "job cancel 7", err: fmt.Errorf("asking: %w", problem.Of(job.Conflict("it is over")).Err()), code: ExitConflict, says: "crier: asking: it is over (see: crier error conflict)\n"},
		"a server's trouble":   {args: "job cancel 7", err: problem.Of(errors.New("the inside")).Err(), code: ExitError, says: " (see: crier error internal)"},
		"a field that it has":  {args: "job cancel 7", err: job.Invalid("priority", "Priority 0 is too low", nil), code: ExitUsage, says: "crier: Priority 0 is too low\n"},
		"too large":            {args: "job cancel 7", err: &job.Error{Code: job.CodeTooLarge, Message: "x"}, code: ExitUsage, says: "crier: x\n"},
		"denied":               {args: "job cancel 7", err: &job.Error{Code: job.CodeDenied, Message: "x"}, code: ExitAuth, says: "crier: x\n"},
		"a conflict":           {args: "job cancel 7", err: fmt.Errorf("cancelling: %w", &job.Error{Code: job.CodeConflict, Message: "x"}), code: ExitConflict, says: "crier: cancelling: x\n"},
		"unavailable":          {args: "job cancel 7", err: job.Unavailable("x"), code: ExitRetry, says: "crier: x\n"},
		"no server":            {args: "job cancel 7", err: fmt.Errorf("asking: %w", &job.Error{Code: job.CodeUnavailable, Message: "no server answers at http://127.0.0.1:7420", Err: refused}), code: ExitRetry, says: "crier: asking: no server answers at http://127.0.0.1:7420: dial tcp: connection refused; start one with \"crier serve\", or name one with --server or CRIER_SERVER\n"},
		"another's server":     {args: "job cancel 7", err: &job.Error{Code: job.CodeUnavailable, Message: "no server answers at http://127.0.0.1:9", Err: refused}, code: ExitRetry, says: "crier: no server answers at http://127.0.0.1:9: dial tcp: connection refused\n"},
		"limited":              {args: "job cancel 7", err: &job.Error{Code: job.CodeLimited, Message: "x"}, code: ExitRetry, says: "crier: x\n"},
		"full":                 {args: "job cancel 7", err: &job.Error{Code: job.CodeFull, Message: "x"}, code: ExitRetry, says: "crier: x\n"},
		"any error":            {args: "job cancel 7", err: errors.New("the disk is gone"), code: ExitError, says: "crier: the disk is gone\n"},
		"its own code":         {args: "job cancel 7", err: Exiting(ExitJob, errors.New("the job failed")), code: ExitJob, says: "crier: the job failed\n"},
		"its own, all said":    {args: "job cancel 7", err: Ending(ExitNothing), code: ExitNothing},
		"its own over that":    {args: "job cancel 7", err: Exiting(ExitThreshold, job.NotFound("x")), code: ExitThreshold, says: "crier: x\n"},
		"usage, found late":    {args: "job cancel 7", err: Usage("%d is no job", 7), code: ExitUsage, says: "crier: 7 is no job\n"},
		"interrupted":          {ctx: interrupted, args: "job cancel 7", err: fmt.Errorf("waiting: %w", context.Canceled), code: ExitInterrupt},
		"its end, as it was":   {ctx: interrupted, args: "job cancel 7", err: errors.New("the disk is gone"), code: ExitError, says: "crier: the disk is gone\n"},
	} {
		t.Run(name, func(t *testing.T) {
			x := newTerminal()
			ctx := c.ctx
			if ctx == nil {
				ctx = context.Background()
			}
			code := x.Main(ctx, x.root(func(context.Context, []string) error { return c.err }), strings.Fields(c.args))
			says := x.err.String()
			whole := c.says == "" || strings.HasSuffix(c.says, "\n")
			if code != c.code || whole && says != c.says || !strings.Contains(says, c.says) {
				t.Errorf("exit code %d, want %d; it says\n%swant\n%s", code, c.code, says, c.says)
			}
			if x.out.Len() > 0 {
				t.Errorf("on standard output: %s", x.out.String())
			}
		})
	}
	if Exiting(ExitJob, nil) != nil || Ending(ExitOK) != nil {
		t.Error("nothing wrong is an error")
	}
}

// How many arguments a command takes is found out from what it accepts.
func TestTakes(t *testing.T) {
	for want, args := range map[string]cobra.PositionalArgs{"no arguments": cobra.NoArgs, "1 argument": cobra.ExactArgs(1), "2 arguments": cobra.ExactArgs(2),
		"at least 1 argument": cobra.MinimumNArgs(1), "at most 1 argument": cobra.MaximumNArgs(1)} {
		if got := takes(&cobra.Command{}, args); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// The admin key of this machine is shown to servers on it, and to no other.
func TestTheKeyStaysOnThisMachine(t *testing.T) {
	data := t.TempDir()
	keys, err := auth.Open(auth.Config{Data: data})
	if err != nil {
		t.Fatal(err)
	}
	key, err := keys.AdminKey()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		flag, env, token string
		server, key      string
	}{
		"by default":           {server: "http://127.0.0.1:7420", key: key},
		"another port here":    {flag: "http://localhost:9", server: "http://localhost:9", key: key},
		"here by IPv6":         {flag: "http://[::1]:9", server: "http://[::1]:9", key: key},
		"of no host":           {flag: "http://0.0.0.0:9", server: "http://0.0.0.0:9", key: key},
		"of no host, by IPv6":  {flag: "http://[::]:9", server: "http://[::]:9", key: key},
		"elsewhere":            {flag: "https://crier.example", server: "https://crier.example"},
		"named like this one":  {flag: "http://localhost.example", server: "http://localhost.example"},
		"as the user":          {flag: "http://127.0.0.1@crier.example", server: "http://127.0.0.1@crier.example"},
		"no URL":               {flag: "http://%", server: "http://%"},
		"elsewhere, with one":  {flag: "https://crier.example", token: "k", server: "https://crier.example", key: "k"},
		"here, with another":   {token: "k", server: "http://127.0.0.1:7420", key: "k"},
		"from the environment": {env: "https://crier.example", server: "https://crier.example"},
		"a flag goes first":    {flag: "http://localhost:9", env: "https://crier.example", server: "http://localhost:9", key: key},
	} {
		x := newTerminal()
		x.DataDir, x.Server, x.env["CRIER_SERVER"], x.env["CRIER_TOKEN"] = data, c.flag, c.env, c.token
		if _, err := x.Service(); err != nil || x.dialled[0] != c.server || x.dialled[1] != c.key {
			t.Errorf("%s: %v, %d bytes of a key, %v", name, x.dialled[0], len(x.dialled[1]), err)
		}
	}
	x := newTerminal()
	x.DataDir = filepath.Join(data, "nothing")
	if _, err := x.Service(); err != nil || x.dialled[1] != "" {
		t.Errorf("without a key: %v", err)
	}
}

// Data is printed as the format says; a terminal that is a buffer has no width.
func TestPrint(t *testing.T) {
	grid := func(p *out.Printer) out.Grid {
		return out.Grid{Rows: [][]string{{"width", fmt.Sprint(p.Width, p.Color)}}}
	}
	for name, c := range map[string]struct{ output, columns, want string }{
		"a table":          {"table", "", "0 false"},
		"a table that is":  {"table", "72", "72 false"},
		"a bad width":      {"table", "wide", "0 false"},
		"no width at all":  {"table", "-3", "0 false"},
		"a value":          {"json", "", "\"a\": 1"},
		"a value, as YAML": {"yaml", "", "a: 1"},
	} {
		x := newTerminal()
		x.Output, x.env["COLUMNS"] = c.output, c.columns
		if err := x.Print(map[string]int{"a": 1}, grid); err != nil || !strings.Contains(x.out.String(), c.want) {
			t.Errorf("%s: %v\n%s", name, err, x.out.String())
		}
	}
	x := newTerminal()
	x.Output = "xml"
	if err := x.Print(1, grid); err == nil || x.out.Len() > 0 {
		t.Errorf("an unknown format: %v, %s", err, x.out.String())
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if w, ok := TerminalWidth(f); ok {
		t.Errorf("a file is a terminal of width %d", w)
	}
}

// Completion asks the server and keeps quiet if there is none.
func TestCompletion(t *testing.T) {
	x := newTerminal()
	cmd := &cobra.Command{}
	if _, err := x.fake.CreateAccount(t.Context(), api.CreateAccount{Name: "news"}); err != nil {
		t.Fatal(err)
	}
	words, how := x.CompleteAccounts(cmd, nil, "")
	if len(words) != 1 || words[0] != "news" || how&cobra.ShellCompDirectiveNoFileComp == 0 {
		t.Errorf("%v, %v", words, how)
	}
	if words, how := x.CompleteAccounts(cmd, []string{"news"}, ""); words != nil || how != cobra.ShellCompDirectiveDefault {
		t.Errorf("after the account: %v, %v", words, how)
	}
	x.fake.Fail = func(string) error { return job.Unavailable("it is down") }
	for name, complete := range map[string]func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective){
		"jobs": x.CompleteJobs, "members": x.CompleteMembers, "accounts": x.CompleteAccounts} {
		if words, how := complete(cmd, nil, ""); words != nil || how != cobra.ShellCompDirectiveNoFileComp || x.err.Len() > 0 {
			t.Errorf("%s of a server that is down: %v, %v, %s", name, words, how, x.err.String())
		}
	}
}

// Text that was broken for another width is joined to paragraphs, whose lines are as full as
// they can be; what stands further in keeps to itself.
func TestRefold(t *testing.T) {
	text := "It does\nthis, and that.\n\nThere are:\n\n  one  of the kind\n       that is first\n  two\n\nEnd."
	for width, want := range map[int]string{
		0:  text,
		80: "It does this, and that.\n\nThere are:\n\n  one  of the kind that is first\n  two\n\nEnd.",
		18: "It does this, and\nthat.\n\nThere are:\n\n  one  of the kind\nthat is first\n  two\n\nEnd.", // no room beside it
		40: "It does this, and that.\n\nThere are:\n\n  one  of the kind that is first\n  two\n\nEnd.",
	} {
		if got := refold(width, text); got != want {
			t.Errorf("at %d columns it is\n%s\nwant\n%s", width, got, want)
		}
	}
}
