package job

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Percent is a share of recipients in ten-thousandths of a percent.
type Percent uint32

// Everybody is the largest share, 100 %.
const Everybody Percent = 100 * percentUnit

const (
	percentUnit   = 10_000
	percentPlaces = 4 // decimals
)

// ParsePercent reads a share such as 0.5, 5 or 5%, with at most four decimals.
func ParsePercent(s string) (Percent, error) {
	whole, part, point := strings.Cut(strings.TrimSuffix(s, "%"), ".")
	wrong := fmt.Errorf("%q is no percentage: want 0 to 100, with at most %d decimals", s, percentPlaces)
	if point && part == "" || len(part) > percentPlaces || strings.Trim(whole+part, "0123456789") != "" {
		return 0, wrong
	}
	n, err := strconv.ParseUint(whole+part+strings.Repeat("0", percentPlaces-len(part)), 10, 32)
	if err != nil || whole == "" || Percent(n) > Everybody {
		return 0, wrong
	}
	return Percent(n), nil
}

// PercentOf makes a share of a number, which has at most four decimals.
func PercentOf(f float64) (Percent, error) {
	if n := math.Round(f * percentUnit); f >= 0 && f <= 100 && math.Abs(f*percentUnit-n) < 1e-6 {
		return Percent(n), nil
	}
	return ParsePercent(strconv.FormatFloat(f, 'f', -1, 64))
}

// Float is the share as a number of percent.
func (p Percent) Float() float64 { return float64(p) / percentUnit }

// String writes the share, such as 0.5%.
func (p Percent) String() string { return strconv.FormatFloat(p.Float(), 'f', -1, 64) + "%" }

// IsZero reports whether it is nobody.
func (p Percent) IsZero() bool { return p == 0 }

// Validate refuses more than everybody.
func (p Percent) Validate() error {
	if p > Everybody {
		return fmt.Errorf("%s is more than 100%%", p)
	}
	return nil
}

// MarshalText writes what String writes.
func (p Percent) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads what ParsePercent reads.
func (p *Percent) UnmarshalText(b []byte) error {
	v, err := ParsePercent(string(b))
	if err != nil {
		return err
	}
	*p = v
	return nil
}
