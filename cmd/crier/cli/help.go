package cli

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"crier/cmd/crier/out"
)

func init() { // the functions of cobra's templates are its package's
	cobra.AddTemplateFunc("foldIn", foldIn)
	cobra.AddTemplateFunc("foldLong", foldLong)
	cobra.AddTemplateFunc("refold", refold)
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

// proseWidth is how wide the text of a help is where no width is known.
const proseWidth = 80

// Help lays the help of all commands out for the width of the terminal, or for COLUMNS. If
// neither is known it folds the text for proseWidth, and nothing else.
func (c *CLI) Help(root *cobra.Command) {
	width, _ := c.width()
	usage := strings.NewReplacer(
		"  {{.UseLine}}", fmt.Sprintf("  {{foldIn 4 %d .UseLine}}", width),
		"{{rpad .Name .NamePadding }} {{.Short}}", fmt.Sprintf("{{rpad .Name .NamePadding }} {{foldBeside .NamePadding %d .Short}}", width),
		".FlagUsages", fmt.Sprintf(".FlagUsagesWrapped %d | foldLong %d", max(0, width-flagSlop), width))
	root.SetUsageTemplate(usage.Replace(root.UsageTemplate()))
	root.SetHelpTemplate(strings.Replace(root.HelpTemplate(), "{{. | trimTrailingWhitespaces}}", fmt.Sprintf("{{. | trimTrailingWhitespaces | refold %d}}", cmp.Or(width, proseWidth)), 1))
}

// foldIn folds text whose further lines stand so many columns to the right; a width of 0
// is no limit.
func foldIn(indent, width int, s string) string {
	if width <= 0 {
		return s
	}
	return strings.ReplaceAll(out.Fold(s, max(1, width-indent)), "\n", "\n"+strings.Repeat(" ", indent))
}

// refold lays out text whose lines were broken for another width. Lines that are flush left
// are joined to paragraphs. One that stands further in begins anew, and takes in those that
// stand further in still, as the text beside a word in a list does.
func refold(width int, s string) string {
	if width <= 0 {
		return s
	}
	var done []string
	text, indent, hang := "", 0, 0
	end := func() {
		if text != "" {
			done = append(done, out.Hang(text, width, hang))
		}
		text = ""
	}
	for line := range strings.SplitSeq(s, "\n") {
		words := strings.TrimLeft(line, " ")
		in := len(line) - len(words)
		switch {
		case words == "":
			end()
			done = append(done, "")
		case text != "" && (in > indent || in == 0 && indent == 0):
			text += " " + words
			hang = in
		default:
			end()
			text, indent, hang = line, in, in
		}
	}
	end()
	return strings.Join(done, "\n")
}
