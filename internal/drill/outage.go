package drill

import (
	"context"
	"fmt"
	"time"

	"crier/api"
	"crier/internal/drill/holders"
	"crier/internal/drill/verdict"
	"crier/job"
)

const (
	submitEvery  = 5 * time.Second
	submitWithin = 8 * time.Second
	agreeWithin  = 90 * time.Second // it is waited for
	movedAfter   = time.Minute
)

// Members that are back take their share a few ranges a second, from owners who give them up:
// what changes hands so is no take-over, and is waited for before a drill that counts these.
const (
	calmFor    = 10 * time.Second
	calmWithin = 5 * time.Minute
)

// calm waits until no range has changed hands for a while, if the drill counts what does.
func (r *run) calm(ctx context.Context) error {
	if !r.drill.outage {
		return nil
	}
	ranges := holders.Claims{Kind: "range"}
	began, seen, at := time.Now(), -1, time.Now()
	var failed error
	ok, err := r.until(ctx, calmWithin, func() bool {
		if failed = r.api.do(ctx, ranges.Read); failed != nil {
			return true
		}
		if len(ranges.All) != seen {
			seen, at = len(ranges.All), time.Now()
		}
		return time.Since(at) >= calmFor
	})
	switch {
	case failed != nil:
		return fmt.Errorf("reading who holds what: %w", failed)
	case err == nil && !ok:
		r.note("ranges still change hands after %s, for a reason that was there before the fault", calmWithin)
	case err == nil && time.Since(began) > 2*calmFor:
		r.cfg.Say("no range changes hands any more")
	}
	return err
}

// submitMeanwhile submits a job, if it is time for one, and notes how it is answered.
func (r *run) submitMeanwhile(ctx context.Context) {
	if r.report.Outage == nil || time.Since(r.submitted) < submitEvery {
		return
	}
	r.submitted = time.Now()
	ctx, cancel := context.WithTimeout(ctx, submitWithin)
	defer cancel()
	name := fmt.Sprintf("meanwhile-%d", r.meanwhile+len(r.unclear)+r.report.Outage.Unavailable)
	req := r.request(name, 0, job.Realtime)
	j, err := r.api.list[r.api.at].SubmitJob(ctx, req)
	r.api.at = (r.api.at + 1) % len(r.api.list)
	switch {
	case err == nil:
		r.take(j.Job, req)
		r.report.Outage.Accepted++
	case job.CodeOf(err) == job.CodeUnavailable && ctx.Err() == nil:
		r.report.Outage.Unavailable++
	default:
		r.unclear = append(r.unclear, name)
		r.report.Outage.Other = append(r.report.Outage.Other, err.Error())
	}
}

// take adds a job that was submitted meanwhile to what everybody is due.
func (r *run) take(id job.ID, req api.SubmitJob) {
	r.add(id, req)
	r.meanwhile++
}

// agree waits until SQL lists every job in the state that the ledger has.
func (r *run) agree(ctx context.Context) error {
	if r.report.Outage == nil {
		return nil
	}
	for _, name := range r.unclear { // the same key gives the same job, if it was stored
		err := r.api.do(ctx, func(ctx context.Context, svc api.Service) error {
			req := r.request(name, 0, job.Realtime)
			j, err := svc.SubmitJob(ctx, req)
			if err == nil {
				r.take(j.Job, req)
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
		r.report.Outage.Agreed = verdict.In(time.Since(r.restored))
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

// movesNamed is how many of them are told one by one.
const movesNamed = 5

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
	moves := holders.Moved(all.All, r.report.Fault.At, end)
	for _, m := range moves[:min(len(moves), movesNamed)] {
		r.note("%s had %s %s, %s has it since %.1f s after the fault", m.Was, m.Kind, m.ID, m.Process(), m.At.Sub(r.report.Fault.At).Seconds())
	}
	r.report.Outage.Moved = len(moves)
	return nil
}
