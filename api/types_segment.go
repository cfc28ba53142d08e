package api

import (
	"fmt"
	"slices"
	"time"

	"crier/job"
)

// CreateSegment asks for a new segment.
type CreateSegment struct {
	// Name is unique: 1 to 128 bytes of printable text without a slash.
	Name string `json:"name" doc:"Unique name: 1 to 128 bytes of printable text without a slash."`
}

// Validate refuses a name that cannot stand in a URL or on a terminal.
func (r CreateSegment) Validate() error { return ValidateName("name", r.Name) }

// Segment is a named set of recipients that jobs of any account may aim at or leave out.
type Segment struct {
	Name       string    `json:"name"`
	Recipients uint64    `json:"recipients" doc:"How many are in it."`
	Revision   uint64    `json:"revision" doc:"Each change adds one."`
	CreatedAt  time.Time `json:"created_at"`
	ArchivedAt time.Time `json:"archived_at,omitzero" doc:"Since when it is out of use; absent while it is not."`
}

// ListSegments asks for segments.
type ListSegments struct {
	Page
	// Archived asks for those that are archived, instead of the others.
	Archived bool
}

// SegmentList is one page of segments.
type SegmentList struct {
	Segments []Segment `json:"segments"`
	Next     string    `json:"next,omitzero" doc:"Cursor of the next page; absent on the last."`
}

// SegmentChange says what adding to a segment or removing from it did.
type SegmentChange struct {
	Segment    string `json:"segment" doc:"Name of the segment."`
	Changed    uint64 `json:"changed" doc:"How many ids were added or removed."`
	Unchanged  uint64 `json:"unchanged" doc:"How many were so already, or repeated."`
	Recipients uint64 `json:"recipients" doc:"How many are in it now."`
	Revision   uint64 `json:"revision"`
}

// ImportIDs describes a file of recipient ids, one a line or separated by commas. The
// file may be gzipped.
type ImportIDs struct {
	// Skip is the number of lines to leave out at the start of the file.
	Skip int
}

// Validate refuses a negative number of lines.
func (r ImportIDs) Validate() error {
	if r.Skip < 0 {
		return job.Invalid("skip", fmt.Sprintf("cannot skip %d lines", r.Skip), nil)
	}
	return nil
}

// IDsImport says what an import of ids did: read = repeated + already + added.
type IDsImport struct {
	Read       uint64 `json:"read" doc:"Ids in the file."`
	Repeated   uint64 `json:"repeated" doc:"Stood in the file before."`
	Already    uint64 `json:"already" doc:"Were in the set before."`
	Added      uint64 `json:"added" doc:"Are new in the set."`
	Recipients uint64 `json:"recipients" doc:"How many are in the set now."`
	Revision   uint64 `json:"revision" doc:"Of the set; an import adds at most one."`
}

// The kinds of sets that are kept and can be exported.
const (
	SetFollowers   = "followers"
	SetSuppression = "suppression"
	SetSegment     = "segment"
)

// SetKinds lists them.
var SetKinds = []string{SetFollowers, SetSuppression, SetSegment}

// ExportSet names a set that is kept.
type ExportSet struct {
	// Kind is one of SetKinds.
	Kind string
	// Of is the account of followers, the segment's name, or the account of a
	// suppression list, whose global one is that of nobody.
	Of string
}

// Validate refuses an unknown kind, and what needs an owner and has none.
func (r ExportSet) Validate() error {
	switch {
	case !slices.Contains(SetKinds, r.Kind):
		return job.NotFound(fmt.Sprintf("there are no sets of the kind %s; there are followers, suppression and segment", Printable(r.Kind)))
	case r.Of == "" && r.Kind == SetFollowers:
		return job.Invalid("of", "followers are those of an account: which?", nil)
	case r.Of == "" && r.Kind == SetSegment:
		return job.Invalid("of", "the name of the segment is needed", nil)
	}
	return nil
}

// SegmentRef is a segment as a job recorded it.
type SegmentRef struct {
	Name       string `json:"name"`
	Revision   uint64 `json:"revision" doc:"The one that the job uses, whatever the segment became since."`
	Recipients uint64 `json:"recipients" doc:"How many were in it."`
}

// validateTargets names the field of a submit's segments or control group that is wrong.
func (r SubmitJob) validateTargets() error {
	for _, x := range []struct {
		field string
		names []string
	}{{"include_segments", r.IncludeSegments}, {"exclude_segments", r.ExcludeSegments}} {
		for i, name := range x.names {
			if err := ValidateName(x.field, name); err != nil {
				return err
			}
			if slices.Contains(x.names[:i], name) {
				return job.Invalid(x.field, fmt.Sprintf("segment %q is named twice", name), nil)
			}
		}
	}
	if n := len(r.IncludeSegments) + len(r.ExcludeSegments); n > job.MaxSegments {
		return job.Invalid("include_segments", fmt.Sprintf("a job names at most %d segments, this one %d", job.MaxSegments, n), nil)
	}
	for _, name := range r.ExcludeSegments {
		if slices.Contains(r.IncludeSegments, name) {
			return job.Invalid("exclude_segments", fmt.Sprintf("segment %q is both included and excluded", name), nil)
		}
	}
	if _, err := job.PercentOf(r.ControlGroup); err != nil {
		return job.Invalid("control_group", err.Error(), nil)
	}
	return nil
}
