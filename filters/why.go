package filters

import (
	"fmt"
	"strings"

	"crier/job"
)

// Why says in words by what the job's lists a recipient was dropped for a reason. It is
// "" for reasons that no list of the job shows: a suppression list is read as it is, and
// may be another by now. Lists that do not bear a reason out are told so, too.
func (l Lists) Why(reason job.Reason, who job.Recipient) (string, error) {
	switch reason {
	case job.ReasonTargeting:
		return Targeting{l.Include, l.Exclude}.why(who)
	case job.ReasonControl:
		return l.Control.why(who), nil
	}
	return "", nil
}

func (s Targeting) why(who job.Recipient) (string, error) {
	for _, x := range s.Exclude {
		in, err := x.has(who)
		if err != nil {
			return "", err
		}
		if in {
			return fmt.Sprintf("in %s, which the job excludes", x), nil
		}
	}
	var names []string
	for _, x := range s.Include {
		in, err := x.has(who)
		if err != nil {
			return "", err
		}
		if in {
			return fmt.Sprintf("not borne out: in %s, which the job includes, and in none that it excludes", x), nil
		}
		names = append(names, x.String())
	}
	if len(names) == 0 {
		return "not borne out: in no segment that the job excludes, and it includes none", nil
	}
	return "in none of the segments that the job includes: " + strings.Join(names, ", "), nil
}

// has reports whether a recipient is in the segment.
func (s Segment) has(who job.Recipient) (bool, error) {
	in, err := s.Range(who.Range())
	if err != nil {
		return false, fmt.Errorf("reading %s: %w", s, err)
	}
	defer in.Release()
	return in.Has(uint32(who)), nil
}

func (s ControlGroup) why(who job.Recipient) string {
	lot := Lot(s.Salt, who)
	share := fmt.Sprintf("its lot is %d of %d, %.6f%%", lot, uint64(1)<<lotDigits, 100*float64(lot)/(1<<lotDigits))
	if uint64(lot) >= limitOf(s.Share) {
		return fmt.Sprintf("not borne out: %s, and the job's control group is what is below %s", share, s.Share)
	}
	return fmt.Sprintf("in the control group of %s: %s", s.Share, share)
}
