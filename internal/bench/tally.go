package bench

import (
	"crier/internal/bench/feed"
	"crier/internal/idset"
	"crier/job"
)

// Tally stands for a set of recipients: how many, and a sum of a number for each that
// depends on who it is. Two sets with one tally are the same but for a chance in 2^64; so
// is a recipient who was counted twice found.
type Tally struct {
	N   uint64 `json:"n"`
	Sum uint64 `json:"sum"`
}

func (t *Tally) add(s *idset.Set) {
	for id := range s.All() {
		t.N++
		t.Sum += feed.Mix(uint64(id) + 0x9e3779b97f4a7c15)
	}
}

// count keeps whom a gateway with many jobs got, by job.
func (g *Gateway) count(id job.ID, got *idset.Set) {
	t := g.mu.result.Jobs[id.String()]
	t.add(got)
	g.mu.result.Jobs[id.String()] = t
	g.mu.result.Received += uint64(got.Card())
	if due := g.mu.due[got.Range]; due != nil {
		got.AndNot(due)
	}
	g.mu.result.Strange += uint64(got.Card())
	got.Release()
}
