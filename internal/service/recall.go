package service

import (
	"context"
	"fmt"

	"crier/api"
	"crier/job"
	"crier/state/jobs"
)

// RecallJob implements api.Controls. The control is the record that counts: whoever reads
// it moves the job on, also one that was over.
func (s *Service) RecallJob(ctx context.Context, id job.ID, req api.Recall) (api.Job, error) {
	if err := req.Validate(); err != nil {
		return api.Job{}, err
	}
	j, err := s.job(ctx, id)
	switch {
	case err != nil:
		return api.Job{}, err
	case !j.Spec.Withdraws.IsZero():
		return api.Job{}, job.Conflict(fmt.Sprintf("job %s withdraws job %s; it cannot be recalled itself", id, j.Spec.Withdraws))
	case j.Controls.Recalled && j.Controls.Reason != req.Reason:
		return api.Job{}, job.Conflict(fmt.Sprintf("job %s is recalled already, for the reason %q, which stands; crier job info shows how far that is", id, j.Controls.Reason))
	case j.Controls.Recalled || j.State == job.JobRecalled: // asked again
		return s.describe(ctx, j)
	case j.State.Terminal():
		if err := s.readable(ctx, id); err != nil {
			return api.Job{}, err
		}
	}
	if err := s.order(ctx, &j, job.Control{Recall: true, Why: req.Reason}); err != nil {
		return api.Job{}, err
	}
	if j.State.Terminal() { // to be told at once; a scheduler does it else
		if back, err := s.cfg.Jobs.Transition(ctx, id, job.Recalling, j.Controls.RecallReason(), now()); err == nil {
			back.Controls = j.Controls
			j = back
		}
	}
	return s.describe(ctx, j)
}

// readable refuses to recall a job that is over if it cannot be told any more who has its
// message. One that is under way is stopped in any case.
func (s *Service) readable(ctx context.Context, id job.ID) error {
	done, err := s.prove(ctx)
	if err != nil {
		return err
	}
	defer done()
	err = s.prover.Readable(ctx, id)
	if isCode(err, job.CodeNotFound) {
		return job.Conflict(fmt.Sprintf("job %s is over, and its records are gone, so that nobody can tell who has its message: %s", id, err))
	}
	return err
}

// withdrawal gives the job that withdraws what another delivered; ok is false if there is
// none, or none yet.
func (s *Service) withdrawal(ctx context.Context, j jobs.Job) (spec job.Spec, ok bool, err error) {
	if j.State != job.Recalling && j.State != job.JobRecalled {
		return spec, false, nil
	}
	spec, err = s.cfg.Jobs.Spec(ctx, job.WithdrawalID(j.Spec.ID))
	if isCode(err, job.CodeNotFound) {
		return spec, false, nil
	}
	return spec, err == nil, err
}

// withdrawn is how far the withdrawal of a recalled job is.
func (s *Service) withdrawn(ctx context.Context, j jobs.Job) (api.Withdrawal, error) {
	spec, ok, err := s.withdrawal(ctx, j)
	if err != nil || !ok {
		return api.Withdrawal{}, err
	}
	total, err := s.cfg.Index.Total(spec.ID)
	return withdrawalOf(spec, total.Counts(spec.Recipients)), err
}

// proveWithdrawn is the same, from the ledger.
func (s *Service) proveWithdrawn(ctx context.Context, j jobs.Job) (api.Withdrawal, error) {
	spec, ok, err := s.withdrawal(ctx, j)
	if err != nil || !ok {
		return api.Withdrawal{}, err
	}
	pkg, err := s.cfg.Set(ctx, spec.Package)
	if err != nil {
		return api.Withdrawal{}, fmt.Errorf("opening the package of job %s: %w", spec.ID, err)
	}
	res, err := s.prover.Reconcile(ctx, spec.ID, pkg, false)
	return withdrawalOf(spec, res.Counts), err
}

// withdrawalOf is how far a withdrawal is, given where its recipients stand.
func withdrawalOf(spec job.Spec, n job.Counts) api.Withdrawal {
	return api.Withdrawal{Withdrawal: spec.ID, Withdrawn: n.Delivered, Withdrawing: n.Open(), Refused: n.FailedFor[job.ReasonRefused]}
}
