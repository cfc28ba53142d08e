package service

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"crier/api"
	"crier/internal/service/place"
	"crier/job"
	"crier/state/jobs"
	"crier/state/overstay"
	"crier/state/parked"
)

// waitingOn says what a job waits on; "" if it is over. Its scheduler says that of the
// controls that it saw when it looked last: what those in force now change is said first.
// Where nobody knows better, the table of states does.
func (s *Service) waitingOn(j jobs.Job, total parked.Tally) string {
	if !j.IsLive() {
		return ""
	}
	if to, ok := j.Ordered(); ok {
		return "the ledger to take down that it is " + to.String()
	}
	if n := total.Counts(j.Spec.Recipients); j.State == job.Sent && n.Pending == 0 && n.Open() > 0 {
		return n.Waits(j.Controls.Paused)
	}
	return cmp.Or(s.cfg.WaitingOn(j.Spec.ID), j.State.Rule().WaitsOn)
}

// late gives the jobs that overstay their state, of those that a caller sees and wants.
func (s *Service) late(c api.Caller, wants func(jobs.Job) bool) (late []overstay.Stay, err error) {
	all, err := s.cfg.Stays.Late()
	for _, x := range all {
		if c.Sees(x.Job.Spec.TenantOf()) && wants(x.Job) {
			late = append(late, x)
		}
	}
	return late, err
}

// listed is a job with its place in a list that is made from the table of jobs.
type listed struct {
	job  jobs.Job
	at   place.Place
	late time.Time // since when it overstays its state, if that is why it is listed
}

// wants tells whether a job is of the account that a list is asked of.
func (s *Service) wants(ctx context.Context, req api.ListJobs) (func(jobs.Job) bool, error) {
	if req.Account == "" {
		return func(jobs.Job) bool { return true }, nil
	}
	a, err := s.Account(ctx, req.Account)
	return func(j jobs.Job) bool { return j.Spec.Account == a.Number }, err
}

// listStuck lists jobs that overstay their state. It needs no SQL, which may be why they do.
func (s *Service) listStuck(ctx context.Context, c api.Caller, req api.ListJobs) (api.JobList, error) {
	ofAccount, err := s.wants(ctx, req)
	if err != nil {
		return api.JobList{}, err
	}
	late, err := s.late(c, func(j jobs.Job) bool { return ofAccount(j) && (req.State == "" || j.State.String() == req.State) })
	if err != nil {
		return api.JobList{}, fmt.Errorf("looking for jobs that overstay their state: %w", err)
	}
	var all []listed
	for _, x := range late {
		all = append(all, listed{x.Job, place.Place{By: x.Due.UnixNano(), ID: x.Job.Spec.ID}, x.Due})
	}
	return s.pageOf(ctx, all, req.Page)
}

// listPaused lists the jobs that are paused, the newest first: also those that are sent and
// hand over nothing of what is parked, which is no state of its own.
func (s *Service) listPaused(ctx context.Context, c api.Caller, req api.ListJobs) (api.JobList, error) {
	ofAccount, err := s.wants(ctx, req)
	if err != nil {
		return api.JobList{}, err
	}
	var all []listed
	for _, j := range s.cfg.Jobs.Live() {
		if c.Sees(j.Spec.TenantOf()) && ofAccount(j) && (j.State == job.Paused || j.Controls.Paused && !j.State.Terminal()) {
			all = append(all, listed{job: j, at: place.Place{By: -j.Spec.SubmittedAt.UnixNano(), ID: j.Spec.ID}})
		}
	}
	slices.SortFunc(all, func(a, b listed) int { return a.at.Compare(b.at) })
	return s.pageOf(ctx, all, req.Page)
}

// pageOf gives a page of jobs that are in the order of their places.
func (s *Service) pageOf(ctx context.Context, all []listed, page api.Page) (api.JobList, error) {
	list := api.JobList{Jobs: []api.Job{}}
	after, err := place.Parse(page.Cursor)
	if err != nil {
		return list, err
	}
	var last place.Place
	for _, x := range all {
		if x.at.Compare(after) <= 0 {
			continue
		}
		if len(list.Jobs) == page.Size() {
			list.Next = last.String()
			break
		}
		total, err := s.cfg.Index.Total(x.job.Spec.ID)
		if err != nil {
			return list, fmt.Errorf("reading the counts of job %s: %w", x.job.Spec.ID, err)
		}
		j, err := s.picture(ctx, x.job, total)
		if err != nil {
			return list, err
		}
		if !x.late.IsZero() { // as it was when the list was made
			j.Due, j.Overstayed = x.late.UTC(), true
		}
		list.Jobs = append(list.Jobs, j)
		last = x.at
	}
	return list, nil
}
