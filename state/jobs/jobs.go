// Package jobs is the table of jobs as the ledger tells them: each one's spec, its
// state with its version, and the sum of its controls.
//
// It follows the ledger and the stream of controls, so that every process has the
// same table without asking anybody. Jobs that are over are not kept in memory;
// Get reads them from the ledger again, and a recall brings one back.
//
// It guarantees that of all submits of one id exactly one is told that it is new,
// that the versions of a job have no gap whoever moves it on, and that a job which
// is over comes back for a recall only.
package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"crier/job"
	"crier/state/ledger"
)

// Table is the table. It is safe for concurrent use.
type Table struct {
	log, controls ledger.Log

	// OnJob, OnControls and OnCaughtUp are called after the table has the change, by Run and
	// by whoever makes the change, several at once; set them before Run. OnControls is told the controls in force, also when a
	// quarantine begins or ends; of two calls the later one may be told the older state, so
	// that Current counts. OnCaughtUp says that all controls stored so far are in. They must
	// not block for long.
	OnJob      func(Job)
	OnControls func(job.ID, job.Controls)
	OnCaughtUp func()

	full  atomic.Bool   // see Full
	ready chan struct{} // closed when both streams were read to their ends once
	over  kept[job.Spec]
	first kept[uint64] // their first records
	mu    struct {
		sync.RWMutex
		jobs     map[job.ID]*Job   // live ones, and those that are over until Run has seen that, too
		order    []*Job            // jobs, oldest first; nil if they must be sorted again
		early    map[job.ID]*early // controls of jobs that are not in jobs
		followed uint64            // sequence of the last record that Run has followed
		caughtUp int
	}
}

// early is controls of a job that Run has not seen yet, or that is over. Which of
// the two is clear when all jobs that were stored before them have been seen.
type early struct {
	sum   job.Controls
	looks int // how often all jobs were seen since the last of them
}

// New makes a table of the two streams.
func New(log, controls ledger.Log) *Table {
	t := &Table{log: log, controls: controls, ready: make(chan struct{})}
	t.mu.jobs = map[job.ID]*Job{}
	t.mu.early = map[job.ID]*early{}
	return t
}

// Run follows both streams until ctx ends or one cannot be read.
func (t *Table) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		var once sync.Once
		take := func(st ledger.Stored) error { return t.takeJob(st, true) }
		return t.log.Follow(ctx, 1, ledger.AllJobs, take, func() {
			once.Do(t.oneReady)
			t.forgetEarly(ctx)
		})
	})
	g.Go(func() error {
		var once sync.Once
		return t.controls.Follow(ctx, 1, ledger.AllControls, t.takeControl, func() {
			once.Do(t.oneReady)
			if t.OnCaughtUp != nil {
				t.OnCaughtUp()
			}
		})
	})
	g.Go(func() error { return t.watchSpace(ctx) })
	return g.Wait()
}

func (t *Table) oneReady() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.caughtUp++; t.mu.caughtUp == 2 {
		close(t.ready)
	}
}

// Ready is closed when the table has everything that was stored when Run began.
func (t *Table) Ready() <-chan struct{} { return t.ready }

// forgetEarly drops the controls of jobs that are over. Their job was stored before
// them, so a look that began after they came has seen it; the first look that ends
// after that may have begun before. One that is recalled may have to be brought back.
func (t *Table) forgetEarly(ctx context.Context) {
	recalled := map[job.ID]*early{}
	t.mu.Lock()
	for id, e := range t.mu.early {
		if e.looks++; e.looks <= 1 {
			continue
		}
		if e.sum.Recalled {
			recalled[id] = e
		} else {
			delete(t.mu.early, id)
		}
	}
	t.mu.Unlock()
	for id, e := range recalled {
		t.bringBack(ctx, id, e)
	}
}

// bringBack puts a job that was recalled after it was over into the table, unless its
// recall is over too. If the ledger does not answer, the next look tries it again.
func (t *Table) bringBack(ctx context.Context, id job.ID, e *early) {
	j, err := t.last(ctx, id)
	if err != nil && job.CodeOf(err) != job.CodeNotFound {
		return
	}
	t.mu.Lock()
	if t.mu.early[id] != e { // Run has seen a record of it meanwhile
		t.mu.Unlock()
		return
	}
	delete(t.mu.early, id)
	j.Controls = e.sum
	back := err == nil && j.IsLive() && t.mu.jobs[id] == nil
	if back {
		t.putLocked(&j)
	}
	told := j
	t.mu.Unlock()
	if back && t.OnJob != nil {
		t.OnJob(told)
	}
}

// takeJob takes in a job's record: one that Run has followed, or a later one that
// was read or written meanwhile.
func (t *Table) takeJob(st ledger.Stored, followed bool) error {
	var tr job.Transition
	if err := json.Unmarshal(st.Data, &tr); err != nil {
		return fmt.Errorf("decoding the transition of %s in record %d: %w", st.Subject, st.Seq, err)
	}
	j := fromTransition(tr, st.Seq)
	t.mu.Lock()
	if followed {
		t.mu.followed = st.Seq
	} else if st.Seq <= t.mu.followed { // Run has it, and may have dropped the job since
		t.mu.Unlock()
		return nil
	}
	old := t.mu.jobs[tr.Job]
	if old != nil && old.Version >= tr.Version {
		old.first = max(old.first, j.first)
		if followed && old.Version == tr.Version && !old.IsLive() {
			t.dropLocked(tr.Job)
		}
		t.mu.Unlock()
		return nil
	}
	if old != nil {
		j.Controls, j.first = old.Controls, max(j.first, old.first)
	} else if e := t.mu.early[tr.Job]; e != nil {
		j.Controls = e.sum
		delete(t.mu.early, tr.Job)
	}
	told, held := j, old != nil && old.State == job.Quarantined
	if followed && !j.IsLive() {
		t.dropLocked(tr.Job)
	} else {
		t.putLocked(&j)
	}
	t.mu.Unlock()
	if t.OnControls != nil && held != (told.State == job.Quarantined) {
		t.OnControls(tr.Job, told.InForce())
	}
	if t.OnJob != nil {
		t.OnJob(told)
	}
	return nil
}

func fromTransition(tr job.Transition, seq uint64) Job {
	at, _ := time.Parse(time.RFC3339Nano, tr.At) // written by Transition below
	j := Job{Spec: tr.Spec, State: tr.State, Version: tr.Version, Reason: tr.Reason, Since: at, seq: seq}
	if tr.Version == 1 {
		j.first = seq
	}
	return j
}

func (t *Table) takeControl(st ledger.Stored) error {
	id, err := ledger.ControlJob(st.Subject)
	if err != nil {
		return err
	}
	var c job.Control
	if err := json.Unmarshal(st.Data, &c); err != nil {
		return fmt.Errorf("decoding the control in record %d: %w", st.Seq, err)
	}
	t.mu.Lock()
	var sum job.Controls
	if j := t.mu.jobs[id]; j != nil {
		j.Controls.Apply(c)
		sum = j.InForce()
	} else {
		e := t.mu.early[id]
		if e == nil {
			e = &early{}
			t.mu.early[id] = e
		}
		e.sum.Apply(c)
		e.looks, sum = 0, e.sum
	}
	t.mu.Unlock()
	if t.OnControls != nil {
		t.OnControls(id, sum)
	}
	return nil
}

// Get gives a job; one that is over is read from the ledger, with its controls.
func (t *Table) Get(ctx context.Context, id job.ID) (Job, error) {
	if j, ok := t.known(id); ok {
		return j, nil
	}
	j, err := t.last(ctx, id)
	if err != nil {
		return Job{}, err
	}
	err = ledger.ReadAll(ctx, t.controls, 1, ledger.ControlSubject(id), func(st ledger.Stored) error {
		var c job.Control
		if err := json.Unmarshal(st.Data, &c); err != nil {
			return fmt.Errorf("decoding the control in record %d: %w", st.Seq, err)
		}
		j.Controls.Apply(c)
		return nil
	})
	if err != nil {
		return Job{}, fmt.Errorf("reading the controls of job %s: %w", id, err)
	}
	return j, nil
}

// Accepted is the sequence of the record with which a job was accepted: what stands in the
// ledger before it was before the job. If the table does not have it, it reads the ledger once.
func (t *Table) Accepted(ctx context.Context, id job.ID) (seq uint64, err error) {
	if j, ok := t.known(id); ok && j.first > 0 {
		return j.first, nil
	}
	if seq, ok := t.first.get(id); ok {
		return seq, nil
	}
	found := errors.New("found")
	err = ledger.ReadAll(ctx, t.log, 1, ledger.JobSubject(id), func(st ledger.Stored) error {
		seq = st.Seq
		return found
	})
	switch {
	case errors.Is(err, found):
		t.first.put(id, seq)
		return seq, nil
	case err == nil:
		err = job.NotFound(fmt.Sprintf("there is no job %s", id))
	}
	return 0, fmt.Errorf("reading when job %s was accepted: %w", id, err)
}

// last reads a job, without its controls, from the ledger.
func (t *Table) last(ctx context.Context, id job.ID) (Job, error) {
	st, err := t.log.Last(ctx, ledger.JobSubject(id))
	if errors.Is(err, ledger.ErrNoRecord) {
		return Job{}, job.NotFound(fmt.Sprintf("there is no job %s", id))
	}
	if err != nil {
		return Job{}, fmt.Errorf("reading job %s from the ledger: %w", id, err)
	}
	var tr job.Transition
	if err := json.Unmarshal(st.Data, &tr); err != nil {
		return Job{}, fmt.Errorf("decoding job %s: %w", id, err)
	}
	return fromTransition(tr, st.Seq), nil
}

// known gives a job that is in memory.
func (t *Table) known(id job.ID) (Job, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if j := t.mu.jobs[id]; j != nil {
		return *j, true
	}
	return Job{}, false
}

// IsLive reports whether a job is known and has something left to be done.
func (t *Table) IsLive(id job.ID) bool {
	_, ok := t.Current(id)
	return ok
}

// Current gives a job that is live, with the controls that have come so far: OnControls
// is called for each after the table has it. ok is false if there is none. Reads nothing.
func (t *Table) Current(id job.ID) (j Job, ok bool) {
	j, ok = t.known(id)
	return j, ok && j.IsLive()
}

// Accept records a job as submitted, version 1. If the job's subject has a record
// already, an earlier submit of the same id won: it gives that job and false. If
// the ledger is full nothing is recorded.
func (t *Table) Accept(ctx context.Context, spec job.Spec) (j Job, isNew bool, err error) {
	if t.Full() {
		if j, err := t.Get(ctx, spec.ID); err == nil { // a repeat of one that was accepted
			return j, j.Spec.Nonce == spec.Nonce, nil
		}
		return Job{}, false, errFull(nil)
	}
	tr := job.Transition{Job: spec.ID, Version: 1, State: job.Submitted, At: stamp(spec.SubmittedAt), Spec: spec}
	for tries := 0; ; tries++ {
		seq, err := t.log.Append(ctx, ledger.JobSubject(spec.ID), 0, encode(tr))
		full := errors.Is(err, ledger.ErrFull)
		switch {
		case err == nil:
			return fromTransition(tr, seq), true, nil
		case full && tries == 0:
			return Job{}, false, errFull(err)
		}
		// A conflict, or an answer that got lost: see what the ledger has (rule 2).
		j, got := t.Get(ctx, spec.ID)
		switch {
		case got == nil:
			return j, j.Spec.Nonce == spec.Nonce, nil // it may have been moved on since
		case job.CodeOf(got) != job.CodeNotFound:
			return Job{}, false, &job.Error{Code: job.CodeUnavailable, Message: "the ledger did not say whether the job was stored; submit again with the same idempotency key", Err: err}
		case full:
			return Job{}, false, errFull(err)
		}
		select {
		case <-ctx.Done():
			return Job{}, false, &job.Error{Code: job.CodeUnavailable, Message: "the ledger did not answer in time; the job was not seen in it", Err: err}
		case <-time.After(retryAfter):
		}
	}
}

// retryAfter is how long an append that was not stored waits to be tried again.
const retryAfter = 100 * time.Millisecond

func errFull(err error) error {
	return &job.Error{Code: job.CodeFull, Message: "the ledger is full; nothing was accepted", Err: err}
}

// Transition records that a job has become something else. It gives the job as it
// then stands, which is unchanged if the state machine does not allow the change. It tries
// again as long as others are faster; a conflict behind which there is no other record is an
// error, for it stays.
func (t *Table) Transition(ctx context.Context, id job.ID, to job.State, reason string, now time.Time) (Job, error) {
	for behind := uint64(0); ; { // the record after which an append met a conflict
		j, err := t.Get(ctx, id)
		if err != nil {
			return j, err
		}
		if j.State == to || !j.State.CanBecome(to) {
			return j, nil
		}
		tr := job.Transition{Job: id, Version: j.Version + 1, State: to, Reason: reason, At: stamp(now), Spec: j.Spec}
		seq, err := t.log.Append(ctx, ledger.JobSubject(id), j.seq, encode(tr))
		if err == nil {
			if err := t.takeJob(ledger.Stored{Seq: seq, Subject: ledger.JobSubject(id), Data: encode(tr)}, false); err != nil {
				return j, err
			}
			next := fromTransition(tr, seq)
			next.Controls, next.first = j.Controls, j.first
			return next, nil
		}
		if ctx.Err() != nil || !errors.Is(err, ledger.ErrConflict) || behind == j.seq {
			return j, fmt.Errorf("recording that job %s is %s: %w", id, to, err)
		}
		behind = j.seq
		if err := t.refresh(ctx, id); err != nil {
			return j, err
		}
	}
}

// refresh takes in the job's last record, which Run has not delivered yet.
func (t *Table) refresh(ctx context.Context, id job.ID) error {
	st, err := t.log.Last(ctx, ledger.JobSubject(id))
	if err != nil {
		return fmt.Errorf("reading job %s from the ledger: %w", id, err)
	}
	return t.takeJob(st, false)
}

// Control records an instruction to a job, and gives the record's sequence. It is in
// force when it is stored.
func (t *Table) Control(ctx context.Context, id job.ID, c job.Control) (seq uint64, err error) {
	b, err := json.Marshal(c)
	if err != nil {
		return 0, fmt.Errorf("encoding a control: %w", err)
	}
	subject := ledger.ControlSubject(id)
	for tries, behind := 0, uint64(0); ; tries++ {
		var last uint64
		st, err := t.controls.Last(ctx, subject)
		switch {
		case err == nil:
			last = st.Seq
		case !errors.Is(err, ledger.ErrNoRecord):
			return 0, fmt.Errorf("reading the controls of job %s: %w", id, err)
		}
		seq, err = t.controls.Append(ctx, subject, last, b)
		if err == nil {
			return seq, nil
		}
		if !errors.Is(err, ledger.ErrConflict) || ctx.Err() != nil || tries > 0 && behind == last {
			return 0, &job.Error{Code: job.CodeUnavailable, Message: "the control may not have been stored; give it again", Err: err}
		}
		behind = last
	}
}

func stamp(at time.Time) string { return at.UTC().Format(time.RFC3339Nano) }

func encode(tr job.Transition) []byte {
	b, err := json.Marshal(tr)
	if err != nil {
		panic(fmt.Sprintf("encoding a transition: %v", err)) // its fields cannot fail
	}
	return b
}
