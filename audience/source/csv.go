package source

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"crier/job"
)

// maxRecord is the longest CSV record in bytes: a quote that is opened and never
// closed would else bring the whole file into memory.
const maxRecord = 1 << 20

// CSV reads one column of a CSV file.
type CSV struct {
	in    Input
	name  string // of the column, or empty
	col   int    // from 0
	r     *csv.Reader
	guard recordGuard
	line  int      // last one of the last whole record
	first []string // the first record, if it is data and was not given yet
	err   error    // sticky
}

// NewCSV reads a column, given by its number from 1 on or by its name; empty is
// the first.
func NewCSV(in Input, column string) (*CSV, error) {
	c := &CSV{in: in}
	if column == "" {
		return c, nil
	}
	if strings.Trim(column, "0123456789") != "" {
		c.name = column
		return c, nil
	}
	n, err := strconv.Atoi(column)
	if err != nil || n < 1 || n > maxRecord {
		return nil, job.Invalid("column", fmt.Sprintf("column %q: columns are numbered from 1 to %d", clip(column), maxRecord), nil)
	}
	c.col = n - 1
	return c, nil
}

// Name is the package's name.
func (c *CSV) Name() string { return c.in.Name }

// Close closes the input.
func (c *CSV) Close() error { return c.in.R.Close() }

// NextBatch reads ids.
func (c *CSV) NextBatch(ctx context.Context, ids []uint32) (int, error) {
	if c.err == nil && c.r == nil {
		c.err = c.start()
	}
	n := 0
	for n < len(ids) && c.err == nil {
		if n%1024 == 0 {
			if c.err = ctx.Err(); c.err != nil {
				break
			}
		}
		if ids[n], c.err = c.next(); c.err == nil {
			n++
		}
	}
	if c.err == nil || c.err == io.EOF && n > 0 {
		return n, nil
	}
	return 0, c.err
}

// start reads the first record and finds the column. A first record that is data
// is kept for next.
func (c *CSV) start() error {
	r, err := plainText(c.in.R)
	if err != nil {
		return reading(c.in.File, err)
	}
	c.guard.r = r
	c.r = csv.NewReader(&c.guard)
	c.r.FieldsPerRecord, c.r.ReuseRecord = -1, true
	record, err := c.record()
	switch {
	case err != nil:
		return err
	case c.name != "":
		return c.findColumn(record)
	case c.col < len(record) && isTitle(record[c.col]):
		return nil
	}
	c.first = record
	return nil
}

// isTitle reports whether the cell of a first record is a column's title.
func isTitle(cell string) bool {
	cell = strings.TrimSpace(cell)
	return cell == "" || !strings.ContainsRune("0123456789+-", rune(cell[0]))
}

// findColumn looks for the column's name in the header.
func (c *CSV) findColumn(header []string) error {
	c.col = -1
	for i, title := range header {
		if strings.TrimSpace(title) != c.name {
			continue
		}
		if c.col >= 0 {
			return c.refuse(i, fmt.Errorf("the header has the column %q twice", c.name))
		}
		c.col = i
	}
	if c.col < 0 {
		return c.refuse(0, fmt.Errorf("the header has no column %q", c.name))
	}
	return nil
}

// record reads a record; it is valid until the next call.
func (c *CSV) record() ([]string, error) {
	record, err := c.r.Read()
	c.guard.done = c.r.InputOffset()
	var bad *csv.ParseError
	switch {
	case err == nil:
		last := len(record) - 1
		line, _ := c.r.FieldPos(last)
		c.line = line + strings.Count(record[last], "\n")
		return record, nil
	case err == io.EOF:
		return nil, err
	case errors.As(err, &bad):
		return nil, refuse(c.in.File, bad.Line, bad.Column, bad.Err)
	case errors.Is(err, errLongRecord):
		return nil, refuse(c.in.File, c.line+1, 1, err)
	}
	return nil, reading(c.in.File, err)
}

// next reads the id of the next record.
func (c *CSV) next() (uint32, error) {
	record := c.first
	c.first = nil
	if record == nil {
		var err error
		if record, err = c.record(); err != nil {
			return 0, err
		}
	}
	if c.col >= len(record) {
		return 0, c.refuse(len(record)-1, fmt.Errorf("the record has %d columns, column %d is wanted", len(record), c.col+1))
	}
	id, err := parse(strings.TrimSpace(record[c.col]))
	if err != nil {
		return 0, c.refuse(c.col, err)
	}
	return id, nil
}

func (c *CSV) refuse(col int, err error) error {
	line, column := c.r.FieldPos(col)
	return refuse(c.in.File, line, column, err)
}

// recordGuard is the input below the CSV reader. It refuses to go on when a
// record becomes too long.
type recordGuard struct {
	r    io.Reader
	read int64
	done int64 // end of the last whole record
}

var errLongRecord = errors.New("a record is longer than 1 MiB; is a quote not closed?")

// Read reads on unless the record under way is too long.
func (g *recordGuard) Read(b []byte) (int, error) {
	if g.read-g.done > maxRecord {
		return 0, errLongRecord
	}
	n, err := g.r.Read(b)
	g.read += int64(n)
	return n, err
}
