package scheduler

import (
	"context"
	"time"

	"crier/job"
	"crier/state/jobs"
)

// Withdrawals makes the jobs that take back what recalled ones have delivered.
type Withdrawals interface {
	// Withdraw accepts the withdrawal of a job whose message nobody can get any more, to
	// all who may have seen it; if there are none, nothing is made. It is idempotent,
	// whoever calls it and whatever died meanwhile. Errors may pass.
	Withdraw(ctx context.Context, recalled job.Spec) error
}

// withdrawing is how far a job's withdrawal is.
type withdrawing struct {
	asking bool // it is being made
	made   bool
	at     time.Time // not before
	failed string    // why the last try failed
}

// withdraw starts to make the withdrawal of a job, beside the scheduler's rounds, unless
// that is under way or done, or was tried a moment ago.
func (s *Scheduler) withdraw(ctx context.Context, j jobs.Job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.mu.plans[j.Spec.ID]
	if p.withdrawal.asking || p.withdrawal.made || time.Now().Before(p.withdrawal.at) {
		return
	}
	p.withdrawal.asking = true
	s.busy.Go(func() {
		err := s.cfg.Withdrawals.Withdraw(ctx, j.Spec)
		s.mu.Lock()
		defer s.mu.Unlock()
		x := &p.withdrawal
		x.asking, x.made = false, err == nil
		if err != nil {
			if ctx.Err() == nil && x.failed != err.Error() {
				s.log.Warn("withdrawing what a job delivered; it is tried again", "job", j.Spec.ID.String(), "error", err)
			}
			x.failed, x.at = err.Error(), time.Now().Add(recheck)
			return
		}
		s.soon()
	})
}
