package audience

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"crier/internal/idset"
)

// Stream reads a portable 32-bit roaring bitmap from front to back, a container
// at a time, from input of unknown length. It holds the header (at most 1 MiB)
// and one container (at most 128 KiB).
type Stream struct {
	r   *bufio.Reader
	l   *layout
	i   int
	at  int64
	buf []byte
}

// NewStream reads the header.
func NewStream(r io.Reader) (*Stream, error) {
	s := &Stream{r: bufio.NewReaderSize(r, 1<<16)}
	l, err := readLayout(s.r)
	if err != nil {
		return nil, err
	}
	s.l, s.at = l, l.size
	return s, nil
}

// Next puts the next container in c and gives the high half of its ids. After
// the last one it makes sure that nothing follows and gives io.EOF.
func (s *Stream) Next(c *idset.Container) (key uint16, err error) {
	if s.i == len(s.l.keys) {
		_, err := s.r.ReadByte()
		if err == nil {
			return 0, fmt.Errorf("%w: bytes follow the last container", ErrFormat)
		}
		return 0, err
	}
	i := s.i
	if err := s.l.checkOffset(i, s.at); err != nil {
		return 0, err
	}
	b, err := s.read(i)
	if err != nil {
		return 0, shortIs(err, fmt.Sprintf("container %d ends early", i))
	}
	clear(c[:])
	if err := decodeContainer(b, s.l.card(i), s.l.isRun(i), c); err != nil {
		return 0, fmt.Errorf("container %d: %w", i, err)
	}
	s.i++
	s.at += int64(len(b))
	return s.l.keys[i], nil
}

func (s *Stream) read(i int) ([]byte, error) {
	n := plainBytes(s.l.card(i))
	if s.l.isRun(i) {
		head, err := s.r.Peek(2)
		if err != nil {
			return nil, err
		}
		if n = 2 + 4*int(binary.LittleEndian.Uint16(head)); n > maxRunBytes {
			return nil, fmt.Errorf("%w: container %d has too many runs", ErrFormat, i)
		}
	}
	if cap(s.buf) < n {
		s.buf = make([]byte, max(n, bitmapBytes))
	}
	b := s.buf[:n]
	_, err := io.ReadFull(s.r, b)
	return b, err
}

// IsFormat reports whether the error says that the bytes are wrong, and not that
// reading them went wrong.
func IsFormat(err error) bool { return errors.Is(err, ErrFormat) }
