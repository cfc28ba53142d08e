package inspect

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"

	"crier/api/problem"
	"crier/cmd/crier/cli"
)

// constants reads the constants with a prefix out of a source file, so that one that is
// added there must come into the catalogue.
func constants(t *testing.T, file, prefix string) map[string]string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, prefix) || len(spec.Values) != 1 {
			return true
		}
		if lit, ok := spec.Values[0].(*ast.BasicLit); ok {
			found[spec.Names[0].Name] = strings.Trim(lit.Value, `"`)
		}
		return true
	})
	return found
}

// Every code that is declared is in the catalogue, and each exit code.
func TestTheCatalogueIsWhole(t *testing.T) {
	codes := constants(t, "../../../job/error.go", "Code")
	if len(codes) < 8 {
		t.Fatalf("only %v were found", codes)
	}
	for name, code := range constants(t, "../../../api/problem/catalogue.go", "Code") {
		codes[name] = code
	}
	for name, code := range codes {
		k, ok := problem.Lookup(code)
		if !ok || k.Status < 400 || k.Status > 599 || k.Means == "" || k.Do == "" {
			t.Errorf("%s (%s) is %+v in the catalogue", name, code, k)
		}
		delete(codes, name)
		for other, same := range codes {
			if same == code {
				t.Errorf("%s and %s are one code", name, other)
			}
		}
	}
	exits := constants(t, "../cli/exit.go", "Exit")
	if len(exits) < 11 || len(exits) != len(cli.Exits()) {
		t.Errorf("%d exit codes are declared, %d explained", len(exits), len(cli.Exits()))
	}
	for name, exit := range exits {
		found := 0
		for _, e := range cli.Exits() {
			if strconv.Itoa(e.Exit) == exit && e.Means != "" && e.Do != "" {
				found++
			}
		}
		if found != 1 {
			t.Errorf("%s is explained %d times", name, found)
		}
	}
}

func TestErrorExplains(t *testing.T) {
	for args, says := range map[string]string{
		"storage_full": "limits.ledger if the error names the ledger; crier check", "400": "422 or 400 or 415", "415": "invalid", "401": "CRIER_TOKEN", "open": "state of a journal", "sealed": "state of a journal", "507": "storage_full", "6": "unavailable: ", "130": "interrupted", "not_found": "another tenant",
		"park_cap": "than parking.cap allows", "dropped: park cap": "than parking.cap allows", "failed:refused": "refused the message for good", "handed off": "not acknowledged yet", "awaiting-approval": "has to approve",
		"failed": "state of a job", "quarantined": "crier job resume",
		"withdrawn": "off the display", "withdrawal": "takes back", "being withdrawn": "next login", "sent (paused)": "Nothing of what is parked", "sent (withdrawal)": "takes back",
		"WORKING": "takes work", "silence": "takes nothing new", "WORKING, no answer": "may be gone", "lapsed": "for a day", "unknown": "state of a member",
	} {
		if code, stdout, stderr := runAny(nil, "error", args); code != 0 || !strings.Contains(stdout, says) {
			t.Errorf("%s: %d, %s%s; want %q", args, code, stdout, stderr, says)
		}
	}
	code, stdout, _ := runAny(nil, "error", "-o", "json")
	var all []struct {
		Code   string
		Status int
		Exit   *int
	}
	if err := json.Unmarshal([]byte(stdout), &all); code != 0 || err != nil || len(all) != len(problem.Codes()) || all[0].Exit == nil {
		t.Errorf("all: %d, %v, %s", code, err, stdout)
	}
	for args, says := range map[string]string{"not_fuond": "did you mean not_found?", "7.5": "there is no code", "404 405": "usage: crier error [CODE|WORD]"} {
		code, stdout, stderr := runAny(nil, append([]string{"error"}, strings.Fields(args)...)...)
		if want := map[bool]int{true: cli.ExitUsage, false: cli.ExitNotFound}[strings.Contains(args, " ")]; code != want || stdout != "" || !strings.Contains(stderr, says) {
			t.Errorf("%s: %d, %s%s; want %q", args, code, stdout, stderr, says)
		}
	}
}
