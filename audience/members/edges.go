package members

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"errors"
	"fmt"
	"io"

	"crier/audience/source"
	"crier/job"
)

// maxLine is the longest line of edges in bytes, a comment too.
const maxLine = 1 << 16

// edge is "src follows dst" as dst<<32 | src: sorted, an account's followers stand
// together in ascending order.
type edge uint64

func (e edge) dst() uint32 { return uint32(e >> 32) }
func (e edge) src() uint32 { return uint32(e) }

// edgeReader reads lines "src dst": two numbers separated by spaces, tabs or
// commas. Lines end with LF or CRLF; empty ones and those that start with # are
// passed over. The text may be gzipped and may start with a byte order mark.
type edgeReader struct {
	r      *bufio.Reader
	zipped bool
	file   string // how errors call the input
	line   int    // the one read last, from 1
}

func newEdgeReader(r io.Reader, file string, skip int) (*edgeReader, error) {
	e := &edgeReader{r: bufio.NewReaderSize(r, maxLine), file: file}
	if head, _ := e.r.Peek(2); string(head) == "\x1f\x8b" {
		e.zipped = true
		z, err := gzip.NewReader(e.r)
		if err != nil {
			return nil, e.reading(err)
		}
		e.r = bufio.NewReaderSize(z, maxLine)
	}
	if head, _ := e.r.Peek(3); string(head) == "\xef\xbb\xbf" {
		if _, err := e.r.Discard(len(head)); err != nil {
			return nil, e.reading(err)
		}
	}
	for range skip {
		if _, err := e.readLine(); err == io.EOF {
			break
		} else if err != nil {
			return nil, err
		}
	}
	return e, nil
}

// readLine gives the next line without its end, or io.EOF after the last. It is
// valid until the next call.
func (e *edgeReader) readLine() ([]byte, error) {
	line, err := e.r.ReadSlice('\n')
	e.line++
	switch {
	case err == io.EOF && len(line) == 0:
		return nil, io.EOF
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, e.refuse(1, fmt.Errorf("the line has more than %d bytes", maxLine))
	case err != nil && err != io.EOF:
		return nil, e.reading(err)
	}
	line = bytes.TrimSuffix(line, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r")), nil
}

// next gives the next edge, or io.EOF.
func (e *edgeReader) next() (edge, error) {
	for {
		line, err := e.readLine()
		if err != nil {
			return 0, err
		}
		at := blanks(line, 0)
		if at == len(line) || line[at] == '#' {
			continue
		}
		src, at, err := e.number(line, at)
		if err != nil {
			return 0, err
		}
		if at = separators(line, at); at == len(line) {
			return 0, e.refuse(at+1, errors.New("the account that is followed is missing"))
		}
		dst, at, err := e.number(line, at)
		if err != nil {
			return 0, err
		}
		if at = blanks(line, at); at < len(line) {
			return 0, e.refuse(at+1, errors.New("the line goes on after the two numbers"))
		}
		return edge(dst)<<32 | edge(src), nil
	}
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

func blanks(line []byte, at int) int {
	for at < len(line) && isBlank(line[at]) {
		at++
	}
	return at
}

func separators(line []byte, at int) int {
	for at < len(line) && (isBlank(line[at]) || line[at] == ',') {
		at++
	}
	return at
}

// number reads the number at a place and gives the place after it.
func (e *edgeReader) number(line []byte, at int) (n uint32, after int, err error) {
	v := uint64(0)
	for after = at; after < len(line) && line[after]-'0' <= 9 && after-at < 10; after++ {
		v = v*10 + uint64(line[after]-'0')
	}
	if after > at && v <= 1<<32-1 && (after == len(line) || isBlank(line[after]) || line[after] == ',') {
		return uint32(v), after, nil
	}
	for after = at; after < len(line) && !isBlank(line[after]) && line[after] != ','; after++ {
	}
	const most = 64 // bytes, of a number with leading zeros or of what an error repeats
	if after-at > most {
		return 0, 0, e.refuse(at+1, fmt.Errorf("%q… is not a recipient's number", line[at:at+most]))
	}
	id, err := job.ParseRecipient(string(line[at:after]))
	if err != nil {
		return 0, 0, e.refuse(at+1, err)
	}
	return uint32(id), after, nil
}

func (e *edgeReader) refuse(column int, err error) error {
	return job.Invalid("file", "nothing was kept", &source.SyntaxError{File: e.file, Line: e.line, Column: column, Err: err})
}

// reading makes the error of reading the input. A damaged gzip is its fault.
func (e *edgeReader) reading(err error) error {
	var corrupt flate.CorruptInputError
	if e.zipped && (errors.Is(err, gzip.ErrChecksum) || errors.Is(err, gzip.ErrHeader) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &corrupt)) {
		return job.Invalid("file", "nothing was kept", &source.SyntaxError{File: e.file, Err: fmt.Errorf("the compressed file is damaged: %w", err)})
	}
	return fmt.Errorf("reading %s: %w", e.file, err)
}
