package drill

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"crier/api"
	"crier/internal/crowd"
	"crier/internal/drill/verdict"
	"crier/job"
)

// choose makes the sets, of which the account and the segments are told. Who is held out the
// first job tells, when all is whole: of every other one it must be the same people.
func (r *run) choose(ctx context.Context) error {
	r.aims = verdict.NewAims(r.cfg.accountCap, r.people, time.Now())
	for name, ids := range map[string][]job.Recipient{r.segment("out"): r.aims.Out, r.segment("some"): r.aims.Some} {
		err := r.api.do(ctx, func(ctx context.Context, svc api.Service) error {
			if _, err := svc.CreateSegment(ctx, api.CreateSegment{Name: name}); err != nil && job.CodeOf(err) != job.CodeConflict {
				return err
			}
			_, err := svc.AddToSegment(ctx, name, ids)
			return err
		})
		if err != nil {
			return fmt.Errorf("making segment %s: %w", name, err)
		}
	}
	return r.api.do(ctx, func(ctx context.Context, svc api.Service) error {
		_, err := svc.AddSuppressed(ctx, api.SuppressionChange{Account: r.account, IDs: r.aims.Suppressed})
		return err
	})
}

// segment is the name of a segment of the drills that use an account.
func (r *run) segment(of string) string { return r.account + "-" + of }

// forget takes people out of all that the drill told of them.
func (r *run) forget(ctx context.Context, ids []job.Recipient) error {
	return r.api.do(ctx, func(ctx context.Context, svc api.Service) error {
		if _, err := svc.RemoveFollowers(ctx, r.account, ids); err != nil {
			return err
		}
		if _, err := svc.RemoveSuppressed(ctx, api.SuppressionChange{Account: r.account, IDs: ids}); err != nil {
			return err
		}
		for _, of := range []string{"out", "some"} {
			if _, err := svc.RemoveFromSegment(ctx, r.segment(of), ids); err != nil && job.CodeOf(err) != job.CodeNotFound {
				return err
			}
		}
		return nil
	})
}

// add notes that a job was taken in.
func (r *run) add(id job.ID, req api.SubmitJob) {
	r.jobs = append(r.jobs, id)
	r.aims.Add(id, req)
}

// exceed sends some so many messages that the load is more than a day brings.
func (r *run) exceed(ctx context.Context) error {
	for i := range r.aims.Cap - r.cfg.Jobs + 1 {
		err := r.submit(ctx, fmt.Sprintf("before-%d", i), 0, job.Normal, func(req *api.SubmitJob) { req.IncludeSegments = []string{r.segment("some")} })
		if err != nil {
			return err
		}
	}
	return nil
}

// once has a job send what the first one did.
func (r *run) once(req *api.SubmitJob) {
	req.SendOnce = &api.SendOnce{Key: fmt.Sprintf("drill-%s-%d", r.drill.Name, r.cfg.Seed)}
}

// learn reads whom the first job held out.
func (r *run) learn(ctx context.Context) error {
	first := r.jobs[0]
	ok, err := r.until(ctx, endWithin, func() bool { return r.settled(ctx, first) })
	if err == nil && !ok {
		err = fmt.Errorf("the first message is not sent within %s", endWithin)
	}
	if err != nil {
		return err
	}
	var held bytes.Buffer
	err = r.api.do(ctx, func(ctx context.Context, svc api.Service) error {
		held.Reset()
		return svc.ExportJob(ctx, first, api.ExportJob{Standings: []job.Standing{{Outcome: job.Dropped, Reason: job.ReasonControl}}, Format: api.FormatIDs}, &held)
	})
	if err != nil {
		return fmt.Errorf("reading who is held out: %w", err)
	}
	rest := float64(len(r.people) - len(r.aims.Barred))
	ids := strings.Fields(held.String())
	if want := rest * verdict.HeldOut / 100; math.Abs(float64(len(ids))-want) > 5*math.Sqrt(want) {
		r.report.Unproved = append(r.report.Unproved, fmt.Sprintf("%d of %.0f are held out, of %d %%", len(ids), rest, verdict.HeldOut))
	}
	for _, text := range ids {
		id, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return fmt.Errorf("reading who is held out: %w", err)
		}
		r.aims.Barred[job.Recipient(id)] = true
	}
	return nil
}

// recall takes a job back in the middle.
func (r *run) recall(ctx context.Context) {
	err := r.api.do(ctx, func(ctx context.Context, svc api.Service) error {
		_, err := svc.RecallJob(ctx, r.recalled, api.Recall{Reason: "drill"})
		return err
	})
	if err != nil {
		r.note("a job was not recalled: %v", err)
		return
	}
	g := r.aims.Group(r.recalled.String())
	g.Least, g.Recalled = 0, true
}

// arrived is how many messages came that are due.
func (r *run) arrived() (n int) {
	g := r.aims.Group(r.recalled.String())
	for _, x := range r.receipts {
		if g == nil || !g.Recalled || x.Job != r.recalled {
			n++
		}
	}
	return n
}

// judge holds what clients saw against what they should have, and the ledger's proofs
// against both.
func (r *run) judge(ctx context.Context, seen map[job.ID]verdict.Seen, away []job.Recipient) error {
	r.aims.Over(time.Now())
	members := r.people[:r.cfg.Online+r.cfg.Late]
	r.report.Oracle = verdict.See(r.aims.Groups, seen, members, away)
	recs := map[job.ID]api.Reconciliation{}
	for _, id := range r.jobs {
		err := r.api.do(ctx, func(ctx context.Context, svc api.Service) (err error) {
			recs[id], err = svc.ReconcileJob(ctx, id)
			return err
		})
		if err != nil {
			return fmt.Errorf("asking for the proof of %s: %w", id, err)
		}
	}
	for _, g := range r.aims.Groups {
		r.report.Unproved = append(r.report.Unproved, g.Proved(recs, seen, members, r.people[len(members):])...)
	}
	return nil
}

// kind is how the client of a number behaves.
func (r *run) kind(number int) crowd.Kind {
	switch {
	case r.drill.zombie && number%slowOf == 0:
		return crowd.Slow
	case number%streamOf == 1:
		return crowd.Streams
	}
	return crowd.Speaks
}
