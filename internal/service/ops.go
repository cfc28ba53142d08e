package service

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"crier/api"
	"crier/job"
	"crier/state/jobs"
)

// Status implements api.Operations.
func (s *Service) Status(ctx context.Context) (api.Status, error) {
	c, err := api.CallerOf(ctx)
	if err != nil {
		return api.Status{}, err
	}
	st := s.cfg.Status(ctx)
	counts, err := s.cfg.Store.Jobs.Of(c.Scope()).CountByState(ctx)
	if err != nil {
		st.Healthy = false
		st.Problems = append(st.Problems, "the SQL store does not answer: "+err.Error())
	}
	st.Jobs = counts
	late, err := s.late(c, func(jobs.Job) bool { return true })
	if err != nil {
		st.Healthy = false
		st.Problems = append(st.Problems, "it is not known which jobs overstay their states: "+err.Error())
	}
	st.Overstayed = uint64(len(late))
	if j, ok := oldest(slices.DeleteFunc(s.cfg.Jobs.Live(), func(j jobs.Job) bool { return !c.Sees(j.Spec.TenantOf()) })); ok {
		total, err := s.cfg.Index.Total(j.Spec.ID)
		if err != nil {
			st.Healthy = false
			st.Problems = append(st.Problems, fmt.Sprintf("the counts of job %s cannot be read: %s", j.Spec.ID, err))
		}
		st.Oldest = &api.Waiting{Job: j.Spec.ID, State: j.State, Since: j.Since, WaitingOn: s.waitingOn(j, total), Blocked: blocked(j)}
	}
	return st, nil
}

// oldest is the job that has been in its state for longest of those that are blocked; if
// none is, the first of all.
func oldest(live []jobs.Job) (found jobs.Job, ok bool) {
	for _, j := range live {
		if blocked(j) && (!ok || j.Since.Before(found.Since)) {
			found, ok = j, true
		}
	}
	if !ok && len(live) > 0 {
		return live[0], true
	}
	return found, ok
}

// blocked reports whether a job is to go on without anybody outside: a recipient who logs
// in, an operator, a time.
func blocked(j jobs.Job) bool {
	if j.State.Rule().Needs != job.NeedsOwner {
		return false
	}
	switch j.State {
	case job.Cancelling, job.Recalling, job.FailedOver: // a pause does not hold them up
		return true
	}
	return !j.Controls.Paused
}

// Backup implements api.Operations.
func (s *Service) Backup(ctx context.Context, w io.Writer) error {
	if s.cfg.Backup == nil {
		return job.Conflict("this process has others, or keeps what it knows in NATS or a database elsewhere; copy these, the blobs and the keys with their own tools")
	}
	return s.cfg.Backup(ctx, w)
}

// MintToken implements api.Operations.
func (s *Service) MintToken(ctx context.Context, req api.MintToken) (api.Token, error) {
	ttl := req.TTL
	if ttl == 0 {
		ttl = api.DefaultTokenTTL
	}
	api.ActOf(ctx).On(job.DefaultTenant, "recipient/"+req.Recipient.String())
	token, expires, err := s.cfg.Keys.Mint(job.Recipient(*req.Recipient), time.Duration(ttl))
	return api.Token{Token: token, Recipient: *req.Recipient, Expires: expires}, err
}
