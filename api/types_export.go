package api

import (
	"fmt"
	"slices"
	"strings"

	"crier/job"
)

// FormatPackage is a recipient package in its envelope (.crpk).
const FormatPackage = "package"

// ExportJob asks for the recipients of a job who stand somewhere.
type ExportJob struct {
	// Standings are where; who stands at one of them is in the export.
	Standings []job.Standing
	// Format is FormatPackage, which empty means, or FormatIDs.
	Format string
}

// ParseStandings reads what StandingText writes: delivered,dropped:relation.
func ParseStandings(text string) (all []job.Standing, err error) {
	if text == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		s, err := job.ParseStanding(Printable(part))
		if err != nil {
			return nil, job.Invalid("outcome", err.Error(), nil)
		}
		all = append(all, s)
	}
	return all, nil
}

// StandingText is the list of outcomes as it stands in a query.
func (r ExportJob) StandingText() string {
	var all []string
	for _, s := range r.Standings {
		all = append(all, s.String())
	}
	return strings.Join(all, ",")
}

// Chosen reports whether who stands at s is in the export.
func (r ExportJob) Chosen(s job.Standing) bool {
	return slices.ContainsFunc(r.Standings, func(x job.Standing) bool { return x.Has(s) })
}

// Validate refuses an export of nobody, a standing that there is not or that is named
// twice, and an unknown format.
func (r ExportJob) Validate() error {
	if len(r.Standings) == 0 {
		return job.Invalid("outcome", "which recipients? Name outcomes, such as failed,expired or dropped:relation", nil)
	}
	for i, s := range r.Standings {
		if err := s.Validate(); err != nil {
			return job.Invalid("outcome", err.Error(), nil)
		}
		if slices.Contains(r.Standings[:i], s) {
			return job.Invalid("outcome", fmt.Sprintf("outcome %s is named twice", s), nil)
		}
	}
	if r.Format != "" && r.Format != FormatPackage && r.Format != FormatIDs {
		return job.Invalid("format", fmt.Sprintf("format %q: want package or ids", Printable(r.Format)), nil)
	}
	return nil
}
