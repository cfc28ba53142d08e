package inspect

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"crier/api/problem"
	"crier/cmd/crier/cli"
	"crier/cmd/crier/out"
	"crier/job"
)

// fault is a code of the catalogue with the exit code of commands that end with it.
type fault struct {
	problem.Kind
	Exit int `json:"exit"`
}

// catalogue is all that can go wrong.
func catalogue() (all []fault) {
	for _, k := range problem.Kinds() {
		all = append(all, fault{k, cli.ExitOf(job.Code(k.Code))})
	}
	return all
}

// Error is the command that explains error codes, and the words for where recipients and
// jobs stand. It needs no server.
func Error(c *cli.CLI) *cobra.Command {
	cmd := c.Command("error [CODE|WORD]", "What an error code, a status of the API, an exit code, an outcome, a reason, or a state of a job or a member means; all error codes without one", cobra.MaximumNArgs(1),
		func(_ context.Context, args []string) error {
			if len(args) == 0 {
				return listErrors(c)
			}
			return explainError(c, args[0])
		})
	cmd.ValidArgs = known()
	return cmd
}

// known lists what can be explained by its name.
func known() []string {
	names := problem.Codes()
	for _, w := range job.Words() {
		if !slices.Contains(names, w.Word) {
			names = append(names, w.Word)
		}
	}
	return names
}

// words finds what a word means, which may be more than one thing; it may be written as a
// table shows it: "dropped: park cap", "sent (paused)", "WORKING, no answer".
func words(text string) (found []job.Word) {
	plain := strings.NewReplacer(" ", "_", "-", "_")
	if _, reason, ok := strings.Cut(text, ":"); ok {
		text = strings.TrimSpace(reason)
	}
	parts := strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune("(),", r) })
	for i, part := range parts {
		for _, w := range job.Words() {
			mark := strings.HasPrefix(w.Is, "mark ")
			if strings.EqualFold(plain.Replace(w.Word), plain.Replace(strings.TrimSpace(part))) && (i == 0 || mark) {
				found = append(found, w)
			}
		}
	}
	return found
}

func explainWords(c *cli.CLI, all []job.Word) error {
	return c.Print(all, func(*out.Printer) out.Grid {
		g := out.Grid{}
		for _, w := range all {
			g.Rows = append(g.Rows, []string{"word", w.Word + ", " + w.Is}, []string{"means", w.Means})
		}
		return g
	})
}

func listErrors(c *cli.CLI) error {
	all := catalogue()
	return c.Print(all, func(*out.Printer) out.Grid {
		g := out.Grid{}
		for _, f := range all {
			g.Rows = append(g.Rows, []string{f.Code, fmt.Sprintf("%d, exit code %d: %s", f.Status, f.Exit, f.Means)})
		}
		return g
	})
}

// explainError finds a code by its name, its status, or an exit code: statuses are above
// all exit codes; then a word.
func explainError(c *cli.CLI, code string) error {
	all := catalogue()
	status, _ := strconv.Atoi(code) // no code has the status 0
	if i := slices.IndexFunc(all, func(f fault) bool { return f.Code == code || f.Has(status) }); i >= 0 {
		f := all[i]
		statuses := strconv.Itoa(f.Status)
		for _, other := range f.Others {
			statuses += " or " + strconv.Itoa(other)
		}
		return c.Print(f, func(*out.Printer) out.Grid {
			return out.Grid{Rows: [][]string{{"code", f.Code}, {"status", statuses}, {"exit", strconv.Itoa(f.Exit)}, {"means", f.Means}, {"do", f.Do}}}
		})
	}
	exits := cli.Exits()
	i := slices.IndexFunc(exits, func(e cli.Exit) bool { return strconv.Itoa(e.Exit) == code })
	if found := words(code); i < 0 && len(found) > 0 {
		return explainWords(c, found)
	}
	if i < 0 {
		return job.NotFound(fmt.Sprintf("there is no code %q%s; the codes are %s, their statuses, the exit codes 0 to %d and %d, and the outcomes, reasons and states that crier job and crier member show",
			code, cli.Suggest(code, known()), strings.Join(problem.Codes(), ", "), cli.ExitNothing, cli.ExitInterrupt))
	}
	e := exits[i]
	return c.Print(e, func(*out.Printer) out.Grid {
		g := out.Grid{Rows: [][]string{{"exit", strconv.Itoa(e.Exit)}, {"means", e.Means}, {"do", e.Do}}}
		for _, f := range all {
			if f.Exit == e.Exit {
				g.Rows = append(g.Rows, []string{"code", f.Code + ": " + f.Means})
			}
		}
		return g
	})
}
