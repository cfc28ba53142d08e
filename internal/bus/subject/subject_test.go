package subject_test

import (
	"strings"
	"testing"

	"crier/internal/bus/subject"

	"pgregory.net/rapid"
)

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, subject string
		want             bool
	}{
		{"led.job.a", "led.job.a", true},
		{"led.job.a", "led.job.b", false},
		{"led.job.a", "led.job.a.b", false},
		{"led.job.a", "led.job", false},
		{"led.*.a", "led.job.a", true},
		{"led.*", "led.job.a", false},
		{"*", "led", true},
		{"*", "", false},
		{">", "led", true},
		{">", "led.job.a", true},
		{">", "", false},
		{"led.>", "led.job", true},
		{"led.>", "led.j.w.1", true},
		{"led.>", "led", false},
		{"led.>", "ledger.a", false},
		{"led.*.>", "led.a", false},
		{"led.*.>", "led.a.b", true},
	} {
		if got := subject.Match(c.pattern, c.subject); got != c.want {
			t.Errorf("Match(%q, %q) = %v, want %v", c.pattern, c.subject, got, c.want)
		}
	}
}

// TestMatchAgainstExpansion compares Match with a matcher over split tokens.
func TestMatchAgainstExpansion(t *testing.T) {
	token := rapid.SampledFrom([]string{"a", "b", "cc"})
	ptoken := rapid.SampledFrom([]string{"a", "b", "cc", "*"})
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.SliceOfN(token, 1, 4).Draw(t, "subject")
		p := rapid.SliceOfN(ptoken, 1, 4).Draw(t, "pattern")
		if rapid.Bool().Draw(t, "tail") {
			p = append(p, ">")
		}
		if got := subject.Match(strings.Join(p, "."), strings.Join(s, ".")); got != matches(p, s) {
			t.Fatalf("Match(%q, %q) = %v", p, s, got)
		}
	})
}

func matches(p, s []string) bool {
	if len(p) > 0 && p[len(p)-1] == ">" {
		n := len(p) - 1
		return len(s) > n && matches(p[:n], s[:n])
	}
	if len(p) != len(s) {
		return false
	}
	for i := range p {
		if p[i] != "*" && p[i] != s[i] {
			return false
		}
	}
	return true
}

func TestValid(t *testing.T) {
	for s, want := range map[string]bool{
		"a": true, "a.b": true, "": false, ".": false, "a.": false, ".a": false, "a..b": false,
		"a b": false, "a.*": false, "a.>": false, "a.b\n": false, "job_01": true, "a*b": false,
	} {
		if got := subject.Valid(s); got != want {
			t.Errorf("Valid(%q) = %v, want %v", s, got, want)
		}
	}
	for s, want := range map[string]bool{"a.*": true, ">": true, "a.>": true, ">.a": false, "a.*b": false, "": false} {
		if got := subject.ValidPattern(s); got != want {
			t.Errorf("ValidPattern(%q) = %v, want %v", s, got, want)
		}
	}
}
