package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"crier/api"
	"crier/internal/idset"
	"crier/job"
	"crier/state/jobs"
	"crier/state/ledger"
	"crier/state/proof"
)

// What a job says of itself follows the ledger: its counts are those of the
// reserves, and what none covers is pending.
func TestDescribe(t *testing.T) {
	f := newFixture(t)
	id := f.submit(toFollowers("k")).Job
	f.reserve(0, nil)
	lo := uint64(3 << 20)
	dropped := idset.New(3)
	dropped.AddSpan(job.Span{Lo: lo, Hi: lo + 7})
	f.move(id, toSent[:5]...)
	f.reserve(1, &ledger.Reserve{Job: id, Span: job.Span{Lo: lo, Hi: lo + 640}, IDs: 640, Rest: job.Parked,
		Dropped: []ledger.Drop{{Reason: job.ReasonSuppressed, Set: dropped}}})
	f.waiting[id] = "1 slice to be sent"
	got, err := f.GetJob(asked(t), id)
	f.must(err)
	c := got.Counts
	if c.Package != 1000 || c.Dropped[job.ReasonSuppressed] != 7 || len(c.Dropped) != 1 || c.Parked != 633 || c.Pending != 360 || c.Sum() != 1000 {
		t.Errorf("the counts are %+v", c)
	}
	if got.State != job.Sending || got.Version != 6 || got.Reason != "because" || got.WaitingOn != "1 slice to be sent" || got.IdempotencyKey != "k" ||
		got.UpdatedAt.Before(got.SubmittedAt) || got.Done() != 640 {
		t.Errorf("told is %+v", got)
	}
	f.reserve(2, &ledger.Reserve{Job: id, Span: job.Span{Lo: lo + 640, Hi: lo + 1<<20}, IDs: 360, Rest: job.Expired})
	f.move(id, job.Sent)
	if got, err = f.GetJob(asked(t), id); err != nil || got.Counts.Expired != 360 || got.Counts.Pending != 0 || got.Counts.Sum() != 1000 {
		t.Errorf("sent: %+v, %v", got.Counts, err)
	}
	// The proof, which reads the ledger without the index, says the same.
	r, err := f.ReconcileJob(asked(t), id)
	if err != nil || !r.Conserved || r.Counts.Parked != 633 || r.Counts.Expired != 360 || r.Counts.Dropped[job.ReasonSuppressed] != 7 {
		t.Errorf("the proof: %+v, %v", r, err)
	}
	f.filters = []proof.Filter{nobody{}}
	if r, err := f.ReconcileJob(asked(t), id); err != nil || r.Conserved || len(r.Violations) != 1 || !strings.Contains(r.Violations[0], "7 recipients were dropped for suppression") {
		t.Errorf("by filters that drop nobody: %+v, %v", r, err)
	}
	for who, want := range map[job.Recipient]job.Outcome{3 << 20: job.Dropped, 3<<20 + 100: job.Parked, 3<<20 + 999: job.Expired} {
		x, err := f.ExplainJob(asked(t), id, who)
		because := fmt.Sprintf("%s of %s in 0 segments", x.Reason, who) // as the fixture has it
		if err != nil || x.Outcome != want || len(x.Evidence) == 0 || x.Because != because {
			t.Errorf("recipient %s: %+v, %v", who, x, err)
		}
	}
	if _, err := f.ExplainJob(asked(t), id, 5); job.CodeOf(err) != job.CodeNotFound {
		t.Errorf("a recipient of another job: %v", err)
	}
}

// nobody is dropped by this filter.
type nobody struct{}

func (nobody) Reason() job.Reason { return job.ReasonSuppressed }

func (nobody) Refuse(_ context.Context, keep *idset.Set) (*idset.Set, error) {
	return idset.New(keep.Range), nil
}

func TestUnknownJobs(t *testing.T) {
	f := newFixture(t)
	before, ctx, id := f.kept(), asked(t), job.ID{1}
	for what, err := range map[string]error{
		"get": second(f.GetJob(ctx, id)), "pause": second(f.PauseJob(ctx, id)), "resume": second(f.ResumeJob(ctx, id)), "cancel": second(f.CancelJob(ctx, id)),
		"rate": second(f.SetRate(ctx, id, 1)), "resolve": second(f.ResolveJob(ctx, id, job.DecideDrop)), "reconcile": second(f.ReconcileJob(ctx, id)),
		"wait":  second(f.WaitJob(ctx, id, api.WaitJob{For: job.Sent})),
		"watch": f.WatchJob(ctx, id, func(api.Job) error { return nil }),
	} {
		if job.CodeOf(err) != job.CodeNotFound || !strings.Contains(fmt.Sprint(err), id.String()) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if after := f.kept(); !slices.Equal(before, after) {
		t.Errorf("it leaves %v", after)
	}
}

func TestControls(t *testing.T) {
	f := newFixture(t)
	id := f.submitSeen(toFollowers("", func(r *api.SubmitJob) { r.Rate = 5 }))
	for i, c := range []struct {
		do     func() (api.Job, error)
		paused bool
		rate   uint32
	}{
		{func() (api.Job, error) { return f.GetJob(asked(t), id) }, false, 5},
		{func() (api.Job, error) { return f.PauseJob(asked(t), id) }, true, 5},
		{func() (api.Job, error) { return f.PauseJob(asked(t), id) }, true, 5},
		{func() (api.Job, error) { return f.SetRate(asked(t), id, 70) }, true, 70},
		{func() (api.Job, error) { return f.ResumeJob(asked(t), id) }, false, 70},
		{func() (api.Job, error) { return f.SetRate(asked(t), id, 0) }, false, 0},
		{func() (api.Job, error) { return f.CancelJob(asked(t), id) }, false, 0},
	} {
		j, err := c.do()
		if err != nil || j.Paused != c.paused || j.Rate != c.rate {
			t.Errorf("step %d: paused %v, rate %d, %v", i, j.Paused, j.Rate, err)
		}
		if i > 0 {
			<-f.seenControls
		}
	}
	j, err := f.cfg.Jobs.Get(asked(t), id)
	if err != nil || !j.Controls.Cancelled || j.Controls.Paused || j.Rate() != 0 {
		t.Errorf("in force is %+v, %v", j.Controls, err)
	}
	if n := f.controlsOf(id); n != 6 {
		t.Errorf("%d controls are recorded", n)
	}
}

// Behind a cancel or a recall that is recorded, whether or not a scheduler has looked at it,
// nobody pauses, resumes or slows the job; who did it before ends with it. Who is in doubt can
// still be decided on.
func TestACancelIsFinal(t *testing.T) {
	f := newFixture(t)
	for word, end := range map[string]struct {
		do func(job.ID) (api.Job, error)
		to job.State
	}{
		"cancelled": {func(id job.ID) (api.Job, error) { return f.CancelJob(asked(t), id) }, job.Cancelling},
		"recalled":  {func(id job.ID) (api.Job, error) { return f.RecallJob(asked(t), id, api.Recall{Reason: "a typo"}) }, job.Recalling},
	} {
		id := f.submitSeen(toFollowers(""))
		f.move(id, toSent...)
		f.waiting[id] = "what the scheduler saw before"
		_, err := f.PauseJob(asked(t), id)
		f.must(err)
		<-f.seenControls
		j, err := end.do(id)
		if want := "the ledger to take down that it is " + end.to.String(); err != nil || j.State != job.Sent || j.Paused || j.WaitingOn != want {
			t.Errorf("the answer is %s, paused %v, waiting on %q, %v; want %q", j.State, j.Paused, j.WaitingOn, err, want)
		}
		<-f.seenControls
		for range 2 { // before the scheduler has looked, and behind that
			for what, err := range map[string]error{
				"pause": second(f.PauseJob(asked(t), id)), "resume": second(f.ResumeJob(asked(t), id)), "rate": second(f.SetRate(asked(t), id, 1)),
			} {
				wantError(t, what+" of a job that is being "+word, err, job.CodeConflict, "")
				if !strings.Contains(fmt.Sprint(err), "is being "+word) {
					t.Errorf("%s does not say that the job is being %s: %v", what, word, err)
				}
			}
			f.move(id, end.to)
		}
		if n := f.controlsOf(id); n != 2 {
			t.Errorf("%d controls are recorded", n)
		}
		_, err = f.ResolveJob(asked(t), id, job.DecideDrop) // there is nothing left to decide
		wantError(t, "a decision on a job that is being "+word, err, job.CodeConflict, "")
		if !strings.Contains(fmt.Sprint(err), "is being "+word+", which decides on who is in doubt by itself") || f.controlsOf(id) != 2 {
			t.Errorf("%v; %d controls", err, f.controlsOf(id))
		}
	}
}

// A resume ends the quarantine that it was given for, and no later one.
func TestResumeOfAQuarantine(t *testing.T) {
	f := newFixture(t)
	id := f.submitSeen(toFollowers(""))
	f.move(id, append(slices.Clone(toSent[:5]), job.Quarantined)...)
	in := func() jobs.Job {
		j, err := f.cfg.Jobs.Get(asked(t), id)
		f.must(err)
		return j
	}
	if j := in(); !j.InForce().Paused || j.Controls.Paused {
		t.Errorf("in force is %+v of %+v", j.InForce(), j.Controls)
	}
	<-f.seenControls // it is held
	_, err := f.PauseJob(asked(t), id)
	f.must(err)
	<-f.seenControls
	_, err = f.ResumeJob(asked(t), id)
	f.must(err)
	<-f.seenControls
	if j := in(); j.Controls.Again != j.Version || j.Version != 7 || j.Controls.Paused {
		t.Errorf("version %d is resumed with %+v", j.Version, j.Controls)
	}
	f.move(id, job.Queued, job.Preparing, job.Prepared, job.Sending)
	if j := in(); j.InForce().Paused {
		t.Error("it is held after the resume")
	}
	f.move(id, job.Quarantined)
	if j := in(); j.Controls.Again >= j.Version || !j.InForce().Paused {
		t.Errorf("the next quarantine, version %d, is ended by %+v", j.Version, j.Controls)
	}
}

// controlsOf counts a job's controls in the ledger.
func (f *fixture) controlsOf(id job.ID) uint64 {
	n, err := f.controls.Subjects(asked(f.t), ledger.ControlSubject(id))
	f.must(err)
	return n[ledger.ControlSubject(id)]
}

// A job that is over cannot be changed, and no control of it is recorded.
func TestControlsOfAJobThatIsOver(t *testing.T) {
	f := newFixture(t)
	for _, end := range [][]job.State{append(slices.Clone(toSent), job.Completed), {job.Cancelling, job.JobCancelled}, {job.JobFailed}, {job.Recalling, job.JobRecalled}} {
		id := f.submitSeen(toFollowers(""))
		f.move(id, end...)
		state := end[len(end)-1].String()
		for what, err := range map[string]error{
			"pause": second(f.PauseJob(asked(t), id)), "resume": second(f.ResumeJob(asked(t), id)), "cancel": second(f.CancelJob(asked(t), id)),
			"rate": second(f.SetRate(asked(t), id, 1)), "resolve": second(f.ResolveJob(asked(t), id, job.DecideDrop)),
		} {
			wantError(t, what+" of a job that is "+state, err, job.CodeConflict, "")
			if !strings.Contains(fmt.Sprint(err), state) {
				t.Errorf("%s does not say that the job is %s: %v", what, state, err)
			}
		}
		if n := f.controlsOf(id); n != 0 {
			t.Errorf("%d controls of a job that is %s", n, state)
		}
	}
}

// A control whose answer got lost is refused as not sure, and is in force once
// when it is given again.
func TestTheAnswerToAControlGetsLost(t *testing.T) {
	f := newFixture(t)
	id := f.submitSeen(toFollowers(""))
	for i, fault := range []ledger.Fault{ledger.FaultStored, ledger.FaultLost, ledger.FaultFull} {
		rate := uint32(10 + i)
		f.controls.Inject(ledger.AllControls, fault)
		_, err := f.SetRate(asked(t), id, rate)
		wantError(t, fmt.Sprint("fault ", fault), err, job.CodeUnavailable, "")
		if j, err := f.SetRate(asked(t), id, rate); err != nil || j.Rate != rate {
			t.Errorf("again after fault %d: rate %d, %v", fault, j.Rate, err)
		}
	}
	for range f.controlsOf(id) {
		<-f.seenControls
	}
	if j, err := f.GetJob(asked(t), id); err != nil || j.Rate != 12 {
		t.Errorf("in force is rate %d, %v", j.Rate, err)
	}
}

// A list gives each job once, the newest first, whatever the size of its pages
// and however the list is narrowed.
func TestListJobs(t *testing.T) {
	f := newFixture(t)
	var news, all, cancelled []job.ID
	for i := range 23 {
		account := []string{"news", "empty"}[i%2]
		id := f.submit(toFollowers("", func(r *api.SubmitJob) { r.Account = account })).Job
		all = append(all, id)
		if account == "news" {
			news = append(news, id)
		}
		if i%5 == 0 {
			f.move(id, job.Cancelling, job.JobCancelled)
			cancelled = append(cancelled, id)
		}
	}
	f.project()
	for _, ids := range [][]job.ID{all, news, cancelled} {
		slices.Reverse(ids)
	}
	for _, c := range []struct {
		req  api.ListJobs
		want []job.ID
	}{
		{api.ListJobs{}, all}, {api.ListJobs{Account: "news"}, news}, {api.ListJobs{Account: fmt.Sprint(f.news.ID)}, news}, {api.ListJobs{State: "cancelled"}, cancelled},
		{api.ListJobs{State: "sent"}, nil}, {api.ListJobs{Account: "news", State: "cancelled"}, []job.ID{all[2], all[12], all[22]}},
	} {
		for _, size := range []int{1, 5, 22, 23, 100} {
			var got []job.ID
			c.req.Page = api.Page{Limit: size}
			for ok := true; ok; ok = c.req.Cursor != "" {
				l, err := f.ListJobs(asked(t), c.req)
				f.must(err)
				if want := min(size, len(c.want)-len(got)); len(l.Jobs) != want || l.Jobs == nil {
					t.Fatalf("a page of %d has %d jobs, want %d", size, len(l.Jobs), want)
				}
				for _, j := range l.Jobs {
					got = append(got, j.Job)
				}
				if c.req.Cursor = l.Next; (l.Next != "") != (len(got) < len(c.want)) {
					t.Errorf("%+v: after %d of %d jobs next is %q", c.req, len(got), len(c.want), l.Next)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%+v: %d jobs, want %d: %v", c.req, len(got), len(c.want), got)
			}
		}
	}
	// The list may lag behind; what it tells of a job does not.
	f.move(all[0], job.Cancelling, job.JobCancelled)
	if l, err := f.ListJobs(asked(t), api.ListJobs{Page: api.Page{Limit: 1}}); err != nil || l.Jobs[0].State != job.JobCancelled {
		t.Errorf("the newest is %s, %v", l.Jobs[0].State, err)
	}
	wantError(t, "a state", second(f.ListJobs(asked(t), api.ListJobs{State: "gone"})), job.CodeInvalid, "state")
	wantError(t, "a cursor", second(f.ListJobs(asked(t), api.ListJobs{Page: api.Page{Cursor: "x"}})), job.CodeInvalid, "cursor")
	wantError(t, "an account", second(f.ListJobs(asked(t), api.ListJobs{Account: "nobody"})), job.CodeNotFound, "account")
}

func TestWaitJob(t *testing.T) {
	f := newFixture(t)
	id := f.submit(toFollowers("", func(r *api.SubmitJob) { r.Account = "empty" })).Job
	if j, err := f.WaitJob(asked(t), id, api.WaitJob{For: job.Sent, Timeout: time.Millisecond}); err != nil || j.State != job.Submitted {
		t.Errorf("after its time: %s, %v", j.State, err)
	}
	ctx, cancel := context.WithCancel(asked(t))
	cancel()
	if _, err := f.WaitJob(ctx, id, api.WaitJob{For: job.Sent, Timeout: time.Minute}); !errors.Is(err, context.Canceled) {
		t.Errorf("nobody waits any more: %v", err)
	}
	done := make(chan api.Job)
	for _, want := range []job.State{job.Sent, job.Completed} {
		go func() {
			j, err := f.WaitJob(asked(t), id, api.WaitJob{For: want, Timeout: time.Minute})
			if err != nil {
				t.Error(err)
			}
			done <- j
		}()
	}
	f.move(id, toSent...)
	if j := <-done; j.State != job.Sent {
		t.Errorf("the first to be told is told %s", j.State)
	}
	f.move(id, job.Completed)
	if j := <-done; j.State != job.Completed {
		t.Errorf("the second is told %s", j.State)
	}
	for _, short := range []time.Duration{0, 1} {
		if j, err := f.WaitJob(asked(t), id, api.WaitJob{For: job.Sent, Timeout: short}); err != nil || j.State != job.Completed {
			t.Errorf("one that comes late, and has %s, is told %s, %v", short, j.State, err)
		}
	}
}

// A watcher sees the job as it is, then as it ends, and nothing twice.
func TestWatchJob(t *testing.T) {
	f := newFixture(t)
	id := f.submitSeen(toFollowers("", func(r *api.SubmitJob) { r.Account = "empty" }))
	var seen []string
	err := f.WatchJob(asked(t), id, func(j api.Job) error {
		seen = append(seen, fmt.Sprint(j.State, " ", j.Paused))
		switch len(seen) {
		case 1:
			return second(f.PauseJob(asked(t), id)) // no change of state
		case 2:
			f.move(id, job.Cancelling, job.JobCancelled)
		}
		return nil
	})
	if want := []string{"submitted false", "submitted true"}; err != nil || len(seen) < 3 || !slices.Equal(seen[:2], want) || !strings.HasPrefix(seen[len(seen)-1], "cancelled") {
		t.Errorf("seen is %v, %v", seen, err)
	}
	enough := errors.New("enough")
	if err := f.WatchJob(asked(t), id, func(api.Job) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("a watcher that has enough: %v", err)
	}
	f.notify.mu.Lock()
	defer f.notify.mu.Unlock()
	if n := len(f.notify.mu.waiters); n != 0 {
		t.Errorf("%d jobs are still waited for", n)
	}
}

func TestStatusAndVerify(t *testing.T) {
	f := newFixture(t)
	first := f.submitSeen(toFollowers(""))
	second := f.submitSeen(toFollowers(""))
	f.move(second, job.Cancelling, job.JobCancelled)
	f.project()
	f.waiting[first] = "its turn"
	st, err := f.Status(asked(t))
	if err != nil || !st.Healthy || st.Oldest == nil || st.Oldest.Job != first || st.Oldest.WaitingOn != "its turn" ||
		st.Jobs[job.Submitted] != 1 || st.Jobs[job.JobCancelled] != 1 || len(st.Jobs) != 2 {
		t.Errorf("%+v, %v", st, err)
	}
	f.reserve(0, nil)
	f.reserve(1, &ledger.Reserve{Job: first, Span: job.Span{Lo: 3 << 20, Hi: 4 << 20}, IDs: 1000, Rest: job.Parked})
	_, err = f.PauseJob(asked(t), first)
	f.must(err)
	rep, err := f.VerifyLedger(asked(t))
	if err != nil || !rep.Valid || len(rep.Streams) != 2 || rep.Streams[0].Records != 6 || rep.Streams[0].Journals != 1 || rep.Streams[1].Records != 1 {
		t.Errorf("%+v, %v", rep, err)
	}
	var kinds []string
	f.must(f.TailLedger(asked(t), api.TailLedger{}, func(e api.LedgerEntry) error {
		kinds = append(kinds, e.Kind)
		return nil
	}))
	if want := []string{"accepted", "accepted", "transition", "transition", "open", "reserve"}; !slices.Equal(kinds, want) {
		t.Errorf("the tail is %v, want %v", kinds, want)
	}
	// A record that is not the next of its journal.
	subject := ledger.JournalSubject(job.Journal{Worker: "w", Incarnation: 1})
	last, err := f.log.Last(asked(t), subject)
	f.must(err)
	bad := ledger.Record{Journal: job.Journal{Worker: "w", Incarnation: 1}, N: 3, Entries: []ledger.Entry{ledger.Seal{}}}
	_, err = f.log.Append(asked(t), subject, last.Seq, bad.Bytes())
	f.must(err)
	if rep, err = f.VerifyLedger(asked(t)); err != nil || rep.Valid || len(rep.Problems) == 0 || !strings.Contains(rep.Problems[0], "7") {
		t.Errorf("a gap: %+v, %v", rep, err)
	}
}

// A list does not wait for the index, whatever is behind in it.
func TestAListDoesNotWaitForTheIndex(t *testing.T) {
	f := newFixture(t)
	const n = 3
	for range n {
		f.move(f.submit(toFollowers("")).Job, toSent...)
	}
	f.project()
	began := time.Now()
	l, err := f.ListJobs(asked(t), api.ListJobs{})
	if took := time.Since(began); err != nil || took >= indexLag || len(l.Jobs) != n {
		t.Fatalf("%d jobs after %s, %v", len(l.Jobs), took, err)
	}
	for _, j := range l.Jobs {
		if j.State != job.Sent || j.Counts.Pending != 1000 || j.Counts.Sum() != 1000 {
			t.Errorf("listed: %s, %+v", j.State, j.Counts)
		}
	}
}
