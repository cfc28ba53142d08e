package cli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"crier/cmd/crier/out"
)

func init() { // the functions of cobra's templates are its package's
	cobra.AddTemplateFunc("foldIn", foldIn)
	cobra.AddTemplateFunc("foldLong", foldLong)
	cobra.AddTemplateFunc("foldBeside", func(padding, width int, s string) string { return foldIn(padding+3, width, s) })
}

// foldLong folds the lines that pflag has left too wide, which it does behind a word that
// is. They begin where the meaning of a flag stands.
func foldLong(width int, usages string) string {
	lines := strings.Split(usages, "\n")
	for i, l := range lines {
		if text := strings.TrimLeft(l, " "); width > 0 && len(l)-len(text) >= flagColumn {
			lines[i] = l[:len(l)-len(text)] + foldIn(len(l)-len(text), width, text)
		}
	}
	return strings.Join(lines, "\n")
}

// flagColumn is less than where the meaning of a flag stands.
const flagColumn = 10

// flagSlop is by how much pflag may make a line longer than it is told, in columns.
const flagSlop = 5

// Help lays the help of all commands out for the width of the terminal, or for COLUMNS; it
// folds nothing if neither is known.
func (c *CLI) Help(root *cobra.Command) {
	width, _ := TerminalWidth(c.Out)
	if n, err := strconv.Atoi(c.Getenv("COLUMNS")); err == nil && n > 0 {
		width = n
	}
	usage := strings.NewReplacer(
		"  {{.UseLine}}", fmt.Sprintf("  {{foldIn 4 %d .UseLine}}", width),
		"{{rpad .Name .NamePadding }} {{.Short}}", fmt.Sprintf("{{rpad .Name .NamePadding }} {{foldBeside .NamePadding %d .Short}}", width),
		".FlagUsages", fmt.Sprintf(".FlagUsagesWrapped %d | foldLong %d", max(0, width-flagSlop), width))
	root.SetUsageTemplate(usage.Replace(root.UsageTemplate()))
	root.SetHelpTemplate(strings.Replace(root.HelpTemplate(), "{{. | trimTrailingWhitespaces}}", fmt.Sprintf("{{. | trimTrailingWhitespaces | foldIn 0 %d}}", width), 1))
}

// foldIn folds text whose further lines stand so many columns to the right; a width of 0
// is no limit.
func foldIn(indent, width int, s string) string {
	if width <= 0 {
		return s
	}
	return strings.ReplaceAll(out.Fold(s, max(1, width-indent)), "\n", "\n"+strings.Repeat(" ", indent))
}
