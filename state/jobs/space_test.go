package jobs

import (
	"testing"
	"testing/synctest"
	"time"

	"crier/job"
	"crier/state/ledger"
)

// TestFull fills the ledger by submits: they are refused while enough is left for
// the accepted ones to go on and for the next process to take over.
func TestFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := ledger.NewMemory(ledger.MemoryConfig{Limit: 40_000})
		table := New(log, ledger.NewMemory(ledger.MemoryConfig{}))
		defer run(t, table)()
		n := byte(0)
		for ; ; n++ {
			time.Sleep(time.Second)
			_, _, err := table.Accept(t.Context(), spec(n, n))
			if job.CodeOf(err) == job.CodeFull {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		u, err := log.Usage(t.Context())
		if err != nil || u.Bytes <= 34_000 || u.Bytes > 36_000 || !table.Full() {
			t.Errorf("it refuses with %d of %d bytes used (%v), full is %v; want a little over 85 %%", u.Bytes, u.Limit, err, table.Full())
		}
		if _, err := table.Transition(t.Context(), job.ID{1}, job.Packed, "", at); err != nil {
			t.Errorf("what was accepted cannot go on: %v", err)
		}
	})
}
