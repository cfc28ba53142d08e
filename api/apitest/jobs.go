package apitest

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"

	"crier/api"
	"crier/job"
)

// Life is the life of a job of the fake: the states it goes through.
var Life = []job.State{job.Queued, job.Sending, job.Sent, job.Completed}

// SubmitJob implements api.Service.
func (f *Fake) SubmitJob(ctx context.Context, req api.SubmitJob) (api.Job, error) {
	if err := f.enter("SubmitJob"); err != nil {
		return api.Job{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	a, err := f.findLocked(req.Account)
	if err != nil {
		return api.Job{}, err
	}
	var random [10]byte
	binary.BigEndian.PutUint32(random[6:], uint32(len(f.mu.jobs)+1))
	id := job.NewID(f.Now(), random)
	if req.IdempotencyKey != "" {
		id = job.KeyID(a.Name, req.IdempotencyKey)
	}
	if r := f.recordLocked(id); r != nil {
		if !reflect.DeepEqual(r.req, req) {
			return api.Job{}, job.Conflict("the idempotency key was used for another request; choose another key")
		}
		return r.job, nil
	}
	set, n := job.Digest{1}, a.Followers
	if req.Audience == "" {
		set, n = req.Package, 0
		for _, p := range f.mu.packages {
			if p.ID == set {
				n = p.Cardinality
			}
		}
		if n == 0 {
			return api.Job{}, job.NotFound("there is no package " + set.String())
		}
	}
	include, err := f.refsLocked("include_segments", req.IncludeSegments)
	if err != nil {
		return api.Job{}, err
	}
	exclude, err := f.refsLocked("exclude_segments", req.ExcludeSegments)
	if err != nil {
		return api.Job{}, err
	}
	ttl, priority := time.Duration(req.TTL), req.Priority
	if ttl == 0 {
		ttl = job.DefaultTTL
	}
	if priority == 0 {
		priority = api.DefaultPriority
	}
	var once *api.Once
	if o := req.SendOnce; o != nil {
		scope := a.ID
		if o.Scope == api.ScopeAll {
			scope = 0
		}
		once = &api.Once{Key: job.KeyOnce(scope, o.Key, sha256.Sum256(req.Message())), Window: cmp.Or(o.Window, api.Duration(job.DefaultOnceWindow))}
	}
	r := &record{req: req, job: api.Job{Job: id, SendOnce: once, State: Life[0], Version: 1, WaitingOn: "a free worker",
		Account: a.Name, AccountID: a.ID, Tenant: a.Tenant, SubmittedBy: who(ctx).Key, Class: req.Class, Priority: priority, Rate: req.Rate, OnUnknown: req.OnUnknown,
		Package: set, Recipients: n, Revision: a.Revision, BodyBytes: uint32(len(req.Message())),
		Include: include, Exclude: exclude, ControlGroup: req.ControlGroup,
		CollapseKey: req.CollapseKey, IdempotencyKey: req.IdempotencyKey, SubmittedAt: f.Now(), UpdatedAt: f.Now(),
		DisplayAt: req.DisplayAt, ExpiresAt: f.Now().Add(ttl), Counts: job.Counts{Package: n, Pending: n}}}
	if req.Webhook != nil {
		r.job.Webhook = &job.WebhookState{Webhook: *req.Webhook}
	}
	f.mu.jobs = append(f.mu.jobs, r)
	f.noteLocked(r, "accepted")
	return r.job, nil
}

func (f *Fake) recordLocked(id job.ID) *record {
	for _, r := range f.mu.jobs {
		if r.job.Job == id {
			return r
		}
	}
	return nil
}

// noteLocked adds a record to the ledger and wakes whoever watches.
func (f *Fake) noteLocked(r *record, kind string) {
	detail := json.RawMessage(fmt.Sprintf(`{"job":%q,"version":%d,"state":%q}`, r.job.Job, r.job.Version, r.job.State))
	f.mu.entries = append(f.mu.entries, api.LedgerEntry{Seq: uint64(len(f.mu.entries) + 1),
		Subject: "led.job." + r.job.Job.String(), Time: f.Now(), Kind: kind, Bytes: len(detail), Detail: detail})
	close(f.mu.changed)
	f.mu.changed = make(chan struct{})
}

// Advance moves a job one step on in its Life; a job that is over stays.
func (f *Fake) Advance(id job.ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r := f.recordLocked(id); r != nil {
		f.advanceLocked(r)
	}
}

func (f *Fake) advanceLocked(r *record) {
	if r.job.State.Terminal() {
		return
	}
	r.step++
	n := r.job.Recipients
	c := job.Counts{Package: n, Delivered: n / 2}
	if n/4 > 0 {
		c.Dropped = map[job.Reason]uint64{r.dropReason(): n / 4}
	}
	rest := n - n/2 - n/4
	switch Life[r.step] {
	case job.Sending:
		c.Pending = rest
	case job.Sent:
		c.Parked = rest
	default:
		c.Delivered += rest
	}
	r.job.State, r.job.Counts, r.job.WaitingOn = Life[r.step], c, ""
	r.job.Version++
	f.noteLocked(r, "transition")
}

// dropReason is why the fake drops recipients of a job.
func (r *record) dropReason() job.Reason {
	switch {
	case len(r.job.Include)+len(r.job.Exclude) > 0:
		return job.ReasonTargeting
	case r.job.ControlGroup > 0:
		return job.ReasonControl
	}
	return job.ReasonRelation
}

// Overstay makes a job one that should have been moved on from a time on, and was taken
// from its scheduler so often.
func (f *Fake) Overstay(id job.ID, due time.Time, tries uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	j := &f.recordLocked(id).job
	j.Owner, j.Due, j.Overstayed, j.Tries = j.State.Rule().Owner.String(), due, true, tries
	j.WaitingOn = "2 slices to be sent: worker w-3 does not answer for slice 1"
}

// ListJobs implements api.Service.
func (f *Fake) ListJobs(_ context.Context, req api.ListJobs) (api.JobList, error) {
	if err := f.enter("ListJobs"); err != nil {
		return api.JobList{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var match []api.Job
	for _, r := range f.mu.jobs {
		if (req.Account == "" || r.job.Account == req.Account) && (req.State == "" || r.job.State.String() == req.State || req.State == job.Paused.String() && r.job.Paused && !r.job.State.Terminal()) && (r.job.Overstayed || !req.Stuck) {
			match = append(match, r.job)
		}
	}
	items, next, err := cut(newestFirst(match), req.Page)
	return api.JobList{Jobs: items, Next: next}, err
}

// with does something with a job.
func (f *Fake) with(method string, id job.ID, do func(*record) error) (api.Job, error) {
	if err := f.enter(method); err != nil {
		return api.Job{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.recordLocked(id)
	if r == nil {
		return api.Job{}, job.NotFound("there is no job " + id.String())
	}
	if err := do(r); err != nil {
		return api.Job{}, err
	}
	return r.job, nil
}

// GetJob implements api.Service.
func (f *Fake) GetJob(_ context.Context, id job.ID) (api.Job, error) {
	return f.with("GetJob", id, func(*record) error { return nil })
}

// next gives the job and a channel that is closed at its next change.
func (f *Fake) next(method string, id job.ID, advance bool) (j api.Job, changed <-chan struct{}, err error) {
	j, err = f.with(method, id, func(r *record) error {
		if advance && !f.Manual {
			f.advanceLocked(r)
		}
		changed = f.mu.changed
		return nil
	})
	return j, changed, err
}

// WatchJob implements api.Service.
func (f *Fake) WatchJob(ctx context.Context, id job.ID, fn func(api.Job) error) error {
	seen := uint64(0)
	for first := true; ; first = false {
		j, changed, err := f.next("WatchJob", id, !first)
		if err != nil {
			return err
		}
		if j.Version != seen {
			seen = j.Version
			if err := fn(j); err != nil {
				return err
			}
		}
		if j.State.Terminal() {
			return nil
		}
		if f.Manual {
			select {
			case <-changed:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

// WaitJob implements api.Service.
func (f *Fake) WaitJob(ctx context.Context, id job.ID, req api.WaitJob) (api.Job, error) {
	var over <-chan time.Time
	if req.Timeout > 0 {
		timer := time.NewTimer(req.Timeout)
		defer timer.Stop()
		over = timer.C
	}
	for first := true; ; first = false {
		j, changed, err := f.next("WaitJob", id, !first)
		if err != nil || j.State.Reached(req.For) {
			return j, err
		}
		if !f.Manual {
			continue
		}
		select {
		case <-changed:
		case <-over:
			return j, nil
		case <-ctx.Done():
			return api.Job{}, ctx.Err()
		}
	}
}

// control does something with a job that is not over.
func (f *Fake) control(method string, id job.ID, do func(*record)) (api.Job, error) {
	return f.with(method, id, func(r *record) error {
		if r.job.State.Terminal() {
			return job.Conflict(fmt.Sprintf("the job %s is over: %s", id, r.job.State))
		}
		do(r)
		f.noteLocked(r, "control")
		return nil
	})
}

// PauseJob implements api.Service.
func (f *Fake) PauseJob(ctx context.Context, id job.ID) (api.Job, error) {
	return f.control("PauseJob", id, func(r *record) { r.job.Paused, r.job.PausedBy, r.job.PausedWhy = true, "key_1", api.ActOf(ctx).Reason })
}

// ResumeJob implements api.Service.
func (f *Fake) ResumeJob(_ context.Context, id job.ID) (api.Job, error) {
	return f.control("ResumeJob", id, func(r *record) { r.job.Paused, r.job.PausedBy, r.job.PausedWhy = false, "", "" })
}

// CancelJob implements api.Service.
func (f *Fake) CancelJob(_ context.Context, id job.ID) (api.Job, error) {
	return f.control("CancelJob", id, func(r *record) {
		c := r.job.Counts
		c.Cancelled += c.Pending + c.Parked + c.InDoubt
		c.Pending, c.Parked, c.InDoubt = 0, 0, 0
		r.job.Counts = c
		r.job.State, r.job.WaitingOn = job.JobCancelled, ""
		r.job.Version++
	})
}

// RecallJob implements api.Service. Everybody takes the message back at once.
func (f *Fake) RecallJob(_ context.Context, id job.ID, req api.Recall) (api.Job, error) {
	if err := req.Validate(); err != nil {
		return api.Job{}, err
	}
	return f.with("RecallJob", id, func(r *record) error {
		if !r.job.Withdraws.IsZero() {
			return job.Conflict(fmt.Sprintf("job %s withdraws %s; it cannot be recalled", id, r.job.Withdraws))
		}
		if r.job.State == job.JobRecalled {
			if was, now := r.job.Reason, (job.Controls{Reason: req.Reason}).RecallReason(); was != now {
				return job.Conflict(fmt.Sprintf("job %s is recalled already: %s", id, was))
			}
			return nil
		}
		c := r.job.Counts
		c.Recalled += c.Pending + c.Parked
		c.Failed += c.InDoubt
		if c.InDoubt > 0 {
			c.Fail(job.ReasonUnknown, c.InDoubt)
		}
		may := c.Delivered + c.Failed
		c.Pending, c.Parked, c.InDoubt = 0, 0, 0
		r.job.Counts = c
		r.job.State, r.job.WaitingOn, r.job.Reason = job.JobRecalled, "", job.Controls{Reason: req.Reason}.RecallReason()
		r.job.Version++
		f.noteLocked(r, "control")
		if may == 0 {
			return nil
		}
		r.job.Withdrawal = api.Withdrawal{Withdrawal: job.WithdrawalID(id), Withdrawn: may}
		w := &record{job: api.Job{Job: r.job.Withdrawal.Withdrawal, State: job.Completed, Version: 1, Account: r.job.Account, AccountID: r.job.AccountID,
			Class: job.Realtime, Priority: 99, OnUnknown: job.Resend, Package: r.job.Package, Recipients: may, SubmittedAt: f.Now(), UpdatedAt: f.Now(),
			ExpiresAt: f.Now().Add(r.job.ExpiresAt.Sub(r.job.SubmittedAt)), Withdraws: id, Counts: job.Counts{Package: may, Delivered: may}}}
		f.mu.jobs = append(f.mu.jobs, w)
		f.noteLocked(w, "accepted")
		return nil
	})
}

// SetRate implements api.Service.
func (f *Fake) SetRate(_ context.Context, id job.ID, rate uint32) (api.Job, error) {
	return f.control("SetRate", id, func(r *record) { r.job.Rate = rate })
}

// ResolveJob implements api.Service. Recipients are in doubt if a test put them there.
func (f *Fake) ResolveJob(_ context.Context, id job.ID, decision job.Decision) (api.Resolution, error) {
	out := api.Resolution{Job: id, Decision: api.DecisionName(decision)}
	_, err := f.control("ResolveJob", id, func(r *record) {
		out.Resolved, r.job.Decision = r.job.Counts.InDoubt, out.Decision
		if decision == job.DecideDrop {
			r.job.Counts.Failed += out.Resolved
			r.job.Counts.Fail(job.ReasonUnknown, out.Resolved)
		} else {
			r.job.Counts.Parked += out.Resolved
		}
		r.job.Counts.InDoubt = 0
	})
	return out, err
}

// Doubt puts n delivered recipients of a job in doubt.
func (f *Fake) Doubt(id job.ID, n uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r := f.recordLocked(id); r != nil {
		n = min(n, r.job.Counts.Delivered)
		r.job.Counts.Delivered -= n
		r.job.Counts.InDoubt += n
	}
}

// ExplainJob implements api.Service: every recipient below the package's
// cardinality is in it.
func (f *Fake) ExplainJob(_ context.Context, id job.ID, rcpt job.Recipient) (api.Explanation, error) {
	out := api.Explanation{Job: id, Recipient: rcpt, Outcome: job.Pending}
	_, err := f.with("ExplainJob", id, func(r *record) error {
		if uint64(rcpt) >= r.job.Recipients {
			return job.NotFound(fmt.Sprintf("recipient %s is not in the package of %s", rcpt, id))
		}
		if uint64(rcpt) < r.job.Counts.Delivered {
			out.Outcome = job.Delivered
		} else if reason := r.dropReason(); reason != job.ReasonRelation && uint64(rcpt) < r.job.Counts.Delivered+r.job.Counts.Dropped[reason] {
			out.Outcome, out.Reason, out.Because = job.Dropped, reason, "as the fake has it"
		}
		for _, e := range f.mu.entries {
			if strings.HasSuffix(e.Subject, id.String()) {
				out.Evidence = append(out.Evidence, api.Evidence{Seq: e.Seq, Says: e.Kind, At: e.Time})
			}
		}
		return nil
	})
	return out, err
}

// ExportJob implements api.Service, by what ExplainJob says of each recipient.
func (f *Fake) ExportJob(ctx context.Context, id job.ID, req api.ExportJob, w io.Writer) error {
	if err := f.enter("ExportJob"); err != nil {
		return err
	}
	j, err := f.GetJob(ctx, id)
	if err != nil {
		return err
	}
	var ids []job.Recipient
	for i := range j.Recipients {
		x, err := f.ExplainJob(ctx, id, job.Recipient(i))
		if err != nil {
			return err
		}
		if req.Chosen(job.Standing{Outcome: x.Outcome, Reason: x.Reason}) {
			ids = append(ids, job.Recipient(i))
		}
	}
	var b []byte
	for _, i := range ids {
		b = append(b, i.String()+"\n"...)
	}
	if f.Pack != nil && req.Format != api.FormatIDs {
		if b, err = f.Pack(id.String(), ids); err != nil {
			return err
		}
	}
	_, err = w.Write(b)
	return err
}

// GetRecipient implements api.Service: it is the same of everybody.
func (f *Fake) GetRecipient(_ context.Context, r job.Recipient) (api.Recipient, error) {
	if err := f.enter("GetRecipient"); err != nil {
		return api.Recipient{}, err
	}
	now := f.Now()
	return api.Recipient{Recipient: r, Day: now.Format(time.DateOnly), Zone: "Asia/Shanghai", Whereabouts: api.Whereabouts{Home: "w-m1", Primary: "g-m2.3",
		Online: []api.Connected{{Gateway: "g-m1", Connections: 1, Since: now.Add(-time.Hour)}, {Gateway: "g-m2", Connections: 2, Since: now.Add(-time.Minute)}},
		Silent: []api.Silent{{Name: "m3-with-a-long-name-in-another-rack", Why: "no answer within 1s"}}},
		Parked: []api.Waits{{Job: job.NewID(now, [10]byte{9}), Account: "news", Tenant: job.DefaultTenant, Since: now.Add(-time.Minute), Expires: now.Add(time.Hour), Withdraws: job.NewID(now.Add(-time.Hour), [10]byte{8})},
			{Job: job.NewID(now, [10]byte{10}), Account: "the-weather-office", Tenant: job.DefaultTenant, Expires: now.Add(50 * time.Hour), Maybe: true}}, ParkedTotal: 70,
		Frequency: []api.Used{{Messages: 3, Cap: 3}, {Account: "news", AccountID: new(uint32), Messages: 2}},
		Recent: []api.Recent{{Job: job.NewID(now, [10]byte{9}), Account: "news", Tenant: job.DefaultTenant, State: job.Sending, Submitted: now.Add(-time.Minute), Outcome: new(job.Parked)},
			{Job: job.NewID(now, [10]byte{7}), Account: "the-weather-office", Tenant: job.DefaultTenant, State: job.Completed, Submitted: now.Add(-time.Hour), Outcome: new(job.Dropped), Reason: job.ReasonFrequency},
			{Job: job.NewID(now, [10]byte{6}), Account: "news", Tenant: job.DefaultTenant, State: job.Completed, Submitted: now.Add(-2 * time.Hour), Unknown: "its package cannot be read now"}}}, nil
}

// EraseRecipient implements api.Service: the same is erased of everybody.
func (f *Fake) EraseRecipient(_ context.Context, r job.Recipient, req api.Erase) (api.Erasure, error) {
	if err := f.enter("EraseRecipient"); err != nil {
		return api.Erasure{}, err
	}
	if err := req.Validate(); err != nil {
		return api.Erasure{}, err
	}
	return api.Erasure{Recipient: r, Record: 1234, Connections: 2, Keys: 1, Followed: 3, Segments: 1, Parked: 70, Left: 1, Kept: []api.Kept{
		{What: "its number in records of the ledger, and in packages and snapshots that jobs were sent by"},
		{What: "its number in the audit log and in backups"}}}, nil
}

// ReconcileJob implements api.Service.
func (f *Fake) ReconcileJob(_ context.Context, id job.ID) (api.Reconciliation, error) {
	j, err := f.with("ReconcileJob", id, func(*record) error { return nil })
	return api.Reconciliation{Job: id, State: j.State, Counts: j.Counts, Withdrawal: j.Withdrawal, Conserved: j.Counts.Sum() == j.Counts.Package}, err
}
