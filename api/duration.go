package api

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Duration is a length of time written as Go writes it, with days of 24 hours
// in front: 90s, 36h, 7d, 1d12h.
type Duration time.Duration

// ParseDuration reads what String writes. A sign is refused.
func ParseDuration(s string) (Duration, error) {
	wrong := fmt.Errorf("duration %q: want a length such as 90s, 36h, 7d or 1d12h", s)
	rest, days := s, int64(0)
	if head, tail, ok := strings.Cut(s, "d"); ok {
		n, err := strconv.ParseUint(head, 10, 32)
		if err != nil || n > math.MaxInt64/uint64(24*time.Hour) {
			return 0, wrong
		}
		rest, days = tail, int64(n)
		if rest == "" {
			return Duration(days) * Duration(24*time.Hour), nil
		}
	}
	if rest == "" || rest[0] == '-' || rest[0] == '+' {
		return 0, wrong
	}
	d, err := time.ParseDuration(rest)
	if err != nil {
		return 0, wrong
	}
	whole := time.Duration(days) * 24 * time.Hour
	if d > math.MaxInt64-whole {
		return 0, wrong
	}
	return Duration(whole + d), nil
}

// String writes whole days in front of what is left.
func (d Duration) String() string {
	t := time.Duration(d)
	days := t / (24 * time.Hour)
	if days == 0 {
		return t.String()
	}
	rest := t % (24 * time.Hour)
	if rest == 0 {
		return strconv.FormatInt(int64(days), 10) + "d"
	}
	return strconv.FormatInt(int64(days), 10) + "d" + rest.String()
}

// IsZero reports whether the duration is unset.
func (d Duration) IsZero() bool { return d == 0 }

// MarshalText writes what String writes; a zero duration is empty.
func (d Duration) MarshalText() ([]byte, error) {
	if d == 0 {
		return nil, nil
	}
	return []byte(d.String()), nil
}

// UnmarshalText reads what MarshalText writes.
func (d *Duration) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*d = 0
		return nil
	}
	v, err := ParseDuration(string(b))
	if err != nil {
		return err
	}
	*d = v
	return nil
}
