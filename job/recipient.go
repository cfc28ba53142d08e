package job

import (
	"errors"
	"fmt"
	"strconv"
)

// Recipient is the dense 32-bit id of one recipient.
type Recipient uint32

// MaxRecipientText is the longest text of a recipient in bytes, leading zeros included.
const MaxRecipientText = 64

// ParseRecipient reads a decimal id from 0 to 4294967295 and says what is wrong
// with anything else; of a long text it repeats the beginning.
func ParseRecipient(s string) (Recipient, error) {
	if len(s) > MaxRecipientText {
		return 0, fmt.Errorf("recipient %q has more than %d characters", s[:40]+"…", MaxRecipientText)
	}
	v, err := strconv.ParseUint(s, 10, 32)
	switch {
	case err == nil:
		return Recipient(v), nil
	case errors.Is(err, strconv.ErrRange):
		return 0, fmt.Errorf("recipient %q is over 4294967295", s)
	case len(s) > 1 && s[0] == '-':
		return 0, fmt.Errorf("recipient %q is negative", s)
	}
	return 0, fmt.Errorf("recipient %q is not a number", s)
}

// String writes the id in decimal.
func (r Recipient) String() string { return strconv.FormatUint(uint64(r), 10) }

// Range is the part of the id space that has one home.
func (r Recipient) Range() Range { return Range(r >> RangeBits) }

// RangeBits is the width of a range: 2^20 ids, of which the id space has 4,096.
const RangeBits = 20

// Ranges is the number of ranges.
const Ranges = 1 << (32 - RangeBits)

// Range numbers one of the 4,096 parts of the id space.
type Range uint16

// Lo is the first id of the range.
func (r Range) Lo() uint32 { return uint32(r) << RangeBits }

// Span is all ids of the range.
func (r Range) Span() Span { return Span{uint64(r.Lo()), uint64(r.Lo()) + 1<<RangeBits} }

// String writes the range as four decimal digits, as it stands in subjects.
func (r Range) String() string { return fmt.Sprintf("%04d", uint16(r)) }

// ParseRange reads what String wrote.
func ParseRange(s string) (Range, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n >= Ranges || len(s) != 4 {
		return 0, fmt.Errorf("range %q: want four digits, at most %d", s, Ranges-1)
	}
	return Range(n), nil
}

// Span is a contiguous piece of the id space, [Lo, Hi); Hi may be 2^32.
type Span struct {
	Lo uint64 `json:"lo"`
	Hi uint64 `json:"hi"`
}

// IsEmpty reports whether the span holds no id.
func (s Span) IsEmpty() bool { return s.Hi <= s.Lo }

// Has reports whether the id lies in the span.
func (s Span) Has(r Recipient) bool { return s.Lo <= uint64(r) && uint64(r) < s.Hi }

// String writes the span as [lo, hi).
func (s Span) String() string { return fmt.Sprintf("[%d, %d)", s.Lo, s.Hi) }

// Validate refuses a span that ends before it starts or leaves the id space.
func (s Span) Validate() error {
	if s.Hi < s.Lo || s.Hi > 1<<32 {
		return fmt.Errorf("span %s is not a part of the id space", s)
	}
	return nil
}
