package drill

import (
	"context"
	"fmt"
	"time"

	"crier/api"
	"crier/internal/drill/holders"
	"crier/job"
)

// Outage is what a drill that takes a database away shows besides.
type Outage struct {
	Accepted    int      `json:"accepted"`        // jobs submitted meanwhile that were taken in
	Unavailable int      `json:"unavailable"`     // that were answered 503
	Other       []string `json:"other,omitempty"` // that were answered anything else, or not at all
	Agreed      *Seconds `json:"agreed"`          // from its end until SQL lists every job in the state in which the ledger has it
	Moved       int      `json:"moved"`           // claims that changed hands from the fault until a minute after its end
}

const (
	submitEvery  = 5 * time.Second
	submitWithin = 8 * time.Second
	agreeWithin  = 90 * time.Second // it is waited for
	movedAfter   = time.Minute
)

// wrong lists what an outage must not show, and by when SQL must agree.
func (o *Outage) wrong() (bad []string) {
	if o == nil {
		return nil
	}
	for _, x := range o.Other {
		bad = append(bad, "a job submitted meanwhile was neither taken in nor answered 503: "+x)
	}
	switch {
	case o.Agreed == nil:
		bad = append(bad, fmt.Sprintf("SQL does not agree with the ledger %s after the end", agreeWithin))
	case float64(*o.Agreed) > recoverWithin.Seconds():
		bad = append(bad, fmt.Sprintf("SQL agreed with the ledger %s after the end, want within %s", o.Agreed, recoverWithin))
	}
	if o.Moved > 0 {
		bad = append(bad, fmt.Sprintf("%d claims changed hands, although nobody died", o.Moved))
	}
	return bad
}

// submitMeanwhile submits a job, if it is time for one, and notes how it is answered.
func (r *run) submitMeanwhile(ctx context.Context) {
	if r.report.Outage == nil || time.Since(r.submitted) < submitEvery {
		return
	}
	r.submitted = time.Now()
	ctx, cancel := context.WithTimeout(ctx, submitWithin)
	defer cancel()
	name := fmt.Sprintf("meanwhile-%d", len(r.meanwhile)+len(r.unclear)+r.report.Outage.Unavailable)
	j, err := r.api.list[r.api.at].SubmitJob(ctx, r.request(name, 0, job.Realtime))
	r.api.at = (r.api.at + 1) % len(r.api.list)
	switch {
	case err == nil:
		r.take(j.Job)
		r.report.Outage.Accepted++
	case job.CodeOf(err) == job.CodeUnavailable && ctx.Err() == nil:
		r.report.Outage.Unavailable++
	default:
		r.unclear = append(r.unclear, name)
		r.report.Outage.Other = append(r.report.Outage.Other, err.Error())
	}
}

// take adds a job that was submitted meanwhile to what everybody is due.
func (r *run) take(id job.ID) {
	r.jobs = append(r.jobs, id)
	r.meanwhile[id.String()] = true
}

// agree waits until SQL lists every job in the state that the ledger has.
func (r *run) agree(ctx context.Context) error {
	if r.report.Outage == nil {
		return nil
	}
	for _, name := range r.unclear { // the same key gives the same job, if it was stored
		err := r.api.do(ctx, func(ctx context.Context, svc api.Service) error {
			j, err := svc.SubmitJob(ctx, r.request(name, 0, job.Realtime))
			if err == nil {
				r.take(j.Job)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("submitting job %s again: %w", name, err)
		}
	}
	ok, err := r.until(ctx, agreeWithin, func() bool {
		for _, id := range r.jobs {
			if !r.agrees(ctx, id) {
				return false
			}
		}
		return true
	})
	if ok {
		r.report.Outage.Agreed = seconds(time.Since(r.restored))
	}
	return err
}

// agrees reports whether SQL lists a job in the state that the ledger has.
func (r *run) agrees(ctx context.Context, id job.ID) bool {
	ctx, cancel := context.WithTimeout(ctx, submitWithin)
	defer cancel()
	svc := r.api.list[r.api.at]
	j, err := svc.GetJob(ctx, id)
	if err != nil {
		r.api.at = (r.api.at + 1) % len(r.api.list)
		return false
	}
	req := api.ListJobs{Account: r.account, State: j.State.String(), Page: api.Page{Limit: 100}}
	list, err := svc.ListJobs(ctx, req)
	if err != nil {
		return false
	}
	for _, x := range list.Jobs {
		if x.Job == id {
			return true
		}
	}
	return false
}

// countMoved waits for a minute after the outage, and counts the claims that changed
// hands since it began.
func (r *run) countMoved(ctx context.Context) error {
	if r.report.Outage == nil {
		return nil
	}
	end := r.restored.Add(movedAfter)
	if _, err := r.until(ctx, time.Until(end), func() bool { return !time.Now().Before(end) }); err != nil {
		return err
	}
	all := holders.Claims{Kind: holders.AnyKind}
	if err := r.api.do(ctx, all.Read); err != nil {
		return fmt.Errorf("reading who holds what: %w", err)
	}
	r.report.Outage.Moved = holders.Moved(all.All, r.report.Fault.At, end)
	return nil
}
