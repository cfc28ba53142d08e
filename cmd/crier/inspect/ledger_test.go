package inspect

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"crier/api"
	"crier/api/apitest"
	"crier/cmd/crier/cli"
)

// ledgerOf is a server with some records in its ledger, and a verdict on it.
type ledgerOf struct {
	*apitest.Fake
	records int
	asked   api.TailLedger
	report  api.LedgerReport
}

func (l *ledgerOf) TailLedger(_ context.Context, req api.TailLedger, fn func(api.LedgerEntry) error) error {
	l.asked = req
	for n := range l.records {
		if err := fn(api.LedgerEntry{Seq: uint64(n) + 1, Subject: "led.job.a", Kind: "accepted", Time: time.Unix(0, 0), Detail: json.RawMessage("{\"a\":1}")}); err != nil {
			return err
		}
	}
	return nil
}

func (l *ledgerOf) VerifyLedger(context.Context) (api.LedgerReport, error) { return l.report, nil }

// run runs "crier ledger ARGS" and gives what it says.
func run(l *ledgerOf, args ...string) (code int, stdout, stderr string) {
	return runAny(l, append([]string{"ledger"}, args...)...)
}

// runAny runs "crier ARGS" on a server.
func runAny(svc api.Service, args ...string) (code int, stdout, stderr string) {
	var o, e bytes.Buffer
	c := &cli.CLI{In: strings.NewReader(""), Out: &o, Err: &e, Getenv: func(k string) string { return map[string]string{"CRIER_TOKEN": "k"}[k] }, Now: time.Now,
		Dial: func(string, string) (api.Service, error) { return svc, nil }}
	root := &cobra.Command{Use: "crier", SilenceErrors: true, SilenceUsage: true}
	root.PersistentFlags().StringVarP(&c.Output, "output", "o", "table", "")
	root.AddCommand(Ledger(c), Error(c), Events(c))
	code = c.Main(context.Background(), root, args)
	return code, o.String(), e.String()
}

func TestTail(t *testing.T) {
	l := &ledgerOf{Fake: apitest.New(), records: 2}
	code, stdout, _ := run(l, "tail", "--from", "7", "--filter", "led.job.>", "-f")
	if lines := strings.Split(strings.TrimSpace(stdout), "\n"); code != 0 || len(lines) != 2 || !strings.Contains(lines[1], "accepted") || !strings.Contains(lines[1], "led.job.a") {
		t.Errorf("%d: %s", code, stdout)
	}
	if l.asked != (api.TailLedger{From: 7, Filter: "led.job.>", Follow: true}) {
		t.Errorf("asked for %+v", l.asked)
	}
	var all []api.LedgerEntry
	if code, stdout, _ = run(l, "tail", "-o", "json"); code != 0 || json.Unmarshal([]byte(stdout), &all) != nil || len(all) != 2 || all[1].Seq != 2 {
		t.Errorf("as one value, %d: %s", code, stdout)
	}
	if code, stdout, _ = run(l, "tail", "-o", "jsonl", "-f"); code != 0 || strings.Count(stdout, "\n") != 2 || !json.Valid([]byte(strings.SplitN(stdout, "\n", 2)[0])) {
		t.Errorf("as lines, %d: %s", code, stdout)
	}
	if code, stdout, _ = run(&ledgerOf{Fake: apitest.New()}, "tail", "-o", "json"); code != 0 || strings.TrimSpace(stdout) != "[]" {
		t.Errorf("of an empty ledger, %d: %q", code, stdout)
	}
}

// What cannot be shown as it was asked for is refused with what can be.
func TestTailRefuses(t *testing.T) {
	l := &ledgerOf{Fake: apitest.New(), records: maxEntries + 1}
	for _, c := range []struct{ args, says string }{
		{"tail --filter led..a", "is no subject such as led.job.*"},
		{"tail -o json -f", "use -o jsonl"},
		{"tail -o yaml", "more than 100000 records are too many for -o yaml; use -o jsonl"},
		{"tail 7", "usage: crier ledger tail [--from N] [--filter SUBJECT] [--follow]"},
		{"tail --from x", "--from"},
		{"tali", "did you mean tail?"},
	} {
		if code, stdout, stderr := run(l, strings.Fields(c.args)...); code != cli.ExitUsage || stdout != "" || !strings.Contains(stderr, c.says) {
			t.Errorf("%s: %d, %s%s", c.args, code, stdout, stderr)
		}
	}
}

// A ledger that is not valid is shown with its problems, and fails scripts.
func TestVerify(t *testing.T) {
	l := &ledgerOf{Fake: apitest.New(), report: api.LedgerReport{Valid: true, Streams: []api.LedgerStream{{Name: "LEDGER", First: 1, Last: 9, Records: 9, Limit: 100}}}}
	if code, stdout, stderr := run(l, "verify"); code != 0 || !strings.Contains(stdout, "yes") || !strings.Contains(stdout, "ledger") || stderr != "" {
		t.Errorf("a valid one: %d, %s%s", code, stdout, stderr)
	}
	l.report.Valid, l.report.Problems = false, []string{"record 7: its chain is broken"}
	for _, output := range []string{"table", "json"} {
		code, stdout, stderr := run(l, "verify", "-o", output)
		if code != cli.ExitError || !strings.Contains(stdout, "record 7: its chain is broken") || stderr != "crier: the ledger is not valid\n" {
			t.Errorf("%s of a broken one: %d, %s%s", output, code, stdout, stderr)
		}
	}
}
