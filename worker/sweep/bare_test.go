package sweep

import (
	"testing"

	"crier/job"
)

// A range in which nobody of a job is parked is not looked at again until anybody is parked there,
// of whichever job; a job that is not asked about for a round is forgotten.
func TestBareRangesHoldUntilSomebodyIsParked(t *testing.T) {
	var b bare
	parked := map[job.Range]uint64{7: 1, 9: 1}
	parkings := func(r job.Range) uint64 { return parked[r] }
	one, two := job.ID{1}, job.ID{2}
	round := func(ids ...job.ID) {
		b.begin(parkings)
		for _, id := range ids {
			b.of(id)
		}
		b.end()
	}
	b.begin(parkings)
	for _, id := range []job.ID{one, two} {
		b.of(id).add(7)
		b.of(id).add(9)
	}
	parked[9]++ // while it was looked
	b.end()
	round(one, two)
	for _, id := range []job.ID{one, two} {
		if !b.of(id).has(7) || b.of(id).has(9) {
			t.Errorf("job %s is bare in 7: %v, in 9: %v; want it in 7, where nobody was parked since", id, b.of(id).has(7), b.of(id).has(9))
		}
	}
	round(two)
	if b.of(one).has(7) || !b.of(two).has(7) || len(b.jobs) != 2 {
		t.Error("what is known of a job is kept that was not asked about, or is not of the other")
	}
}
