package job

import (
	"fmt"
	"strings"
)

// Standing is an outcome, and of those that have reasons which one: no reason stands for
// any.
type Standing struct {
	Outcome Outcome
	Reason  Reason
}

// ParseStanding reads what String writes: delivered, or failed, or dropped:relation.
func ParseStanding(s string) (Standing, error) {
	var x Standing
	outcome, reason, reasoned := strings.Cut(s, ":")
	if err := x.Outcome.UnmarshalText([]byte(outcome)); err != nil {
		return x, err
	}
	if reasoned {
		if err := x.Reason.UnmarshalText([]byte(reason)); err != nil {
			return x, fmt.Errorf("%w: want one of %s", err, strings.Join(reasonsOf(x.Outcome), ", "))
		}
	}
	if reasoned && x.Reason == NoReason {
		return x, fmt.Errorf("%q ends before a reason", s)
	}
	return x, x.Validate()
}

// reasonsOf lists the reasons that go with an outcome.
func reasonsOf(o Outcome) (names []string) {
	for r := ReasonRelation; r <= ReasonUnknown; r++ {
		if r.Outcome() == o {
			names = append(names, r.String())
		}
	}
	return names
}

// Validate refuses a reason that does not go with the outcome.
func (s Standing) Validate() error {
	if s.Reason == NoReason || s.Reason.Outcome() == s.Outcome {
		return nil
	}
	if len(reasonsOf(s.Outcome)) == 0 {
		return fmt.Errorf("nobody is %s for a reason", s.Outcome)
	}
	return fmt.Errorf("nobody is %s for %s: want one of %s", s.Outcome, s.Reason, strings.Join(reasonsOf(s.Outcome), ", "))
}

// Has reports whether who stands at other stands here, too.
func (s Standing) Has(other Standing) bool {
	return s.Outcome == other.Outcome && (s.Reason == NoReason || s.Reason == other.Reason)
}

// String is the outcome, with a colon and the reason if there is one.
func (s Standing) String() string {
	if s.Reason == NoReason {
		return s.Outcome.String()
	}
	return s.Outcome.String() + ":" + s.Reason.String()
}

// MarshalText writes what String writes.
func (s Standing) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (s *Standing) UnmarshalText(b []byte) (err error) {
	*s, err = ParseStanding(string(b))
	return err
}
