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
	cobra.AddTemplateFunc("flagUsages", flagUsages)
	cobra.AddTemplateFunc("refold", refold)
	cobra.AddTemplateFunc("foldBeside", func(padding, width int, s string) string { return foldIn(padding+3, width, s) })
}

// proseWidth is how wide a help is where no width is known.
const proseWidth = 80

// Help lays the help of all commands out for the width of the terminal, or for COLUMNS; if
// neither is known, for proseWidth.
func (c *CLI) Help(root *cobra.Command) {
	width, _ := c.width()
	width = cmp.Or(width, proseWidth)
	usage := strings.NewReplacer(
		"  {{.UseLine}}", fmt.Sprintf("  {{foldIn 4 %d .UseLine}}", width),
		"{{rpad .Name .NamePadding }} {{.Short}}", fmt.Sprintf("{{rpad .Name .NamePadding }} {{foldBeside .NamePadding %d .Short}}", width),
		".LocalFlags.FlagUsages", fmt.Sprintf("flagUsages %d .LocalFlags", width),
		".InheritedFlags.FlagUsages", fmt.Sprintf("flagUsages %d .InheritedFlags", width))
	root.SetUsageTemplate(usage.Replace(root.UsageTemplate()))
	root.SetHelpTemplate(strings.Replace(root.HelpTemplate(), "{{. | trimTrailingWhitespaces}}", fmt.Sprintf("{{. | trimTrailingWhitespaces | refold %d}}", width), 1))
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
