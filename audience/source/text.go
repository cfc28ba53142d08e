package source

import (
	"bufio"
	"context"
	"errors"
	"io"
	"math"

	"crier/job"
)

const maxToken = job.MaxRecipientText

// What stands before the place that is read next.
const (
	afterStart = iota // of a line
	afterComma
	afterID
)

// Text reads an id text.
type Text struct {
	in       Input
	r        *bufio.Reader
	buf      []byte
	pos, end int
	eof      bool
	base     int64 // offset of buf[0] in the text
	line     int
	lineAt   int64 // offset of the line's start
	after    int
	err      error // sticky
}

// NewText reads an id text from an input.
func NewText(in Input) *Text { return &Text{in: in, line: 1} }

// Name is the package's name.
func (t *Text) Name() string { return t.in.Name }

// Close closes the input.
func (t *Text) Close() error { return t.in.R.Close() }

// NextBatch reads ids.
func (t *Text) NextBatch(ctx context.Context, ids []uint32) (int, error) {
	n := 0
	for n < len(ids) && t.err == nil {
		if t.err = ctx.Err(); t.err != nil {
			break
		}
		if t.err = t.fill(); t.err != nil {
			break
		}
		if t.pos == t.end {
			t.err = io.EOF
			break
		}
		var k int
		k, t.err = t.scan(ids[n:])
		n += k
	}
	switch {
	case t.err == nil || t.err == io.EOF && n > 0:
		return n, nil
	default:
		return 0, t.err
	}
}

// fill makes sure that the buffer holds a whole id and what follows it, or the
// end of the text.
func (t *Text) fill() error {
	if t.r == nil {
		r, err := plainText(t.in.R)
		if err != nil {
			return reading(t.in.File, err)
		}
		t.r, t.buf = r, make([]byte, bufferSize)
		if err := t.skip(); err != nil {
			return err
		}
	}
	for t.end-t.pos <= maxToken && !t.eof {
		t.base += int64(t.pos)
		t.end = copy(t.buf, t.buf[t.pos:t.end])
		t.pos = 0
		n, err := io.ReadAtLeast(t.r, t.buf[t.end:], 1)
		t.end += n
		if errors.Is(err, io.EOF) {
			t.eof = true
		} else if err != nil {
			return reading(t.in.File, err)
		}
	}
	return nil
}

// skip passes over the lines that are to be left out, of any length.
func (t *Text) skip() error {
	for range t.in.Skip {
		for n, more := 0, true; more; n++ {
			line, err := t.r.ReadSlice('\n')
			more = errors.Is(err, bufio.ErrBufferFull)
			switch {
			case errors.Is(err, io.EOF) && len(line) == 0 && n == 0:
				return job.Invalid("skip", "the file has fewer lines than are to be skipped", nil)
			case err != nil && !more && !errors.Is(err, io.EOF):
				return reading(t.in.File, err)
			}
		}
		t.line++
	}
	return nil
}

// scan reads ids as long as each of them lies in the buffer for sure. One loop
// over the bytes, without calls: this is what building from text takes its time
// for.
func (t *Text) scan(ids []uint32) (n int, err error) {
	b, p := t.buf[:t.end], t.pos
	limit := len(b)
	if !t.eof {
		limit -= maxToken
	}
	after := t.after
	for n < len(ids) && p < limit {
		c := b[p]
		if d := c - '0'; d <= 9 && after != afterID {
			v, q := uint64(d), p+1
			for q < len(b) && b[q]-'0' <= 9 {
				v = v*10 + uint64(b[q]-'0') // wraps in long texts only, which are read again
				q++
			}
			if q-p > 10 || v > math.MaxUint32 || q < len(b) && !endsID(b[q]) {
				if ids[n], q, err = t.slow(b, p); err != nil {
					return 0, err
				}
				v = uint64(ids[n])
			}
			ids[n] = uint32(v)
			n++
			p, after = q, afterID
			if p == len(b) {
				break
			}
			if c = b[p]; c == ',' {
				p++
				after = afterComma
				continue
			}
		}
		switch {
		case c == '\n':
			p++
			t.line++
			t.lineAt = t.base + int64(p)
			after = afterStart
		case c == ' ' || c == '\t' || c == '\r':
			p++
		case c == ',' && after == afterID:
			p++
			after = afterComma
		case c == ',':
			return 0, t.refuse(p, errNoID)
		case after == afterID:
			return 0, t.refuse(p, errNoComma)
		default:
			return 0, t.refuseToken(b, p)
		}
	}
	t.pos, t.after = p, after
	return n, nil
}

var (
	errNoID    = errors.New("an id is missing before the comma")
	errNoComma = errors.New("a comma or the end of the line is missing before this")
)

// endsID reports whether the byte can follow an id.
func endsID(c byte) bool { return c == ',' || c == '\n' || c == '\r' || c == ' ' || c == '\t' }

// slow reads the id at p with all checks and gives where it ends.
func (t *Text) slow(b []byte, p int) (id uint32, q int, err error) {
	q = p + tokenLen(b[p:])
	if id, err = parse(string(b[p:q])); err != nil {
		return 0, 0, t.refuse(p, err)
	}
	return id, q, nil
}

// tokenLen is the length of what stands at the front of b up to the end of an id,
// or just over maxToken.
func tokenLen(b []byte) (n int) {
	for n < len(b) && n <= maxToken && !endsID(b[n]) {
		n++
	}
	return n
}

// refuseToken refuses what stands at p, which does not start with a digit.
func (t *Text) refuseToken(b []byte, p int) error {
	_, err := parse(string(b[p : p+tokenLen(b[p:])]))
	return t.refuse(p, err)
}

func (t *Text) refuse(p int, err error) error {
	return refuse(t.in.File, t.line, int(t.base+int64(p)-t.lineAt)+1, err)
}
