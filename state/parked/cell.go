package parked

import (
	"slices"

	"crier/internal/bin"
	"crier/job"
)

// Cell is what of one job is reserved in one range. How many of its recipients have which
// outcome there is written nowhere: who is parked, in doubt or handed off has rows, and what
// a drain and a done of one recipient change would otherwise be read and written for each.
type Cell struct {
	Spans []job.Span // ascending, merged
}

// Tally counts a job's recipients by outcome; what is pending is not in it.
type Tally struct {
	Reserved  uint64 // ids of the package inside reserved spans
	HandedOff uint64
	Parked    uint64
	InDoubt   uint64
	Delivered uint64
	Expired   uint64
	Recalled  uint64
	Cancelled uint64
	Failed    uint64
	Dropped   [16]uint64 // by reason
}

func (t *Tally) fields() [9]*uint64 {
	return [9]*uint64{&t.Reserved, &t.HandedOff, &t.Parked, &t.InDoubt, &t.Delivered, &t.Expired, &t.Recalled, &t.Cancelled, &t.Failed}
}

// at is the counter of an outcome.
func (t *Tally) at(o job.Outcome, reason job.Reason) *uint64 {
	switch o {
	case job.HandedOff:
		return &t.HandedOff
	case job.Parked:
		return &t.Parked
	case job.InDoubt:
		return &t.InDoubt
	case job.Delivered:
		return &t.Delivered
	case job.Expired:
		return &t.Expired
	case job.Recalled:
		return &t.Recalled
	case job.Cancelled:
		return &t.Cancelled
	case job.Failed:
		return &t.Failed
	}
	return &t.Dropped[reason&15]
}

// add adds another tally.
func (t *Tally) add(o *Tally) {
	mine, theirs := t.fields(), o.fields()
	for i := range mine {
		*mine[i] += *theirs[i]
	}
	for i := range t.Dropped {
		t.Dropped[i] += o.Dropped[i]
	}
}

// Counts turns the tally into the counts that users see. size is the package's
// cardinality; pending is what no reserved span covers.
func (t *Tally) Counts(size uint64) job.Counts {
	c := job.Counts{Package: size, Pending: size - t.Reserved, Delivered: t.Delivered, HandedOff: t.HandedOff, Parked: t.Parked,
		InDoubt: t.InDoubt, Expired: t.Expired, Recalled: t.Recalled, Cancelled: t.Cancelled, Failed: t.Failed, Dropped: map[job.Reason]uint64{}}
	for i, n := range t.Dropped {
		if n > 0 {
			c.Dropped[job.Reason(i)] = n
		}
	}
	return c
}

func (t *Tally) write(w *bin.Writer) {
	for _, f := range t.fields() {
		w.Uint(*f)
	}
	for _, n := range t.Dropped {
		w.Uint(n)
	}
}

func readTally(r *bin.Reader) Tally {
	var t Tally
	for _, f := range t.fields() {
		*f = r.Uint()
	}
	for i := range t.Dropped {
		t.Dropped[i] = r.Uint()
	}
	return t
}

func (c *Cell) bytes() []byte {
	var w bin.Writer
	w.Uint(uint64(len(c.Spans)))
	for _, s := range c.Spans {
		w.Span(s)
	}
	return w.B
}

func parseCell(b []byte) (Cell, error) {
	r := bin.NewReader(b)
	var c Cell
	for range r.Max(uint64(len(b))) {
		c.Spans = append(c.Spans, r.Span())
	}
	return c, r.Err(true)
}

// addSpan puts a span in and merges what touches; it reports false, and changes
// nothing, if the span overlaps one that is there.
func (c *Cell) addSpan(s job.Span) bool {
	i, _ := slices.BinarySearchFunc(c.Spans, s, func(a, b job.Span) int {
		if a.Lo < b.Lo {
			return -1
		}
		return 1
	})
	if i > 0 && c.Spans[i-1].Hi > s.Lo || i < len(c.Spans) && s.Hi > c.Spans[i].Lo {
		return false
	}
	c.Spans = slices.Insert(c.Spans, i, s)
	if i+1 < len(c.Spans) && c.Spans[i].Hi == c.Spans[i+1].Lo {
		c.Spans[i].Hi = c.Spans[i+1].Hi
		c.Spans = slices.Delete(c.Spans, i+1, i+2)
	}
	if i > 0 && c.Spans[i-1].Hi == c.Spans[i].Lo {
		c.Spans[i-1].Hi = c.Spans[i].Hi
		c.Spans = slices.Delete(c.Spans, i, i+1)
	}
	return true
}

// Covers reports whether the recipient's block is reserved.
func (c *Cell) Covers(r job.Recipient) bool {
	return slices.ContainsFunc(c.Spans, func(s job.Span) bool { return s.Has(r) })
}

// Gaps lists what of a span no reserve covers.
func (c *Cell) Gaps(s job.Span) []job.Span {
	var gaps []job.Span
	for _, x := range c.Spans {
		if x.Hi <= s.Lo {
			continue
		}
		if x.Lo >= s.Hi {
			break
		}
		if x.Lo > s.Lo {
			gaps = append(gaps, job.Span{Lo: s.Lo, Hi: x.Lo})
		}
		s.Lo = x.Hi
	}
	if !s.IsEmpty() {
		gaps = append(gaps, s)
	}
	return gaps
}
