package service

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"crier/api"
	"crier/audience/members"
	"crier/job"
	"crier/state/sql/groups"
)

// aim puts in the segments and the control group that a job asks for, as they are now.
// All segments are looked for before one is fixed.
func (s *Service) aim(ctx context.Context, req api.SubmitJob, spec *job.Spec) error {
	include, err := s.findSegments(ctx, "include_segments", req.IncludeSegments)
	if err != nil {
		return err
	}
	exclude, err := s.findSegments(ctx, "exclude_segments", req.ExcludeSegments)
	if err != nil {
		return err
	}
	if spec.Include, err = s.pinSegments(ctx, include); err != nil {
		return err
	}
	if spec.Exclude, err = s.pinSegments(ctx, exclude); err != nil {
		return err
	}
	if spec.ControlGroup, err = job.PercentOf(req.ControlGroup); err != nil || spec.ControlGroup.IsZero() {
		return err
	}
	spec.Salt, err = s.cfg.Store.Salts.Of(ctx, spec.Account)
	return err
}

// findSegments finds segments that a field of a request names.
func (s *Service) findSegments(ctx context.Context, field string, names []string) (found []groups.Segment, err error) {
	for _, name := range names {
		x, err := s.InUse(ctx, name)
		var known *job.Error
		if errors.As(err, &known) && (known.Code == job.CodeNotFound || known.Code == job.CodeConflict) {
			return nil, &job.Error{Code: known.Code, Field: field, Message: known.Message}
		}
		if err != nil {
			return nil, err
		}
		found = append(found, x)
	}
	return found, nil
}

// pinSegments fixes segments at their revisions.
func (s *Service) pinSegments(ctx context.Context, found []groups.Segment) (out []job.Segment, err error) {
	for _, x := range found {
		pin, err := s.cfg.Members.Pin(ctx, members.Segment(x.Number))
		if err != nil {
			return nil, fmt.Errorf("fixing segment %s: %w", x.Name, err)
		}
		out = append(out, job.Segment{Name: x.Name, Number: x.Number, Revision: pin.Revision, Blob: pin.Blob, Recipients: pin.Cardinality})
	}
	return out, nil
}

// refs are a job's segments as users see them.
func refs(segments []job.Segment) (out []api.SegmentRef) {
	for _, x := range segments {
		out = append(out, api.SegmentRef{Name: x.Name, Revision: x.Revision, Recipients: x.Recipients})
	}
	return out
}

// sorted is a list of names in one order.
func sorted(names []string) []string { return slices.Sorted(slices.Values(names)) }
