package accepted_test

import (
	"path/filepath"
	"slices"
	"testing"

	"crier/job"
	"crier/presence/gateway"
	"crier/presence/gateway/accepted"
)

// TestLost: of starts whose files are gone for good the next one says that it cannot
// answer for them, not that it does not know them, for then it would be asked for ever.
func TestLost(t *testing.T) {
	for _, through := range []uint32{1, 7, 1000, 5000} {
		dir := filepath.Join(t.TempDir(), "accepted")
		if err := accepted.Lost(dir, through); err != nil {
			t.Fatal(err)
		}
		f, h, err := accepted.Open(accepted.Config{Dir: dir, Incarnation: job.Incarnation{Gateway: "g", Start: through + 1}})
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		for start := max(h.First, 1); start <= through; start++ {
			if !slices.ContainsFunc(h.Ended, func(e gateway.Ended) bool { return e.Start == start && e.Unreadable }) {
				t.Fatalf("after %d starts number %d is not unreadable", through, start)
			}
		}
		if want := max(1, int(through)-999); int(h.First) != want || len(h.Ended) != min(int(through), 1000) {
			t.Errorf("after %d starts it remembers %d, from %d on", through, len(h.Ended), h.First)
		}
		if err := accepted.Lost(dir, through+1); err == nil {
			t.Error("a directory with a history is taken for lost")
		}
	}
}
