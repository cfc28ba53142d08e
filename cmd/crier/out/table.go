package out

import (
	"slices"
	"strings"
	"unicode"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// gap is the room between two columns; minFlex is what a column that gives way
// keeps at least, comfort what it keeps as long as there are others to leave out, room what
// goes on below has at least.
const (
	gap     = 2
	minFlex = 8
	comfort = 20
	room    = 30
)

// Render writes a grid as text.
func (p *Printer) Render(g Grid) string {
	if len(g.Columns) == 0 {
		g.Columns = []Column{{}, {Flex: 1, Wrap: true}} // cut short, values would be useless
		return p.render(g, false)
	}
	if len(g.Rows) == 0 {
		return ""
	}
	return p.render(g, true)
}

func (p *Printer) render(g Grid, header bool) string {
	for _, row := range g.Rows {
		for i := range row {
			row[i] = Clean(row[i])
		}
	}
	g = p.fit(g)
	t := table.NewWriter()
	style := table.Style{Name: "plain", Box: table.BoxStyle{PaddingRight: strings.Repeat(" ", gap), UnfinishedRow: "…"}, Format: table.FormatOptions{Header: text.FormatUpper}}
	t.SetStyle(style)
	configs := make([]table.ColumnConfig, len(g.Columns))
	names := make(table.Row, len(g.Columns))
	for i, c := range g.Columns {
		names[i] = c.Name
		configs[i].Number = i + 1
		if c.Right {
			configs[i].Align, configs[i].AlignHeader = text.AlignRight, text.AlignRight
		}
	}
	t.SetColumnConfigs(configs)
	if header {
		t.AppendHeader(names)
	}
	for _, row := range g.Rows {
		cells := make(table.Row, len(row))
		for i, s := range row {
			cells[i] = s
			if g.Columns[i].State || !header && i == 1 && slices.Contains(g.States, row[0]) {
				cells[i] = p.paint(s)
			}
		}
		t.AppendRow(cells)
	}
	lines := strings.Split(t.Render(), "\n")
	for i, l := range lines {
		lines[i] = strings.TrimRight(l, " ")
	}
	if g.below != nil {
		lines = g.interleave(lines, header)
	}
	return strings.Join(lines, "\n") + "\n"
}

// interleave puts what stands below the rows between the lines of a table.
func (g Grid) interleave(lines []string, header bool) []string {
	at := 0
	if header {
		at = 1
	}
	all := lines[:at:at]
	for i, row := range g.Rows {
		height := 1
		for _, cell := range row {
			height = max(height, strings.Count(cell, "\n")+1)
		}
		all = append(append(all, lines[at:at+height]...), g.below[i]...)
		at += height
	}
	return all
}

// widths are the widest cells of a grid's columns, the names included.
func widths(g Grid) []int {
	each := make([]int, len(g.Columns))
	for i, c := range g.Columns {
		each[i] = text.StringWidth(c.Name)
		for _, row := range g.Rows {
			each[i] = max(each[i], text.StringWidth(row[i]))
		}
	}
	return each
}

// taken is the width of a table whose columns have these widths.
func taken(each []int) int {
	total := gap * (len(each) - 1)
	for _, w := range each {
		total += w
	}
	return total
}

// fit makes a grid fit the width, as far as its columns give way: it puts columns that may
// stand there below the rows, and leaves out wide ones, each from the right, if there is no
// room for them even when the ones that give way first are down to comfort; then it cuts
// those short, or folds them, and in the end the others that may be.
func (p *Printer) fit(g Grid) Grid {
	if p.Width <= 0 {
		return g
	}
	for i := len(g.Columns) - 1; i >= 0 && !p.comfortable(g); i-- {
		if g.Columns[i].Below {
			g = p.lowered(g, i)
		}
	}
	for i := len(g.Columns) - 1; i >= 0 && !p.comfortable(g); i-- {
		if g.Columns[i].Wide {
			p.left = append([]string{strings.ToUpper(g.Columns[i].Name)}, p.left...)
			g = without(g, i)
		}
	}
	each := widths(g)
	for level := 1; level <= 2; level++ {
		for taken(each) > p.Width {
			widest := -1
			for i, c := range g.Columns {
				if c.Flex == level && each[i] > max(minFlex, text.StringWidth(c.Name)) && (widest < 0 || each[i] > each[widest]) {
					widest = i
				}
			}
			if widest < 0 {
				break
			}
			each[widest]--
		}
	}
	for at, row := range g.Rows {
		for i := range row {
			folded, lower := Fold(row[i], each[i]), Fold(row[i], p.Width-gap)
			switch {
			case !g.Columns[i].Wrap:
				row[i] = text.Snip(row[i], each[i], "…")
			case g.Columns[i].Name == "" && text.LongestLineLen(folded) > each[i] && text.LongestLineLen(lower) <= p.Width-gap:
				g = g.withBelow() // a word of it has just room below its name
				g.below[at] = strings.Split(indent+strings.ReplaceAll(lower, "\n", "\n"+indent), "\n")
				row[i] = ""
			default:
				row[i] = folded
			}
		}
	}
	return g
}

// indent is before what stands below a row.
var indent = strings.Repeat(" ", gap)

// withBelow gives a grid with room for lines below its rows.
func (g Grid) withBelow() Grid {
	if g.below == nil {
		g.below = make([][]string, len(g.Rows))
	}
	return g
}

// Fold breaks lines that are wider than a width, at words; a word that is wider stays
// whole, for it may be there to be copied. A width of 0 is no limit.
func Fold(s string, width int) string {
	var lines []string
	for l := range strings.SplitSeq(s, "\n") {
		if width <= 0 || text.StringWidth(l) <= width {
			lines = append(lines, l)
			continue
		}
		line := ""
		for _, word := range strings.Fields(l) {
			switch {
			case line == "":
				line = word
			case text.StringWidth(line)+1+text.StringWidth(word) > width:
				lines = append(lines, line)
				line = word
			default:
				line += " " + word
			}
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

// Hang folds a line that is wider than a width and keeps the blanks within it: what does
// not fit goes on below, from a column on, or further left if there is hardly room. A width
// of 0 is no limit.
func Hang(s string, width, column int) string {
	if width <= 0 || text.StringWidth(s) <= width {
		return s
	}
	column = max(0, min(column, width-room))
	at, end := 0, -1
	for i, r := range s {
		if r == ' ' && at <= width && strings.Trim(s[:i], " ") != "" && !strings.HasSuffix(s[:i], " ") {
			end = i
		}
		at += text.RuneWidth(r)
	}
	if end < 0 { // a word that is wider
		lead := len(s) - len(strings.TrimLeft(s, " "))
		if end = strings.IndexByte(s[lead:], ' ') + lead; end < lead {
			return s
		}
	}
	rest := strings.TrimLeft(s[end:], " ")
	below := "\n" + strings.Repeat(" ", column)
	return s[:end] + below + strings.ReplaceAll(Hang(rest, width-column, 0), "\n", below)
}

// comfortable reports whether a grid fits when the columns that give way first are down to
// comfort.
func (p *Printer) comfortable(g Grid) bool {
	least := widths(g)
	for k, c := range g.Columns {
		if c.Flex == 1 {
			least[k] = min(least[k], max(comfort, text.StringWidth(c.Name)))
		}
	}
	return taken(least) <= p.Width
}

// lowered gives a grid with one column below its rows, where it is not empty.
func (p *Printer) lowered(g Grid, at int) Grid {
	g = g.withBelow()
	for i, row := range g.Rows {
		if row[at] != "" {
			text := Fold(g.Columns[at].Name+": "+row[at], p.Width-2*gap)
			g.below[i] = append(strings.Split(indent+strings.ReplaceAll(text, "\n", "\n"+indent+indent), "\n"), g.below[i]...)
		}
	}
	return without(g, at)
}

// without gives a grid without one column.
func without(g Grid, at int) Grid {
	cut := Grid{below: g.below, Columns: append(append([]Column{}, g.Columns[:at]...), g.Columns[at+1:]...)}
	for _, row := range g.Rows {
		cut.Rows = append(cut.Rows, append(append([]string{}, row[:at]...), row[at+1:]...))
	}
	return cut
}

// The colours of words that tell how well something goes (ECMA-48).
const (
	red, green, yellow, cyan = "31", "32", "33", "36"
)

var stateColors = map[string]string{
	"sent": green, "completed": green, "healthy": green, "yes": green, "delivered": green,
	"WORKING": green, "JOINING": cyan, "ONLINE": cyan, "SILENCE": yellow, "OFFLINE": red, "unreachable": red, "lapsed": red, "no answer": red,
	"sending": cyan, "paused": yellow, "held": yellow, "parked": yellow,
	"failed": red, "cancelled": red, "quarantined": red, "no": red, "not healthy": red, "in_doubt": red,
}

// paint colours a word that is a state; what stands in brackets behind it comes first.
func (p *Printer) paint(s string) string {
	word, more, _ := strings.Cut(strings.ReplaceAll(s, "\n", " "), " (")
	color, ok := stateColors[strings.TrimSuffix(more, ")")]
	if !ok {
		color, ok = stateColors[word]
	}
	if !p.Color || !ok {
		return s
	}
	lines := strings.Split(s, "\n") // the cells beside it stand between them
	for i, l := range lines {
		lines[i] = "\x1b[" + color + "m" + l + "\x1b[0m"
	}
	return strings.Join(lines, "\n")
}

// Clean makes text from elsewhere harmless: a character that does not print
// becomes U+FFFD.
func Clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}
