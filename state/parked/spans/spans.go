// Package spans is what of a job's ids is reserved in one range: spans that do not overlap.
package spans

import (
	"slices"

	"crier/internal/bin"
	"crier/job"
)

// Set is spans, ascending, of which no two touch. The zero value is none.
type Set []job.Span

// Bytes writes it.
func (s Set) Bytes() []byte {
	var w bin.Writer
	w.Uint(uint64(len(s)))
	for _, x := range s {
		w.Span(x)
	}
	return w.B
}

// Parse reads what Bytes wrote.
func Parse(b []byte) (s Set, err error) {
	r := bin.NewReader(b)
	for range r.Max(uint64(len(b))) {
		s = append(s, r.Span())
	}
	return s, r.Err(true)
}

// Add puts a span in and merges what touches; it reports false, and changes
// nothing, if the span overlaps one that is there.
func (s *Set) Add(x job.Span) bool {
	c := *s
	i, _ := slices.BinarySearchFunc(c, x, func(a, b job.Span) int {
		if a.Lo < b.Lo {
			return -1
		}
		return 1
	})
	if i > 0 && c[i-1].Hi > x.Lo || i < len(c) && x.Hi > c[i].Lo {
		return false
	}
	c = slices.Insert(c, i, x)
	if i+1 < len(c) && c[i].Hi == c[i+1].Lo {
		c[i].Hi = c[i+1].Hi
		c = slices.Delete(c, i+1, i+2)
	}
	if i > 0 && c[i-1].Hi == c[i].Lo {
		c[i-1].Hi = c[i].Hi
		c = slices.Delete(c, i, i+1)
	}
	*s = c
	return true
}

// Has reports whether a recipient is in one of them.
func (s Set) Has(r job.Recipient) bool {
	return slices.ContainsFunc(s, func(x job.Span) bool { return x.Has(r) })
}

// Gaps lists what of a span none of them covers.
func (s Set) Gaps(of job.Span) []job.Span {
	var gaps []job.Span
	for _, x := range s {
		if x.Hi <= of.Lo {
			continue
		}
		if x.Lo >= of.Hi {
			break
		}
		if x.Lo > of.Lo {
			gaps = append(gaps, job.Span{Lo: of.Lo, Hi: x.Lo})
		}
		of.Lo = x.Hi
	}
	if !of.IsEmpty() {
		gaps = append(gaps, of)
	}
	return gaps
}
