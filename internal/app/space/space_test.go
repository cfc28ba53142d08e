package space

import (
	"os"
	"path/filepath"
	"testing"

	"crier/internal/app/datadir"
)

// TestForLedger holds that the ledger's limit does not shrink below what it has:
// a process would not start again on a disk of which the ledger has the larger part.
func TestForLedger(t *testing.T) {
	s := New(Config{Data: t.TempDir()})
	if err := os.Mkdir(filepath.Join(s.cfg.Data, "nats"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := datadir.WriteWhole(filepath.Join(s.cfg.Data, "nats", "1.blk"), make([]byte, 300), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ free, want int64 }{{0, 300}, {160, 320}, {700, 500}, {64 << 30, 32<<30 + 150}, {256 << 30, MaxLedger}} {
		s.Free = func(string) (int64, int64, error) { return c.free, 0, nil }
		if got, err := s.ForLedger(); got != c.want || err != nil {
			t.Errorf("with %d free: %d, %v; want %d", c.free, got, err, c.want)
		}
	}
}
