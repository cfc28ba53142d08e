package job_test

import (
	"strings"
	"testing"

	"crier/job"
)

// Every outcome, reason and state has its sentence, and no two of a kind share a word.
func TestWordsMeanSomething(t *testing.T) {
	seen := map[string]bool{}
	for _, w := range job.Words() {
		if w.Word == "" || w.Is == "" || !strings.HasSuffix(w.Means, ".") || len(w.Means) < 20 {
			t.Errorf("%+v says too little", w)
		}
		if seen[w.Word+w.Is] {
			t.Errorf("%s is twice the %s", w.Word, w.Is)
		}
		seen[w.Word+w.Is] = true
	}
	if n := len(job.Outcomes()) + int(job.ReasonUnknown) + int(job.FailedOver) + 1 + int(job.SliceAbandoned) + 1; len(seen) < n+16 {
		t.Errorf("%d words, want %d, and those beside them", len(seen), n)
	}
}
