package handoff

import (
	"fmt"

	"crier/internal/bin"
	"crier/internal/idset"
	"crier/job"
)

// Reception is a home's answer to an announcement.
type Reception byte

// The answers.
const (
	TakenIn   Reception = iota + 1 // presence has it, and the home looks for what waits
	WantsAnew                      // it lacks what came before: announce everything, from 1 on
	NotHome                        // this worker is not the range's home (any more)
)

// Bytes encodes the answer.
func (r Reception) Bytes() []byte { return []byte{byte(r)} }

// ParseReception decodes what Bytes wrote.
func ParseReception(b []byte) (Reception, error) {
	if len(b) != 1 || Reception(b[0]) < TakenIn || Reception(b[0]) > NotHome {
		return 0, fmt.Errorf("decoding the answer to an announcement: %d bytes %x", len(b), b)
	}
	return Reception(b[0]), nil
}

// Beat is what a gateway tells all homes once a second: that it is there, and how far
// its announcements to each range are. A home that is not as far has missed something.
type Beat struct {
	Inc    job.Incarnation
	URL    string // where clients connect to it; "" if it does not know
	Ranges []Announced
}

// Announced is the last announcement that an incarnation made to a range.
type Announced struct {
	Range      job.Range
	Round, Seq uint64
}

// Bytes encodes the message.
func (m *Beat) Bytes() []byte {
	var w bin.Writer
	w.Incarnation(m.Inc)
	w.String(m.URL)
	w.Uint(uint64(len(m.Ranges)))
	for _, a := range m.Ranges {
		w.Uint(uint64(a.Range))
		w.Uint(a.Round)
		w.Uint(a.Seq)
	}
	return w.B
}

// ParseBeat decodes what Bytes wrote.
func ParseBeat(b []byte) (*Beat, error) {
	r := bin.NewReader(b)
	m := &Beat{Inc: r.Incarnation(), URL: r.String()}
	for range r.Max(job.Ranges) {
		if r.Err(false) != nil {
			break
		}
		m.Ranges = append(m.Ranges, Announced{job.Range(r.Max(job.Ranges - 1)), r.Uint(), r.Uint()})
	}
	return m, wrap("beat", r.Err(true))
}

// Anew asks an incarnation to announce everything to the homes of some ranges, which
// are new or missed something.
type Anew struct {
	Inc    job.Incarnation
	Ranges []job.Range
}

// Bytes encodes the message.
func (m *Anew) Bytes() []byte {
	var w bin.Writer
	w.Incarnation(m.Inc)
	writeRanges(&w, m.Ranges)
	return w.B
}

// ParseAnew decodes what Bytes wrote.
func ParseAnew(b []byte) (*Anew, error) {
	r := bin.NewReader(b)
	m := &Anew{Inc: r.Incarnation(), Ranges: readRanges(r)}
	return m, wrap("request to announce anew", r.Err(true))
}

// Redirect asks an incarnation to send the clients of recipients whom their home now
// finds elsewhere to the gateway where they are (rule 23). It is repeated as long as
// they have sockets at both.
type Redirect struct {
	Inc job.Incarnation
	To  string // the other gateway's URL
	Who *idset.Set
}

// Bytes encodes the message.
func (m *Redirect) Bytes() []byte {
	var w bin.Writer
	w.Incarnation(m.Inc)
	w.String(m.To)
	w.Set(m.Who)
	return w.B
}

// ParseRedirect decodes what Bytes wrote.
func ParseRedirect(b []byte) (*Redirect, error) {
	r := bin.NewReader(b)
	m := &Redirect{Inc: r.Incarnation(), To: r.String(), Who: r.Set()}
	return m, wrap("redirect", r.Err(true))
}

// Want names ranges whose home somebody needs.
type Want struct{ Ranges []job.Range }

// Bytes encodes the message.
func (m *Want) Bytes() []byte {
	var w bin.Writer
	writeRanges(&w, m.Ranges)
	return w.B
}

// ParseWant decodes what Bytes wrote.
func ParseWant(b []byte) (*Want, error) {
	r := bin.NewReader(b)
	m := &Want{Ranges: readRanges(r)}
	return m, wrap("wish for a home", r.Err(true))
}

func writeRanges(w *bin.Writer, ranges []job.Range) {
	w.Uint(uint64(len(ranges)))
	for _, r := range ranges {
		w.Uint(uint64(r))
	}
}

func readRanges(r *bin.Reader) (ranges []job.Range) {
	for range r.Max(job.Ranges) {
		if r.Err(false) != nil {
			break
		}
		ranges = append(ranges, job.Range(r.Max(job.Ranges-1)))
	}
	return ranges
}
