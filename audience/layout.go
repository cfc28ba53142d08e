package audience

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Cookies and threshold of the portable roaring format.
const (
	cookieRuns      = 12347 // low half; the high half is the number of containers − 1
	cookiePlain     = 12346
	offsetThreshold = 4 // with runs, fewer containers than this have no offsets
)

// layout is the header of a portable roaring bitmap: what containers there are.
// It takes 8 bytes a container, at most 0.5 MiB, and half of that if there are
// no offsets.
type layout struct {
	keys    []uint16 // high halves of the ids, ascending
	cards   []uint16 // cardinality − 1
	runs    []byte   // bit i: container i is runs; nil if none is
	offsets []uint32 // where each container starts, or nil
	size    int64    // bytes of the header
}

// readLayout reads the header and leaves r at the first container.
func readLayout(r io.Reader) (*layout, error) {
	l := &layout{}
	n, err := l.readCookie(r)
	if err != nil {
		return nil, err
	}
	b, err := l.take(r, 4*n)
	if err != nil {
		return nil, err
	}
	l.keys, l.cards = make([]uint16, n), make([]uint16, n)
	for i := range n {
		l.keys[i] = binary.LittleEndian.Uint16(b[4*i:])
		l.cards[i] = binary.LittleEndian.Uint16(b[4*i+2:])
		if i > 0 && l.keys[i] <= l.keys[i-1] {
			return nil, fmt.Errorf("%w: the keys of its containers are not ascending", ErrFormat)
		}
	}
	if l.runs != nil && n < offsetThreshold {
		return l, nil
	}
	if b, err = l.take(r, 4*n); err != nil {
		return nil, err
	}
	l.offsets = make([]uint32, n)
	for i := range n {
		l.offsets[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	return l, nil
}

// readCookie reads the cookie, the number of containers and the flags of runs.
func (l *layout) readCookie(r io.Reader) (n int, err error) {
	b, err := l.take(r, 4)
	if err != nil {
		return 0, err
	}
	cookie := binary.LittleEndian.Uint32(b)
	switch {
	case cookie&0xffff == cookieRuns:
		n = int(cookie>>16) + 1
		l.runs, err = l.take(r, (n+7)/8)
		return n, err
	case cookie == cookiePlain:
		if b, err = l.take(r, 4); err != nil {
			return 0, err
		}
		if count := binary.LittleEndian.Uint32(b); count <= maxContainers {
			return int(count), nil
		}
		return 0, fmt.Errorf("%w: it promises more than %d containers", ErrFormat, maxContainers)
	}
	return 0, fmt.Errorf("%w: it does not start with a cookie of the portable 32-bit roaring format", ErrFormat)
}

// take reads n bytes of the header; n is at most 256 KiB.
func (l *layout) take(r io.Reader, n int) ([]byte, error) {
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	l.size += int64(n)
	return b, shortIs(err, "its header ends early")
}

// shortIs turns the end of the input into a format error; other errors stay.
func shortIs(err error, what string) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: %s", ErrFormat, what)
	}
	return err
}

// card is the cardinality of container i.
func (l *layout) card(i int) int { return int(l.cards[i]) + 1 }

// isRun reports whether container i is runs.
func (l *layout) isRun(i int) bool { return l.runs != nil && l.runs[i/8]>>(i%8)&1 == 1 }

// checkOffset refuses a container that does not follow the one before at once.
// Readers that go by the offsets and readers that go by the order would else see
// different sets.
func (l *layout) checkOffset(i int, at int64) error {
	if l.offsets != nil && int64(l.offsets[i]) != at {
		return fmt.Errorf("%w: container %d starts at %d, its offset says %d", ErrFormat, i, at, l.offsets[i])
	}
	return nil
}
