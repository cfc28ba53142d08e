package source

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"

	"crier/job"
)

// bufferSize is what is read of an input at once.
const bufferSize = 1 << 18

// Input is one file, zip member or stream to read.
type Input struct {
	Name string        // of the package
	File string        // how errors call the input
	R    io.ReadCloser // closed with the source
	Skip int           // lines of an id text to pass over at the start, whatever they hold
}

// SyntaxError says what is wrong in an input, and where. Line and Column count
// from 1, columns in bytes; both are 0 in a binary input.
type SyntaxError struct {
	File         string
	Line, Column int
	Err          error
}

// Error writes file, line, column and what is wrong there.
func (e *SyntaxError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %v", e.File, e.Err)
	}
	return fmt.Sprintf("%s: line %d, column %d: %v", e.File, e.Line, e.Column, e.Err)
}

// Unwrap gives what is wrong.
func (e *SyntaxError) Unwrap() error { return e.Err }

// refuse makes the error of an input.
func refuse(file string, line, column int, err error) error {
	return job.Invalid("file", "nothing was kept", &SyntaxError{File: file, Line: line, Column: column, Err: err})
}

// reading makes the error of reading an input. What a damaged gzip or zip says is
// the input's fault.
func reading(file string, err error) error {
	if errors.Is(err, gzip.ErrChecksum) || errors.Is(err, gzip.ErrHeader) || damaged(err) {
		return refuse(file, 0, 0, fmt.Errorf("the compressed file is damaged: %w", err))
	}
	return fmt.Errorf("reading %s: %w", file, err)
}

// clip bounds what an error repeats of the input.
func clip(token string) string {
	const most = 40
	if len(token) <= most {
		return token
	}
	return token[:most] + "…"
}

// parse reads an id of the input.
func parse(token string) (uint32, error) {
	id, err := job.ParseRecipient(token)
	return uint32(id), err
}

// plainText unpacks gzip, if it is that, and skips a byte order mark.
func plainText(r io.Reader) (*bufio.Reader, error) {
	b := bufio.NewReaderSize(r, bufferSize)
	if head, _ := b.Peek(2); string(head) == "\x1f\x8b" {
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, err
		}
		b = bufio.NewReaderSize(z, bufferSize)
	}
	if head, _ := b.Peek(3); string(head) == "\xef\xbb\xbf" {
		if _, err := b.Discard(3); err != nil {
			return nil, err
		}
	}
	return b, nil
}
