package ledger_test

import (
	"testing"

	"crier/job"
	"crier/state/ledger"
)

// An append that comes second is counted by what it was about; one that is taken, or gets
// no answer, is not.
func TestRefusalsAreCounted(t *testing.T) {
	m, n := ledger.NewMemory(ledger.MemoryConfig{}), new(ledger.Refusals)
	log := n.Counted(m)
	for i, subject := range []string{ledger.JournalSubject(job.Journal{Worker: "w-a", Incarnation: 1}), ledger.ClaimSubject(ledger.SliceThing(job.ID{1}, 0)), ledger.JobSubject(job.ID{1})} {
		if _, err := log.Append(t.Context(), subject, 0, []byte("first")); err != nil {
			t.Fatal(err)
		}
		for range i + 1 {
			if _, err := log.Append(t.Context(), subject, 0, []byte("second")); err == nil {
				t.Fatalf("%s: a second first record is taken", subject)
			}
		}
	}
	m.Inject(ledger.AllJournals, ledger.FaultLost)
	if _, err := log.Append(t.Context(), ledger.JournalSubject(job.Journal{Worker: "w-b", Incarnation: 1}), 0, []byte("x")); err == nil {
		t.Fatal("the fault does not come")
	}
	if j, c, o := n.Journal.Load(), n.Claim.Load(), n.Job.Load(); j != 1 || c != 2 || o != 3 {
		t.Errorf("refused: %d of journals, %d of claims, %d of jobs; want 1, 2, 3", j, c, o)
	}
}
