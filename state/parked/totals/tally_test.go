package totals

import (
	"testing"

	"crier/internal/bin"
	"crier/job"
)

// Who failed is told by reason, and comes back from the store so; nobody is counted as
// dropped for it.
func TestTallyKeepsReasons(t *testing.T) {
	var a Tally
	a.Gain(job.Failed, job.ReasonRefused, 3)
	a.Gain(job.Failed, job.ReasonUnknown, 2)
	a.Gain(job.Dropped, job.ReasonParkCap, 4)
	a.Gain(job.Delivered, job.NoReason, 1)
	a.Reserved = 10
	var w bin.Writer
	a.write(&w)
	b := readTally(bin.NewReader(w.B))
	if a != b {
		t.Errorf("%+v is read as %+v", a, b)
	}
	b.Add(&a)
	c := b.Counts(30)
	if c.Failed != 10 || c.FailedFor[job.ReasonRefused] != 6 || c.FailedFor[job.ReasonUnknown] != 4 || len(c.FailedFor) != 2 || c.DroppedTotal() != 8 || len(c.Dropped) != 1 {
		t.Errorf("counts are %+v", c)
	}
}
