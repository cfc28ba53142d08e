package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"crier/api"
	"crier/audience"
	"crier/internal/idset"
	"crier/internal/service/sets"
	"crier/job"
	"crier/state/proof"
)

// ExportJob implements api.Proofs. The proof writes to a scratch file a range at a time, so
// that a reader who is slow keeps no other proof waiting.
func (s *Service) ExportJob(ctx context.Context, id job.ID, req api.ExportJob, w io.Writer) (err error) {
	if err := req.Validate(); err != nil {
		return err
	}
	draft, err := s.standing(ctx, id, req)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, draft.Discard()) }()
	if req.Format == api.FormatIDs {
		return sets.ExportIDs(ctx, draft, w)
	}
	return sets.Export(draft, w)
}

// standing proves who of a job is in an export.
func (s *Service) standing(ctx context.Context, id job.ID, req api.ExportJob) (*audience.Draft, error) {
	_, pkg, err := s.jobAndPackage(ctx, id)
	if err != nil {
		return nil, err
	}
	done, err := s.prove(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	draft, err := s.Draft(ctx, exportName(id, req), func(add func(*idset.Set) error) error {
		return s.prover.Standing(ctx, id, pkg, req.Chosen, add)
	})
	if errors.Is(err, proof.ErrViolated) {
		return nil, &job.Error{Code: job.CodeConflict, Err: err,
			Message: fmt.Sprintf("job %s is not conserved, so that nobody can tell who stands where; crier job reconcile %s says what is wrong", id, id)}
	}
	return draft, err
}

// exportName is what the package of an export is called.
func exportName(id job.ID, req api.ExportJob) string {
	name := id.String() + "-" + strings.NewReplacer(",", "-", ":", "-").Replace(req.StandingText())
	if len(name) > audience.MaxName {
		return id.String()
	}
	return name
}
