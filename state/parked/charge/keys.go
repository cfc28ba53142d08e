package charge

import (
	"encoding/binary"

	"crier/internal/bin"
	"crier/job"
	"crier/state/ledger"
	"crier/state/parked/row"
)

// Rows of the book.
//
//	range 'f' day account container        counters of a day, see planes
//	range 'h' job                          spans that are charged, and on which terms
//	range 'k' job lo                       who is dropped of a charge that is not reserved yet
//	range 's' key until job                whom a job of a send-once key was charged to
//	range 'v' job                          who may have seen it, or was erased since, and is not refunded
//	range 'y'                              the last day that was charged
const (
	rowCounters = 'f'
	rowCharged  = 'h'
	rowVerdict  = 'k'
	rowOnce     = 's'
	rowSeen     = 'v'
	rowDay      = 'y'
)

func be32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

func be64(account ledger.AccountOf) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(account))
}

func countersKey(r job.Range, by counter, container int) []byte {
	return row.Key(r, rowCounters, be32(by.day), be64(by.account), []byte{byte(container)})
}

func chargedKey(r job.Range, id job.ID) []byte { return row.Key(r, rowCharged, id[:]) }

func seenKey(r job.Range, id job.ID) []byte { return row.Key(r, rowSeen, id[:]) }

func verdictKey(r job.Range, id job.ID, lo uint64) []byte {
	return row.Key(r, rowVerdict, id[:], binary.BigEndian.AppendUint64(nil, lo))
}

func onceKey(r job.Range, t ledger.Terms, id job.ID) []byte {
	return row.Key(r, rowOnce, t.Once[:], be32(t.Until), id[:])
}

// charged is a span of a job that is charged.
type charged struct {
	span  job.Span
	terms ledger.Terms
}

// chargedSpans are those of a job in a range: ascending, disjoint, neighbours of the same
// terms joined.
type chargedSpans []charged

func (l chargedSpans) bytes() []byte {
	var w bin.Writer
	w.Uint(uint64(len(l)))
	for _, c := range l {
		w.Span(c.span)
		c.terms.Write(&w)
	}
	return w.B
}

func parseCharged(b []byte) (chargedSpans, error) {
	r := bin.NewReader(b)
	var l chargedSpans
	for range r.Max(uint64(len(b))) {
		l = append(l, charged{r.Span(), ledger.ReadTerms(r)})
	}
	return l, r.Err(true)
}

// add puts in a span that overlaps none.
func (l chargedSpans) add(c charged) chargedSpans {
	i := 0
	for i < len(l) && l[i].span.Lo < c.span.Lo {
		i++
	}
	l = append(l[:i:i], append(chargedSpans{c}, l[i:]...)...)
	out := l[:0]
	for _, x := range l {
		if n := len(out); n > 0 && out[n-1].span.Hi == x.span.Lo && out[n-1].terms == x.terms {
			out[n-1].span.Hi = x.span.Hi
			continue
		}
		out = append(out, x)
	}
	return out
}

// gaps lists what of a span is not charged.
func (l chargedSpans) gaps(s job.Span) (gaps []job.Span) {
	for _, c := range l {
		if c.span.Hi <= s.Lo || c.span.Lo >= s.Hi {
			continue
		}
		if c.span.Lo > s.Lo {
			gaps = append(gaps, job.Span{Lo: s.Lo, Hi: c.span.Lo})
		}
		s.Lo = c.span.Hi
	}
	if !s.IsEmpty() {
		gaps = append(gaps, s)
	}
	return gaps
}
