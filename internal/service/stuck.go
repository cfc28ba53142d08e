package service

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"

	"crier/api"
	"crier/job"
	"crier/state/jobs"
	"crier/state/overstay"
)

// waitingOn says what a job waits on; "" if it is over. Where nobody knows better, the
// table of states does.
func (s *Service) waitingOn(j jobs.Job) string {
	if !j.IsLive() {
		return ""
	}
	return cmp.Or(s.cfg.WaitingOn(j.Spec.ID), j.State.Rule().WaitsOn, "a scheduler to begin its recall")
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

// listStuck lists jobs that overstay their state. It needs no SQL, which may be why they do.
func (s *Service) listStuck(ctx context.Context, c api.Caller, req api.ListJobs) (api.JobList, error) {
	list := api.JobList{Jobs: []api.Job{}}
	after, err := parseStuckCursor(req.Cursor)
	if err != nil {
		return list, err
	}
	wants := func(j jobs.Job) bool { return req.State == "" || j.State.String() == req.State }
	if req.Account != "" {
		a, err := s.Account(ctx, req.Account)
		if err != nil {
			return list, err
		}
		byState := wants
		wants = func(j jobs.Job) bool { return j.Spec.Account == a.Number && byState(j) }
	}
	late, err := s.late(c, wants)
	if err != nil {
		return list, fmt.Errorf("looking for jobs that overstay their state: %w", err)
	}
	for _, x := range late {
		at := stuckCursor{x.Due.UnixNano(), x.Job.Spec.ID}
		if at.compare(after) <= 0 {
			continue
		}
		if len(list.Jobs) == req.Size() {
			last := list.Jobs[len(list.Jobs)-1]
			list.Next = stuckCursor{last.Due.UnixNano(), last.Job}.String()
			break
		}
		total, err := s.cfg.Index.Total(x.Job.Spec.ID)
		if err != nil {
			return list, fmt.Errorf("reading the counts of job %s: %w", x.Job.Spec.ID, err)
		}
		j, err := s.picture(ctx, x.Job, total)
		if err != nil {
			return list, err
		}
		j.Due, j.Overstayed = x.Due.UTC(), true // as it was when the list was made
		list.Jobs = append(list.Jobs, j)
	}
	return list, nil
}

// stuckCursor is a job's place among those that are stuck.
type stuckCursor struct {
	due int64 // in Unix nanoseconds
	id  job.ID
}

func (c stuckCursor) compare(o stuckCursor) int {
	return cmp.Or(cmp.Compare(c.due, o.due), strings.Compare(string(c.id[:]), string(o.id[:])))
}

// String writes what parseStuckCursor reads.
func (c stuckCursor) String() string { return strconv.FormatInt(c.due, 10) + "." + c.id.String() }

// parseStuckCursor reads a cursor; none stands before all.
func parseStuckCursor(s string) (c stuckCursor, err error) {
	if s == "" {
		return stuckCursor{due: math.MinInt64}, nil
	}
	due, id, _ := strings.Cut(s, ".")
	if c.due, err = strconv.ParseInt(due, 10, 64); err == nil {
		c.id, err = job.ParseID(id)
	}
	if err != nil {
		return c, job.Invalid("cursor", fmt.Sprintf("cursor %q is none that a list gave", api.Printable(s)), err)
	}
	return c, nil
}
