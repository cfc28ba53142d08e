package service

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"crier/api"
	"crier/job"
	"crier/state/jobs"
	"crier/state/parked"
	"crier/state/sql"
	"crier/state/sql/access"
)

// describe makes the picture of a job that users see. It may wait for the index.
func (s *Service) describe(ctx context.Context, j jobs.Job) (api.Job, error) {
	total, err := s.total(ctx, j)
	if err != nil {
		return api.Job{}, fmt.Errorf("reading the counts of job %s: %w", j.Spec.ID, err)
	}
	return s.picture(ctx, j, total)
}

func (s *Service) picture(ctx context.Context, j jobs.Job, total parked.Tally) (api.Job, error) {
	spec, name := j.Spec, j.Spec.AccountName
	if name == "" { // from before it was in there
		a, err := s.cfg.Store.Accounts.Get(ctx, spec.Account)
		if err != nil {
			return api.Job{}, err
		}
		name = a.Name
	}
	taken, err := s.withdrawn(ctx, j)
	if err != nil {
		return api.Job{}, fmt.Errorf("reading what of job %s is withdrawn: %w", spec.ID, err)
	}
	stay, err := s.cfg.Stays.Of(j)
	if err != nil {
		return api.Job{}, err
	}
	var once *api.Once
	if spec.SendOnce != nil {
		once = &api.Once{Key: spec.SendOnce.Key, Window: api.Duration(spec.SendOnce.Window)}
	}
	return api.Job{Job: spec.ID, SendOnce: once, State: j.State, Version: j.Version, Reason: j.Reason, WaitingOn: s.waitingOn(j, total), Owner: j.State.Rule().Owner.String(), Due: stay.Due.UTC(), Overstayed: stay.Late(now()), Tries: stay.Tries,
		Paused: j.Controls.Paused, PausedBy: j.Controls.PausedBy, PausedWhy: j.Controls.PausedWhy, Account: name, AccountID: spec.Account, Tenant: spec.TenantOf(), SubmittedBy: spec.SubmittedBy, Class: spec.Class, Priority: spec.Priority, Rate: j.Rate(),
		OnUnknown: spec.OnUnknown, Decision: api.DecisionName(j.Controls.Doubt), Package: spec.Set, Recipients: spec.Recipients, Revision: spec.FollowersRev, BodyBytes: spec.BodyBytes,
		Include: refs(spec.Include), Exclude: refs(spec.Exclude), ControlGroup: spec.ControlGroup.Float(), Webhook: hookOf(spec),
		CollapseKey: spec.CollapseKey, IdempotencyKey: spec.IdempotencyKey, SubmittedAt: spec.SubmittedAt, UpdatedAt: j.Since,
		DisplayAt: spec.DisplayAt, ExpiresAt: spec.ExpiresAt, Withdraws: spec.Withdraws, Counts: total.Counts(spec.Recipients), Withdrawal: taken}, nil
}

// indexLag is the longest that the counts of a job that is sent wait for the index.
const indexLag = 2 * time.Second

// total reads a job's counts. The index follows the ledger by a moment: of a job that
// is sent, the counts are read when they cover the whole package.
func (s *Service) total(ctx context.Context, j jobs.Job) (parked.Tally, error) {
	limit := time.Now().Add(indexLag)
	for {
		t, err := s.cfg.Index.Total(j.Spec.ID)
		if err != nil || t.Reserved == j.Spec.Recipients || !j.State.AllSent() || time.Now().After(limit) {
			return t, err
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return t, ctx.Err()
		}
	}
}

// GetJob implements api.Jobs.
func (s *Service) GetJob(ctx context.Context, id job.ID) (api.Job, error) {
	j, err := s.job(ctx, id)
	if err != nil {
		return api.Job{}, err
	}
	x, err := s.describe(ctx, j)
	s.told(ctx, &x)
	return x, err
}

// ListJobs implements api.Jobs. The list is SQL's, which may lag by a moment; each
// job in it is as the ledger has it. Its counts are what the index has: to wait for
// that, as a single job does, would add up.
func (s *Service) ListJobs(ctx context.Context, req api.ListJobs) (api.JobList, error) {
	c, err := api.CallerOf(ctx)
	if err != nil {
		return api.JobList{}, err
	}
	switch {
	case req.Stuck:
		return s.listStuck(ctx, c, req)
	case req.State == job.Paused.String():
		return s.listPaused(ctx, c, req)
	}
	filter := sql.JobFilter{Cursor: req.Cursor, Limit: req.Size()}
	list := api.JobList{Jobs: []api.Job{}}
	if req.Account != "" {
		a, err := s.Account(ctx, req.Account)
		if err != nil {
			return list, err
		}
		filter.Account = &a.Number
	}
	if req.State != "" {
		var state job.State
		if err := state.UnmarshalText([]byte(req.State)); err != nil {
			return list, job.Invalid("state", err.Error(), nil)
		}
		filter.States = []job.State{state}
	}
	found, next, err := s.cfg.Store.Jobs.Of(c.Scope()).List(ctx, filter)
	if err != nil {
		return list, err
	}
	for _, f := range found {
		j, err := s.cfg.Jobs.Get(ctx, f.Spec.ID)
		if err != nil {
			return list, err
		}
		total, err := s.cfg.Index.Total(j.Spec.ID)
		if err != nil {
			return list, fmt.Errorf("reading the counts of job %s: %w", j.Spec.ID, err)
		}
		x, err := s.picture(ctx, j, total)
		if err != nil {
			return list, err
		}
		list.Jobs = append(list.Jobs, x)
	}
	list.Next = next
	return list, nil
}

// watchEvery is how often a watched job is looked at if nobody says that it
// changed: its counts move without a change of state.
const watchEvery = 250 * time.Millisecond

// WatchJob implements api.Jobs.
func (s *Service) WatchJob(ctx context.Context, id job.ID, fn func(api.Job) error) error {
	changed, stop := s.notify.listen(id)
	defer stop()
	var last api.Job
	t := time.NewTicker(watchEvery)
	defer t.Stop()
	for {
		x, err := s.GetJob(ctx, id)
		if err != nil {
			return err
		}
		if !same(x, last) {
			if err := fn(x); err != nil {
				return err
			}
			last = x
		}
		if x.State.Terminal() {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-t.C:
		}
	}
}

// same reports whether nothing that a watcher sees has changed.
func same(a, b api.Job) bool {
	return a.Version == b.Version && a.Overstayed == b.Overstayed && a.Withdrawal == b.Withdrawal && a.Paused == b.Paused && a.Rate == b.Rate && a.Decision == b.Decision && a.WaitingOn == b.WaitingOn &&
		fmt.Sprint(a.Counts) == fmt.Sprint(b.Counts)
}

// WaitJob implements api.Jobs.
func (s *Service) WaitJob(ctx context.Context, id job.ID, req api.WaitJob) (api.Job, error) {
	var over <-chan time.Time // not a deadline of ctx, by which the job could not be read
	if req.Timeout > 0 {
		timer := time.NewTimer(req.Timeout)
		defer timer.Stop()
		over = timer.C
	}
	changed, stop := s.notify.listen(id)
	defer stop()
	t := time.NewTicker(watchEvery)
	defer t.Stop()
	for {
		j, err := s.job(ctx, id)
		if err != nil {
			return api.Job{}, err
		}
		if j.State.Reached(req.For) && !(j.State.Terminal() && j.IsLive()) { // its recall is about to begin
			return s.describe(ctx, j)
		}
		select {
		case <-ctx.Done():
			return api.Job{}, ctx.Err()
		case <-over:
			return s.describe(ctx, j)
		case <-changed:
		case <-t.C:
		}
	}
}

// control records an instruction and gives the job as it then is.
func (s *Service) control(ctx context.Context, id job.ID, c job.Control) (api.Job, error) {
	j, err := s.job(ctx, id)
	if err != nil {
		return api.Job{}, err
	}
	if j.State.Terminal() {
		return api.Job{}, job.Conflict(fmt.Sprintf("%s is %s; nothing can be changed any more", id, j.State))
	}
	if err := s.order(ctx, &j, c); err != nil {
		return api.Job{}, err
	}
	return s.describe(ctx, j)
}

// steer is control with an instruction about how to send, which one that is being cancelled
// or recalled does not take any more.
func (s *Service) steer(ctx context.Context, id job.ID, c job.Control) (api.Job, error) {
	j, err := s.job(ctx, id)
	if err == nil && !j.State.Terminal() {
		switch over := j.Over(now()); over {
		case job.Cancelled, job.Recalled:
			err = job.Conflict(fmt.Sprintf("job %s is being %s, which is final: it is not sent any more, and can be neither paused nor resumed nor sent at another rate", id, over))
		}
	}
	if err != nil {
		return api.Job{}, err
	}
	return s.control(ctx, id, c)
}

// order writes a control, in the name of who asks.
func (s *Service) order(ctx context.Context, j *jobs.Job, c job.Control) error {
	act := api.ActOf(ctx)
	caller, err := api.CallerOf(ctx)
	if err != nil {
		return err
	}
	c.At, c.By, c.Why = now(), caller.Key, cmp.Or(c.Why, act.Reason)
	act.Reason = c.Why
	seq, err := s.cfg.Jobs.Control(ctx, j.Spec.ID, c)
	if err != nil {
		return err
	}
	made := access.Controlled(j.Spec, c, seq) // as who reads the ledger tells it
	act.ID, act.At, act.Detail = made.ID, made.At, made.Detail
	j.Controls.Apply(c)
	return nil
}

// PauseJob implements api.Controls.
func (s *Service) PauseJob(ctx context.Context, id job.ID) (api.Job, error) {
	yes := true
	return s.steer(ctx, id, job.Control{Pause: &yes})
}

// ResumeJob implements api.Controls.
func (s *Service) ResumeJob(ctx context.Context, id job.ID) (api.Job, error) {
	no := false
	c := job.Control{Pause: &no}
	if j, err := s.job(ctx, id); err == nil && j.State == job.Quarantined {
		c.Again = j.Version
	}
	return s.steer(ctx, id, c)
}

// CancelJob implements api.Controls.
func (s *Service) CancelJob(ctx context.Context, id job.ID) (api.Job, error) {
	j, err := s.job(ctx, id)
	if err == nil && j.Controls.Recalled && !j.State.Terminal() {
		err = job.Conflict(fmt.Sprintf("job %s is being recalled, which goes further than a cancel", id))
	}
	if err != nil {
		return api.Job{}, err
	}
	return s.control(ctx, id, job.Control{Cancel: true})
}

// SetRate implements api.Controls.
func (s *Service) SetRate(ctx context.Context, id job.ID, rate uint32) (api.Job, error) {
	j, err := s.job(ctx, id)
	if err != nil {
		return api.Job{}, err
	}
	if _, err := s.quota.Rate(j.Spec.TenantOf(), rate); err != nil {
		return api.Job{}, err
	}
	if rate == 0 { // unlimited is what the tenant's limit is
		rate = s.cfg.Authority.Limits(j.Spec.TenantOf()).Rate
	}
	return s.steer(ctx, id, job.Control{Rate: &rate})
}

// ResolveJob implements api.Controls. The decision stands for what comes into
// doubt later, too.
func (s *Service) ResolveJob(ctx context.Context, id job.ID, decision job.Decision) (api.Resolution, error) {
	j, err := s.job(ctx, id)
	if over := j.Over(now()); err == nil && !j.State.Terminal() && (over == job.Cancelled || over == job.Recalled) {
		err = job.Conflict(fmt.Sprintf("job %s is being %s, which decides on who is in doubt by itself: they are given up, and count as failed", id, over))
	}
	if err != nil {
		return api.Resolution{}, err
	}
	before, err := s.cfg.Index.Total(id)
	if err != nil {
		return api.Resolution{}, err
	}
	if _, err := s.control(ctx, id, job.Control{Doubt: &decision}); err != nil {
		return api.Resolution{}, err
	}
	return api.Resolution{Job: id, Decision: api.DecisionName(decision), Resolved: before.InDoubt}, nil
}
