package job_test

import (
	"strings"
	"testing"

	"crier/job"
)

// Every standing comes back from its text, and lies in its outcome's.
func TestStandingsAreRead(t *testing.T) {
	reasons := 0
	for _, o := range job.Outcomes() {
		for r := job.NoReason; r <= job.ReasonUnknown; r++ {
			s := job.Standing{Outcome: o, Reason: r}
			fits := r == job.NoReason || o == job.Dropped && r <= job.SuppressedParked || o == job.Failed && r > job.SuppressedParked
			if (s.Validate() == nil) != fits {
				t.Errorf("%s is valid: %v", s, s.Validate() == nil)
			}
			back, err := job.ParseStanding(s.String())
			if fits != (err == nil && back == s) {
				t.Errorf("%s was read as %s, %v", s, back, err)
			}
			if all := (job.Standing{Outcome: o}); fits && (!all.Has(s) || s.Has(all) != (r == job.NoReason)) {
				t.Errorf("%s and %s do not fit", all, s)
			}
			if fits && r != job.NoReason {
				reasons++
			}
		}
	}
	if reasons != 12 {
		t.Errorf("%d reasons go with an outcome, want each of 12 with one", reasons)
	}
}

func TestBadStandingsSayWhatIsWanted(t *testing.T) {
	for text, says := range map[string]string{
		"": "want one of pending, handed_off", "sent": `"sent": want one of`, "Delivered": "want one of", "dropped:": "ends before a reason", "dropped:mood": "want one of relation, suppression",
		"delivered:relation": "nobody is delivered for a reason", "failed:relation": "want one of refused, tries, unknown", "dropped:relation:x": `"relation:x"`, "delivered:": "ends before a reason",
	} {
		if s, err := job.ParseStanding(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q was read as %s, %v; want %q", text, s, err, says)
		}
	}
}
