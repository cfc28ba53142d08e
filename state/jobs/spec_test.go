package jobs

import (
	"context"
	"encoding/binary"
	"sync/atomic"
	"testing"

	"crier/job"
	"crier/state/ledger"
)

// counted counts how often the last record of a subject is read.
type counted struct {
	ledger.Log
	reads atomic.Int64
}

func (l *counted) Last(ctx context.Context, subject string) (ledger.Stored, error) {
	l.reads.Add(1)
	return l.Log.Last(ctx, subject)
}

// An index that reads on asks for the spec of every block; of a job that is over the ledger
// is read once. What is kept is bounded, and what there is not is not kept.
func TestSpecsOfJobsThatAreOverAreReadOnce(t *testing.T) {
	log, controls := streams()
	with := &counted{Log: log}
	writer, table := New(log, controls), New(with, controls)
	number := func(n uint32) (id job.ID) {
		binary.BigEndian.PutUint32(id[:], n+1)
		return id
	}
	const jobs = specsKept + 10
	for n := range uint32(jobs) {
		s := spec(1, 1)
		s.ID = number(n)
		if _, _, err := writer.Accept(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		if _, err := writer.Transition(t.Context(), s.ID, job.JobFailed, "why", at); err != nil {
			t.Fatal(err)
		}
	}
	for n := range uint32(jobs) {
		for range 3 {
			if s, err := table.Spec(t.Context(), number(n)); err != nil || s.ID != number(n) || s.Package != (job.Digest{9}) {
				t.Fatalf("job %d: %+v, %v", n, s, err)
			}
		}
	}
	if got := with.reads.Load(); got != jobs {
		t.Errorf("%d readings of the ledger for %d jobs", got, jobs)
	}
	if kept := len(table.over.of); kept > specsKept {
		t.Errorf("%d specs are kept, want at most %d", kept, specsKept)
	}
	missing := number(jobs)
	if _, err := table.Spec(t.Context(), missing); job.CodeOf(err) != job.CodeNotFound {
		t.Fatalf("a job that is none: %v", err)
	}
	s := spec(1, 1)
	s.ID = missing
	if _, _, err := writer.Accept(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if got, err := table.Spec(t.Context(), missing); err != nil || got.ID != missing {
		t.Errorf("a job that is there by now: %+v, %v", got, err)
	}
}
