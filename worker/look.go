package worker

import (
	"context"
	"errors"
	"slices"
	"time"

	"crier/internal/idset"
	"crier/job"
	"crier/state/jobs"
	"crier/state/parked"
	"crier/worker/home"
	"crier/worker/lane"
)

// look finds out what a pass over a range decides on; try ends when that is not needed any more.
func (w *Worker) look(ctx, try context.Context, p home.Pass) {
	f, err := w.findings(try, p)
	if err != nil {
		if try.Err() == nil {
			w.log.Error("looking up what is parked; it is tried again", "range", p.Range.String(), "error", err)
		}
		w.post(ctx, home.NotFound{Pass: p})
		return
	}
	w.post(ctx, home.Found{Findings: f})
}

func (w *Worker) findings(ctx context.Context, p home.Pass) (home.Findings, error) {
	f := home.Findings{Range: p.Range, Logins: p.Logins, Cap: w.cfg.ParkCap, Basis: w.cfg.Content.SuppressionVersion()}
	w.reading <- struct{}{} // soon: reads end
	items, err := w.cfg.Index.ParkedOf(p.Who)
	<-w.reading
	if err != nil {
		return f, err
	}
	f.Items = items
	if f.Doubts, err = w.cfg.Index.DoubtIn(p.Range, job.ID{}); err != nil {
		return f, err
	}
	f.Logins = append(slices.Clip(f.Logins), w.arrivals.Hellos.Of(p.Who, f.Doubts)...)
	for i, l := range f.Logins {
		for _, id := range l.Have {
			if i >= len(p.Logins) && !inDoubt(f.Doubts, id, l.Recipient) {
				continue // it was answered at its hello
			}
			where, err := w.cfg.Index.Where(id, l.Recipient)
			if err != nil {
				return f, err
			}
			f.Standing = append(f.Standing, home.Standing{Login: i, Job: id, Where: where})
		}
	}
	for _, id := range p.Ending {
		set, err := w.cfg.Index.ParkedIn(p.Range, id)
		if err != nil {
			return f, err
		}
		f.Ending = append(f.Ending, home.Ended{Job: id, Parked: set})
	}
	if err := w.waitToDrain(ctx, p.Who, &f); err != nil {
		return f, err
	}
	if err := w.describe(ctx, &f); err != nil {
		return f, err
	}
	f.Online = w.online(p.Who)
	return f, nil
}

// online gives who of some is where there is room.
func (w *Worker) online(who *idset.Set) (at []home.Online) {
	targets, offline := w.cfg.Presence.Split(who)
	offline.Release()
	for _, t := range targets {
		if !w.hasNoRoom(t.Inc) && !t.Set.IsEmpty() {
			at = append(at, home.Online{Inc: t.Inc, Set: t.Set})
		}
	}
	return at
}

func inDoubt(doubts []parked.Doubt, id job.ID, who job.Recipient) bool {
	return slices.ContainsFunc(doubts, func(d parked.Doubt) bool { return d.Job == id && d.Set.Has(uint32(who)) })
}

// waitToDrain holds drains to their budget. Jobs and presence are read after it, so
// that nothing is decided on what was true before the wait: no drain is reserved
// after a cancel, an expiry or a suppression (rule 21).
func (w *Worker) waitToDrain(ctx context.Context, who *idset.Set, f *home.Findings) error {
	if w.drains == nil {
		return nil
	}
	if err := w.describe(ctx, f); err != nil {
		return err
	}
	leaving, online := home.Leaving(f.Items), w.cfg.Presence.Online(who)
	defer online.Release()
	for _, it := range f.Items {
		if info := f.Job(it.Job); info.Paused || info.Over != job.Parked {
			continue
		}
		there := it.Set.Clone()
		there.And(online)
		n := leaving(there)
		there.Release()
		for n > 0 {
			part := min(n, w.drains.Burst())
			if err := w.drains.WaitN(ctx, part); err != nil {
				return err
			}
			n -= part
		}
	}
	return nil
}

// describe looks up every job that the findings name.
func (w *Worker) describe(ctx context.Context, f *home.Findings) error {
	infos := map[job.ID]home.JobInfo{}
	lists := map[uint32]*idset.Set{} // who is suppressed, by account: many jobs are one account's
	suppressed := func(spec job.Spec) (_ *idset.Set, err error) {
		if !spec.Withdraws.IsZero() {
			return nil, nil
		}
		if lists[spec.Account] == nil {
			lists[spec.Account], err = w.cfg.Content.Suppressed(ctx, spec.Account, f.Range)
		}
		return lists[spec.Account], err
	}
	now := time.Now()
	add := func(id job.ID) error {
		if _, ok := infos[id]; ok {
			return nil
		}
		info, err := w.describeJob(ctx, now, id, f.Range, suppressed)
		infos[id] = info
		return err
	}
	var errs []error
	for _, it := range f.Items {
		errs = append(errs, add(it.Job))
	}
	for _, d := range f.Doubts {
		errs = append(errs, add(d.Job))
	}
	for _, s := range f.Standing {
		errs = append(errs, add(s.Job))
	}
	for _, e := range f.Ending {
		errs = append(errs, add(e.Job))
	}
	f.Job = func(id job.ID) home.JobInfo { return infos[id] }
	return errors.Join(errs...)
}

func (w *Worker) describeJob(ctx context.Context, now time.Time, id job.ID, r job.Range, suppressed func(job.Spec) (*idset.Set, error)) (home.JobInfo, error) {
	j, err := w.cfg.Jobs.Get(ctx, id)
	if job.CodeOf(err) == job.CodeNotFound {
		return home.JobInfo{Over: job.Parked}, nil
	}
	if err != nil {
		return home.JobInfo{}, err
	}
	info := w.infoOf(j, now)
	if info.Erased, err = w.erasedSince(ctx, j, r); err != nil {
		return home.JobInfo{}, err
	}
	if info.Suppress, err = suppressed(j.Spec); err != nil {
		w.log.Error("reading who must not get a job; it is not drained", "job", id.String(), "range", r.String(), "error", err)
		info.Paused, info.Resend = true, false // the range's other jobs go on
	}
	return info, nil
}

// infoOf is what a home must know of a job, who must not get it apart.
func (w *Worker) infoOf(j jobs.Job, now time.Time) home.JobInfo {
	info := home.JobInfo{Known: true, Paused: j.InForce().Paused || w.isUnsure(now), Over: j.Over(now), Resend: resends(j), Drop: j.Controls.Doubt == job.DecideDrop,
		Submitted: j.Spec.SubmittedAt.UnixMilli(), Account: j.Spec.Account, Withdraws: !j.Spec.Withdraws.IsZero(), CollapseKey: j.Spec.CollapseKey}
	if j.Spec.Class == job.Realtime {
		info.Urgent = j.Spec.Priority
	}
	return info
}

// inForce is the controls that count now: those that were told may be older.
func (w *Worker) inForce(told controlsChanged) job.Controls {
	if j, live := w.cfg.Jobs.Current(told.id); live {
		return j.InForce()
	}
	return told.sum
}

// isUnsure reports whether the controls of jobs may be out of date; nothing is drained then.
func (w *Worker) isUnsure(now time.Time) bool {
	return now.UnixNano()-w.sure.Load() > int64(lane.ControlsMaxAge)
}

// erasedSince gives who of a range asked to be forgotten after a job was accepted; nil if
// nobody ever did, or the job is over and nobody waits for it. Of a withdrawal, that is after
// the recalled job: whoever lost the connections that showed its message need not come back.
func (w *Worker) erasedSince(ctx context.Context, j jobs.Job, r job.Range) (*idset.Set, error) {
	if !j.IsLive() || !w.cfg.Erased.Any(r) {
		return nil, nil
	}
	of := j.Spec.ID
	if !j.Spec.Withdraws.IsZero() {
		of = j.Spec.Withdraws
	}
	at, err := w.cfg.Jobs.Accepted(ctx, of)
	if err != nil {
		return nil, err
	}
	return w.cfg.Erased.After(at, r), nil
}

// resends reports whether what is in doubt of a job is sent again.
func resends(j jobs.Job) bool {
	return j.Spec.OnUnknown == job.Resend || j.Controls.Doubt == job.DecideResend
}
