package proof

import (
	"strings"
	"testing"

	"crier/internal/idset"
	"crier/job"
	"crier/state/ledger"
)

// A charge says what it counts against, and no day if it is against no cap.
func TestWhatAChargeCountsAgainst(t *testing.T) {
	key := job.OnceKey{1}
	for what, c := range map[string]struct {
		terms ledger.Terms
		want  string
	}{
		"a cap over all":     {ledger.Terms{Day: 20000, All: true}, "charged for 2024-10-04 with block "},
		"a cap of accounts":  {ledger.Terms{Day: 20000, Account: 3}, "charged for 2024-10-04 with block "},
		"what is sent once":  {ledger.Terms{Once: key, Until: 480_000}, "charged as sent once with block "},
		"a cap, and is once": {ledger.Terms{Day: 20000, All: true, Once: key, Until: 480_000}, "charged for 2024-10-04 as sent once with block "},
	} {
		e := &ledger.Charge{Span: job.Span{Lo: 0, Hi: 64}, Terms: c.terms}
		if got := says(e, 7, ending{outcome: job.Pending}); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: it says %q, want %q", what, got, c.want)
		}
		set := idset.New(0)
		set.AddSpan(job.Span{Lo: 7, Hi: 8})
		e.Dropped = []ledger.Drop{{Reason: job.ReasonSendOnce, Set: set}}
		want := strings.Replace(strings.Replace(c.want, "charged", "charge of block "+e.Span.String(), 1), " with block ", ": refused (", 1)
		if got := says(e, 7, ending{outcome: job.Pending}); !strings.HasPrefix(got, want) {
			t.Errorf("%s: refused, it says %q, want %q", what, got, want)
		}
	}
}
