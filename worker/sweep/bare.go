package sweep

import "crier/job"

// bare remembers in which ranges nobody of a job is parked any more, so that a job of which
// little is left is not looked for in every range, round by round. What it says holds until
// anybody is parked in the range again. The zero value knows nothing; it belongs to one goroutine.
//
// Memory: 512 bytes for each job that is over and has somebody waiting, and 32 KiB.
type bare struct {
	jobs     map[job.ID]*ranges // in which nobody is parked
	asked    map[job.ID]bool    // in this round
	parkings [job.Ranges]uint64
}

// begin begins a round: where anybody was parked since the last one, nothing is known any more.
func (b *bare) begin(parkings func(job.Range) uint64) {
	if b.asked = map[job.ID]bool{}; b.jobs == nil {
		b.jobs = map[job.ID]*ranges{}
	}
	for r := range job.Range(job.Ranges) {
		n := parkings(r)
		if n == b.parkings[r] {
			continue
		}
		b.parkings[r] = n
		for _, x := range b.jobs {
			x.remove(r)
		}
	}
}

// of gives the ranges of a job, to which what is found is added.
func (b *bare) of(id job.ID) *ranges {
	if b.asked[id] = true; b.jobs[id] == nil {
		b.jobs[id] = &ranges{}
	}
	return b.jobs[id]
}

// end forgets the jobs that were not asked about in this round.
func (b *bare) end() {
	for id := range b.jobs {
		if !b.asked[id] {
			delete(b.jobs, id)
		}
	}
}

// ranges is some of all ranges, a bit each.
type ranges [job.Ranges / 64]uint64

func (x *ranges) has(r job.Range) bool { return x[r/64]>>(r%64)&1 == 1 }
func (x *ranges) add(r job.Range)      { x[r/64] |= 1 << (r % 64) }
func (x *ranges) remove(r job.Range)   { x[r/64] &^= 1 << (r % 64) }
