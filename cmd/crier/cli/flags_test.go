package cli

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// A flag is listed with what its value is called, never with a type of a program, and what it
// means is folded beside it.
func TestFlagUsages(t *testing.T) {
	f := pflag.NewFlagSet("x", pflag.ContinueOnError)
	f.StringArray("include", nil, "segment: who is in none of those to include gets nothing; may be repeated")
	f.Duration("stuck-crit", time.Hour, "critical if a job has not gone on for so long")
	f.Duration("within", 10*time.Second, "how long")
	f.Uint8P("priority", "p", 50, "1 to 99")
	f.Bool("force", false, "replace others")
	f.String("wait", "", "until it is sent")
	f.Lookup("wait").NoOptDefVal = "sent"
	f.String("limit-ledger", "0B", "size of the ledger")
	f.String("a-name-that-is-long-by-all-means-url", "", "where")
	f.String("zone", "a b", "some `PLACE` on earth")
	f.String("gone", "", "hidden")
	f.Lookup("gone").Hidden = true
	want := `      --a-name-that-is-long-by-all-means-url URL
                           where
      --force              replace others
      --include SEGMENT    segment: who is in none
                           of those to include gets
                           nothing; may be repeated
      --limit-ledger SIZE  size of the ledger
  -p, --priority N         1 to 99 (default 50)
      --stuck-crit TIME    critical if a job has
                           not gone on for so long
                           (default 1h)
      --wait[=sent]        until it is sent
      --within TIME        how long (default 10s)
      --zone PLACE         some PLACE on earth
                           (default "a b")
`
	got := flagUsages(51, f)
	for _, no := range []string{"stringArray", "duration", "uint8", "string ", "0B", "hidden"} {
		if strings.Contains(got, no) {
			t.Errorf("%q is in\n%s", no, got)
		}
	}
	for i, line := range strings.Split(got, "\n") {
		if len(line) > 51 {
			t.Errorf("line %d is too wide: %s", i, line)
		}
	}
	if got != want {
		t.Errorf("it is\n%s\nwant\n%s", got, want)
	}
}

// Who leaves out a flag that is needed is told which, what it is, and how the command is used.
func TestMissingFlags(t *testing.T) {
	cmd := &cobra.Command{Use: "send --to WHOM --body TEXT", DisableFlagsInUseLine: true, SilenceErrors: true, SilenceUsage: true, RunE: func(*cobra.Command, []string) error { return nil }}
	cmd.Flags().String("account", "", "name of the account; or its id")
	cmd.Flags().String("body", "", "the message")
	_ = cmd.MarkFlagRequired("account")
	_ = cmd.MarkFlagRequired("body")
	cmd.SetOut(io.Discard)
	for args, want := range map[string]string{
		"":         "send needs --account ACCOUNT (name of the account) and --body BODY (the message); usage: send --to WHOM --body TEXT",
		"--body x": "send needs --account ACCOUNT (name of the account); usage: send --to WHOM --body TEXT",
	} {
		cmd.Flags().VisitAll(func(f *pflag.Flag) { f.Changed = false })
		cmd.SetArgs(strings.Fields(args))
		if err := missing(cmd, cmd.Execute()); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", args, err, want)
		}
	}
	if other := errors.New("another"); missing(cmd, other) != other || missing(cmd, nil) != nil {
		t.Error("another error is changed")
	}
}
