// Package out is how the command line shows things: data on standard output as a
// table, JSON, JSON lines or YAML, and progress on standard error.
//
// It guarantees that JSON and YAML hold the raw values with the API's field
// names, that a table fits the given width as far as its columns can give way,
// and that text which came from elsewhere cannot steer a terminal.
package out

import (
	"bytes"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"gopkg.in/yaml.v3"

	"crier/api/wire"
	"crier/job"
)

// Format is how data is shown.
type Format string

// The formats.
const (
	Table Format = "table"
	JSON  Format = "json"
	Lines Format = "jsonl"
	YAML  Format = "yaml"
)

// Formats lists them.
func Formats() []string { return []string{string(Table), string(JSON), string(Lines), string(YAML)} }

// ParseFormat reads a format's name.
func ParseFormat(s string) (Format, error) {
	for _, f := range Formats() {
		if s == f {
			return Format(s), nil
		}
	}
	return "", job.Invalid("output", fmt.Sprintf("output %q: want one of %s", s, strings.Join(Formats(), ", ")), nil)
}

// Printer shows data in one format.
type Printer struct {
	W      io.Writer
	Format Format
	// Width is the number of columns that a table may take; 0 is no limit.
	Width int
	// Color allows colours in tables.
	Color bool
	// Now is what times are relative to in tables.
	Now time.Time

	left []string // of the last table
	none string   // of the last table, if it is empty
}

// None names what the last table would have listed if there were any; "" if it has rows.
func (p *Printer) None() string { return p.none }

// LeftOut names the columns for which the last table had no room.
func (p *Printer) LeftOut() []string { return p.left }

// Grid is what a table shows: rows under a header, or pairs of a name and a value
// if there is no header.
type Grid struct {
	// Of is what a table lists, such as jobs; it is said if there are none.
	Of      string
	Columns []Column
	Rows    [][]string
	// States are the names, of a grid without a header, whose values tell how well
	// something goes: they have colours.
	States []string

	below [][]string // of each row, the lines that stand below it
}

// Column is one column of a table.
type Column struct {
	Name  string
	Right bool // flush right: numbers
	Wide  bool // left out if the table does not fit
	Flex  int  // 1: may be cut short to fit; 2: so, but after those with 1
	State bool // tells how well something goes: its words have colours
	Wrap  bool // goes on in a further line, at a word, instead of being cut short
	Below bool // stands in a line of its own below its row, with its name, if the table does not fit
}

// Print shows v, which may be a slice: JSON is then an array, JSON lines are one
// element a line. grid is asked for the table.
func (p *Printer) Print(v any, grid func(*Printer) Grid) error {
	p.left, p.none = nil, ""
	switch p.Format {
	case JSON:
		return p.printJSON(v, jsontext.WithIndent("  "))
	case Lines:
		return p.printLines(v)
	case YAML:
		return p.printYAML(v)
	}
	g := grid(p)
	if len(g.Columns) > 0 && len(g.Rows) == 0 {
		p.none = g.Of
	}
	_, err := io.WriteString(p.W, p.Render(g))
	return err
}

func (p *Printer) printJSON(v any, opts ...jsontext.Options) error {
	data, err := wire.Marshal(v)
	if err != nil {
		return err
	}
	value := jsontext.Value(data)
	if len(opts) > 0 {
		if err := value.Indent(opts...); err != nil {
			return err
		}
	}
	_, err = p.W.Write(append(value, '\n'))
	return err
}

func (p *Printer) printLines(v any) error {
	items := reflect.ValueOf(v)
	if items.Kind() != reflect.Slice {
		return p.printJSON(v)
	}
	for i := range items.Len() {
		if err := p.printJSON(items.Index(i).Interface()); err != nil {
			return err
		}
	}
	return nil
}

// printYAML goes by way of JSON, of which YAML is a superset, so that the names,
// the order and the numbers are those of the API.
func (p *Printer) printYAML(v any) error {
	data, err := wire.Marshal(v)
	if err != nil {
		return err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return err
	}
	blockStyle(&doc)
	var text bytes.Buffer
	enc := yaml.NewEncoder(&text)
	enc.SetIndent(2)
	if err := enc.Encode(&doc); err != nil {
		return err
	}
	if err := enc.Close(); err != nil {
		return err
	}
	_, err = p.W.Write(text.Bytes())
	return err
}

// blockStyle takes the JSON look off a YAML document; empty lists and maps keep
// theirs, and quoted text stays text.
func blockStyle(n *yaml.Node) {
	if len(n.Content) > 0 {
		n.Style &^= yaml.FlowStyle
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!str" {
		n.Style = 0 // the encoder quotes what would read as something else
	}
	for _, c := range n.Content {
		blockStyle(c)
	}
}
