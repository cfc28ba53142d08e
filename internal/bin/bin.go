// Package bin writes and reads the binary forms of records and messages:
// integers as varints, byte strings with their length in front, sets in idset's
// encoding. A Reader keeps its first error, so that a decoder checks once.
package bin

import (
	"encoding/binary"
	"errors"
	"fmt"

	"crier/internal/idset"
	"crier/job"
)

// ErrBytes is wrapped by every error of a Reader.
var ErrBytes = errors.New("bad bytes")

// Writer collects bytes. The zero value is ready.
type Writer struct{ B []byte }

// Uint appends an unsigned integer.
func (w *Writer) Uint(v uint64) { w.B = binary.AppendUvarint(w.B, v) }

// Byte appends one byte.
func (w *Writer) Byte(v byte) { w.B = append(w.B, v) }

// Bool appends a truth value as one byte.
func (w *Writer) Bool(v bool) {
	if v {
		w.Byte(1)
	} else {
		w.Byte(0)
	}
}

// Bytes appends a byte string.
func (w *Writer) Bytes(v []byte) {
	w.Uint(uint64(len(v)))
	w.B = append(w.B, v...)
}

// String appends a string.
func (w *Writer) String(v string) {
	w.Uint(uint64(len(v)))
	w.B = append(w.B, v...)
}

// Fixed appends bytes whose number the reader knows.
func (w *Writer) Fixed(v []byte) { w.B = append(w.B, v...) }

// Journal appends a journal's name.
func (w *Writer) Journal(j job.Journal) { w.String(j.Worker); w.Uint(uint64(j.Incarnation)) }

// Incarnation appends a gateway incarnation's name.
func (w *Writer) Incarnation(i job.Incarnation) { w.String(i.Gateway); w.Uint(uint64(i.Start)) }

// Ref appends a reserve's identity.
func (w *Writer) Ref(r job.Ref) { w.Journal(r.Journal); w.Uint(r.N); w.Uint(uint64(r.Entry)) }

// Set appends a set; nil is written as an empty one.
func (w *Writer) Set(s *idset.Set) { w.B = s.AppendTo(w.B) }

// Span appends a span.
func (w *Writer) Span(s job.Span) { w.Uint(s.Lo); w.Uint(s.Hi) }

// Reader takes a byte slice apart. After an error every read gives zero values.
type Reader struct {
	b   []byte
	err error
}

// NewReader reads from b, which must not change meanwhile.
func NewReader(b []byte) *Reader { return &Reader{b: b} }

// Err is the first error, or an error if bytes are left over when the caller
// says that there should be none.
func (r *Reader) Err(atEnd bool) error {
	if r.err == nil && atEnd && len(r.b) > 0 {
		r.fail("%d bytes too many", len(r.b))
	}
	return r.err
}

// Len is the number of bytes not read yet.
func (r *Reader) Len() int { return len(r.b) }

// Fail records an error found by the caller in a value it read.
func (r *Reader) Fail(err error) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %w", ErrBytes, err)
	}
	r.b = nil
}

func (r *Reader) fail(format string, a ...any) { r.Fail(fmt.Errorf(format, a...)) }

// Uint reads what Writer.Uint wrote.
func (r *Reader) Uint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail("no integer")
		return 0
	}
	r.b = r.b[n:]
	return v
}

// Max reads an unsigned integer of at most limit.
func (r *Reader) Max(limit uint64) uint64 {
	v := r.Uint()
	if v > limit {
		r.fail("%d is over %d", v, limit)
		return 0
	}
	return v
}

// Byte reads one byte.
func (r *Reader) Byte() byte {
	b := r.Fixed(1)
	if b == nil {
		return 0
	}
	return b[0]
}

// Bool reads a truth value: 0 or 1, nothing else.
func (r *Reader) Bool() bool {
	b := r.Byte()
	if b > 1 {
		r.fail("%d is no truth value", b)
		return false
	}
	return b == 1
}

// Bytes reads a byte string; it shares the reader's memory.
func (r *Reader) Bytes() []byte { return r.Fixed(int(r.Max(uint64(len(r.b))))) }

// String reads a string.
func (r *Reader) String() string { return string(r.Bytes()) }

// Fixed reads n bytes, or gives nil; they share the reader's memory.
func (r *Reader) Fixed(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.fail("%d bytes wanted, %d are left", n, len(r.b))
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

// Journal reads a journal's name.
func (r *Reader) Journal() job.Journal {
	return job.Journal{Worker: r.String(), Incarnation: uint32(r.Max(1<<32 - 1))}
}

// Incarnation reads a gateway incarnation's name.
func (r *Reader) Incarnation() job.Incarnation {
	return job.Incarnation{Gateway: r.String(), Start: uint32(r.Max(1<<32 - 1))}
}

// Ref reads a reserve's identity.
func (r *Reader) Ref() job.Ref {
	return job.Ref{Journal: r.Journal(), N: r.Uint(), Entry: uint16(r.Max(1<<16 - 1))}
}

// JobID reads a job's id.
func (r *Reader) JobID() job.ID {
	var id job.ID
	copy(id[:], r.Fixed(len(id)))
	return id
}

// Digest reads a SHA-256.
func (r *Reader) Digest() job.Digest {
	var d job.Digest
	copy(d[:], r.Fixed(len(d)))
	return d
}

// Set reads a set.
func (r *Reader) Set() *idset.Set {
	s, n, err := idset.Decode(r.b)
	if err != nil {
		r.Fail(err)
		return idset.New(0)
	}
	r.b = r.b[n:]
	return s
}

// Span reads a span.
func (r *Reader) Span() job.Span {
	s := job.Span{Lo: r.Uint(), Hi: r.Uint()}
	if err := s.Validate(); err != nil {
		r.Fail(err)
	}
	return s
}
