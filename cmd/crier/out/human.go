package out

import (
	"fmt"
	"strconv"
	"time"

	"crier/job"
)

// Count writes a number for people: in full with commas below 10,000, above with
// three digits and k, M or G.
func Count(n uint64) string {
	switch {
	case n < 1000:
		return strconv.FormatUint(n, 10)
	case n < 10_000:
		return fmt.Sprintf("%d,%03d", n/1000, n%1000)
	}
	return scaled(float64(n), 1000, []string{"", "k", "M", "G", "T", "P", "E"})
}

// Exact writes a number for people who add up: in full, with commas.
func Exact(n uint64) string { return job.Exact(n) }

// Many writes an exact number of things that take an s.
func Many(n uint64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return Exact(n) + " " + thing + "s"
}

// Some writes what a set of n things has; an empty one has a dash.
func Some(n uint64, what any) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(what)
}

// Bytes writes a size for people, in units of 1,024.
func Bytes(n uint64) string {
	if n < 1024 {
		return strconv.FormatUint(n, 10) + " B"
	}
	return scaled(float64(n), 1024, []string{" B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"})
}

// scaled writes three digits and a unit.
func scaled(x, base float64, units []string) string {
	u := 0
	for x >= base && u < len(units)-1 {
		x /= base
		u++
	}
	switch {
	case x < 9.995:
		return fmt.Sprintf("%.2f%s", x, units[u])
	case x < 99.95:
		return fmt.Sprintf("%.1f%s", x, units[u])
	case x < 999.5 || base > 1000 && x < 1023.5 || u == len(units)-1:
		return fmt.Sprintf("%.0f%s", x, units[u])
	}
	return fmt.Sprintf("%.2f%s", x/base, units[u+1])
}

// Percent writes a part of a whole; all of it only if it is all of it.
func Percent(part, whole uint64) string {
	if whole == 0 {
		return "100%"
	}
	p := float64(part) / float64(whole) * 100
	if part < whole && p > 99.9 {
		p = 99.9
	}
	if p < 10 || p > 99 && part < whole {
		return fmt.Sprintf("%.1f%%", p)
	}
	return fmt.Sprintf("%.0f%%", p)
}

// Span writes a length of time for people, in its two largest units.
func Span(d time.Duration) string {
	if d < 0 {
		d = 0
	}
	s := int64(d / time.Second)
	switch {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return pairOf(s/60, "m", s%60, "s")
	case s < 86400:
		return pairOf(s/3600, "h", s%3600/60, "m")
	}
	return pairOf(s/86400, "d", s%86400/3600, "h")
}

func pairOf(a int64, unitA string, b int64, unitB string) string {
	if b == 0 {
		return fmt.Sprintf("%d%s", a, unitA)
	}
	return fmt.Sprintf("%d%s%d%s", a, unitA, b, unitB)
}

// Ago writes a time relative to now; an unset time is a dash.
func (p *Printer) Ago(t time.Time) string {
	switch {
	case t.IsZero():
		return "-"
	case t.After(p.Now):
		return "in " + Span(roundUp(t.Sub(p.Now)))
	}
	return Span(p.Now.Sub(t)) + " ago"
}

// roundUp makes a length of time one that Span shows whole, so that seven days are seven days
// also a moment after they began.
func roundUp(d time.Duration) time.Duration {
	unit := time.Second
	switch {
	case d > 24*time.Hour:
		unit = time.Hour
	case d > time.Hour:
		unit = time.Minute
	}
	return (d + unit - 1).Truncate(unit)
}

// YesNo writes a truth.
func YesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
