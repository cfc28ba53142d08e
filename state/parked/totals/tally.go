// Package totals keeps how many recipients each job has of which outcome, and the rows that the
// index keeps of it.
package totals

import (
	"math/bits"

	"crier/internal/bin"
	"crier/job"
)

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
	FailedFor [16]uint64 // Failed by reason
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

// Gain adds recipients to an outcome.
func (t *Tally) Gain(o job.Outcome, reason job.Reason, n uint64) {
	*t.at(o, reason) += n
	if o == job.Failed {
		t.FailedFor[reason&15] += n
	}
}

// Add adds another tally.
func (t *Tally) Add(o *Tally) {
	mine, theirs := t.fields(), o.fields()
	for i := range mine {
		*mine[i] += *theirs[i]
	}
	for i := range t.Dropped {
		t.Dropped[i] += o.Dropped[i]
		t.FailedFor[i] += o.FailedFor[i]
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
		if n := t.FailedFor[i]; n > 0 {
			c.Fail(job.Reason(i), n)
		}
	}
	return c
}

// counters is how many a tally writes: of the two by reason, to which a reason goes with one, one.
const counters = 9 + 16

// write appends which counters are not 0, as bits, and those.
func (t *Tally) write(w *bin.Writer) {
	var all [counters]uint64
	for i, f := range t.fields() {
		all[i] = *f
	}
	for i, n := range t.Dropped {
		all[9+i] = n + t.FailedFor[i]
	}
	var has uint64
	for i, n := range all {
		if n != 0 {
			has |= 1 << i
		}
	}
	w.Uint(has)
	for _, n := range all {
		if n != 0 {
			w.Uint(n)
		}
	}
}

func readTally(r *bin.Reader) Tally {
	var all [counters]uint64
	for has := r.Max(1<<counters - 1); has != 0; has &= has - 1 {
		all[bits.TrailingZeros64(has)] = r.Uint()
	}
	var t Tally
	for i, f := range t.fields() {
		*f = all[i]
	}
	for i, n := range all[9:] {
		if job.Reason(i).Outcome() == job.Failed {
			t.FailedFor[i] = n
		} else {
			t.Dropped[i] = n
		}
	}
	return t
}
