package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"crier/job"
	"crier/state/ledger"
)

var at = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)

func spec(id, nonce byte) job.Spec {
	return job.Spec{ID: job.ID{id}, Nonce: job.Digest{nonce, 1}, Package: job.Digest{9}, Priority: 50, Recipients: uint64(nonce), SubmittedAt: at, ExpiresAt: at.Add(time.Hour)}
}

func streams() (log, controls *ledger.Memory) {
	return ledger.NewMemory(ledger.MemoryConfig{}), ledger.NewMemory(ledger.MemoryConfig{})
}

// history reads a job's records from the ledger.
func history(t *testing.T, log ledger.Log, id job.ID) []job.Transition {
	t.Helper()
	var out []job.Transition
	err := ledger.ReadAll(t.Context(), log, 1, ledger.JobSubject(id), func(st ledger.Stored) error {
		var tr job.Transition
		if err := json.Unmarshal(st.Data, &tr); err != nil {
			return err
		}
		out = append(out, tr)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// run runs a table until the test's bubble ends it.
func run(t *testing.T, tables ...*Table) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, table := range tables {
		wg.Go(func() {
			if err := table.Run(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("Run: %v", err)
			}
		})
	}
	return func() {
		cancel()
		wg.Wait()
	}
}

func TestOneOfManySubmitsIsNew(t *testing.T) {
	for _, running := range []bool{false, true} {
		for _, faults := range [][]ledger.Fault{nil, {ledger.FaultStored}, {ledger.FaultLost, ledger.FaultLost, ledger.FaultStored}} {
			t.Run(fmt.Sprint(running, faults), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					log, controls := streams()
					log.Inject(ledger.AllJobs, faults...)
					tables := []*Table{New(log, controls), New(log, controls)}
					if running {
						defer run(t, tables...)()
					}
					type answer struct {
						nonce byte
						j     Job
						isNew bool
					}
					answers := make([]answer, 1000)
					var wg sync.WaitGroup
					for i := range answers {
						wg.Go(func() {
							s := spec(1, byte(i))
							s.Nonce[2] = byte(i >> 8)
							j, isNew, err := tables[i%2].Accept(t.Context(), s)
							if err != nil {
								t.Errorf("submit %d: %v", i, err)
							}
							if isNew && (j.Spec.Nonce != s.Nonce || j.Version != 1 || j.State != job.Submitted) {
								t.Errorf("submit %d is new and gets %+v", i, j)
							}
							answers[i] = answer{byte(i), j, isNew}
						})
					}
					wg.Wait()
					records := history(t, log, job.ID{1})
					if len(records) != 1 {
						t.Fatalf("%d records", len(records))
					}
					news := 0
					for i, a := range answers {
						if a.isNew {
							news++
						}
						if a.j.Spec.Nonce != records[0].Spec.Nonce || !a.j.Spec.SubmittedAt.Equal(at) {
							t.Errorf("submit %d gets the job of %x, the ledger has %x", i, a.j.Spec.Nonce[:3], records[0].Spec.Nonce[:3])
						}
					}
					if news != 1 {
						t.Errorf("%d submits are new", news)
					}
				})
			})
		}
	}
}

// hooked is a log that lets a test act inside an append.
type hooked struct {
	*ledger.Memory
	after func(seq uint64, err error) (uint64, error)
}

func (h *hooked) Append(ctx context.Context, subject string, last uint64, data []byte) (uint64, error) {
	seq, err := h.Memory.Append(ctx, subject, last, data)
	if h.after != nil {
		return h.after(seq, err)
	}
	return seq, err
}

func TestASubmitThatIsMovedOnBeforeItsAnswerIsStillNew(t *testing.T) {
	log, controls := streams()
	other := New(log, controls)
	h := &hooked{Memory: log}
	h.after = func(uint64, error) (uint64, error) {
		h.after = nil
		if _, err := other.Transition(t.Context(), job.ID{1}, job.Packed, "", at); err != nil {
			t.Error(err)
		}
		return 0, ledger.ErrNoAnswer
	}
	j, isNew, err := New(h, controls).Accept(t.Context(), spec(1, 1))
	if err != nil || !isNew || j.Version != 2 || j.State != job.Packed {
		t.Fatalf("%+v, new: %v, %v", j, isNew, err)
	}
	if j, isNew, err = New(log, controls).Accept(t.Context(), spec(1, 2)); err != nil || isNew || j.Spec.Nonce != spec(1, 1).Nonce {
		t.Fatalf("another submit of the same id: %+v, new: %v, %v", j, isNew, err)
	}
}

func TestAcceptSaysWhatItDoesNotKnow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, controls := streams()
		table := New(log, controls)
		log.Inject(ledger.AllJobs, ledger.FaultFull)
		if _, _, err := table.Accept(t.Context(), spec(1, 1)); job.CodeOf(err) != job.CodeFull {
			t.Errorf("full: %v", err)
		}
		log.Inject(ledger.AllJobs, ledger.FaultLost, ledger.FaultFull)
		if _, _, err := table.Accept(t.Context(), spec(1, 1)); job.CodeOf(err) != job.CodeFull {
			t.Errorf("lost, then full: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, err := table.Accept(ctx, spec(1, 1)); job.CodeOf(err) != job.CodeUnavailable {
			t.Errorf("nobody waits: %v", err)
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for range 100 {
			log.Inject(ledger.AllJobs, ledger.FaultLost)
		}
		began := time.Now()
		if _, _, err := table.Accept(ctx, spec(1, 1)); job.CodeOf(err) != job.CodeUnavailable {
			t.Errorf("nothing is ever stored: %v", err)
		}
		if took := time.Since(began); took != time.Second {
			t.Errorf("gave up after %s", took)
		}
		if got := history(t, log, job.ID{1}); len(got) != 0 {
			t.Errorf("%d records of a job that was not accepted", len(got))
		}
		if _, err := table.Get(t.Context(), job.ID{1}); job.CodeOf(err) != job.CodeNotFound {
			t.Errorf("a job that was not accepted: %v", err)
		}
	})
}

func TestCompetingTablesLeaveNoGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, controls := streams()
		tables := []*Table{New(log, controls), New(log, controls), New(log, controls)}
		var mu sync.Mutex
		seen := make([]map[job.ID]uint64, len(tables))
		for i, table := range tables {
			seen[i] = map[job.ID]uint64{}
			table.OnJob = func(j Job) {
				mu.Lock()
				defer mu.Unlock()
				if got := table.versionOf(j.Spec.ID); got > 0 && got < j.Version {
					t.Errorf("OnJob tells version %d, the table has %d", j.Version, got)
				}
				seen[i][j.Spec.ID] = max(seen[i][j.Spec.ID], j.Version)
			}
		}
		defer run(t, tables[:2]...)() // the third never follows
		const jobs = 5
		for i := range byte(jobs) {
			if _, _, err := tables[0].Accept(t.Context(), spec(i+1, i)); err != nil {
				t.Fatal(err)
			}
		}
		won := map[string]bool{}
		var wg sync.WaitGroup
		for k, table := range tables {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(k), 3))
				for i := range 400 {
					if rng.IntN(10) == 0 {
						log.Inject(ledger.AllJobs, []ledger.Fault{ledger.FaultStored, ledger.FaultLost}[rng.IntN(2)])
					}
					id := job.ID{byte(rng.IntN(jobs) + 1)}
					to := job.State(rng.IntN(int(job.FailedOver) + 1))
					if to.Terminal() && i < 350 {
						continue // let them live for a while
					}
					reason := fmt.Sprintf("%d/%d", k, i)
					j, err := table.Transition(t.Context(), id, to, reason, at)
					if err == nil && j.Reason == reason {
						mu.Lock()
						won[fmt.Sprintf("%s %s %d", reason, id, j.Version)] = true
						mu.Unlock()
					}
				}
			})
		}
		wg.Wait()
		synctest.Wait()
		total := 0
		for i := range byte(jobs) {
			id := job.ID{i + 1}
			records := history(t, log, id)
			total += len(records)
			for n, tr := range records {
				if tr.Version != uint64(n+1) || tr.Job != id || tr.Spec.Nonce != spec(i+1, i).Nonce {
					t.Fatalf("record %d of %s: %+v", n, id, tr)
				}
				if n > 0 && !records[n-1].State.CanBecome(tr.State) {
					t.Fatalf("%s became %s from %s", id, tr.State, records[n-1].State)
				}
				delete(won, fmt.Sprintf("%s %s %d", tr.Reason, id, tr.Version))
			}
			last := records[len(records)-1]
			for k, table := range tables {
				j, err := table.Get(t.Context(), id)
				if err != nil || k < 2 && (j.Version != last.Version || j.State != last.State) {
					t.Errorf("table %d has %s as %s, version %d (%v); the ledger has %s, %d", k, id, j.State, j.Version, err, last.State, last.Version)
				}
				if k < 2 && seen[k][id] != last.Version {
					t.Errorf("table %d was told of version %d of %s, the last is %d", k, seen[k][id], id, last.Version)
				}
			}
		}
		if len(won) > 0 {
			t.Errorf("changes that were told and are not in the ledger: %v", won)
		}
		if total < 30 {
			t.Fatalf("%d records only", total)
		}
	})
}

func (t *Table) versionOf(id job.ID) uint64 {
	j, _ := t.known(id)
	return j.Version
}

func ptr[T any](v T) *T { return &v }

// gated holds back what a follower is told until it is let through.
type gated struct {
	*ledger.Memory
	open chan struct{}
}

func (g *gated) Follow(ctx context.Context, from uint64, filter string, fn func(ledger.Stored) error, caughtUp func()) error {
	return g.Memory.Follow(ctx, from, filter, func(st ledger.Stored) error {
		select {
		case <-g.open:
		case <-ctx.Done():
			return ctx.Err()
		}
		return fn(st)
	}, caughtUp)
}

func TestControlsMayComeBeforeTheirJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, controls := streams()
		setUp := New(log, controls)
		id := job.ID{1}
		if _, _, err := setUp.Accept(t.Context(), spec(1, 1)); err != nil {
			t.Fatal(err)
		}
		for _, c := range []job.Control{{Pause: ptr(true)}, {Rate: ptr(uint32(7))}, {Pause: ptr(false)}, {Rate: ptr(uint32(9)), Doubt: ptr(job.DecideDrop)}} {
			if _, err := setUp.Control(t.Context(), id, c); err != nil {
				t.Fatal(err)
			}
		}
		g := &gated{log, make(chan struct{})}
		table := New(g, controls)
		var sums []job.Controls
		caughtUp := 0
		table.OnControls = func(got job.ID, c job.Controls) {
			if got != id {
				t.Errorf("controls of %s", got)
			}
			sums = append(sums, c)
		}
		table.OnCaughtUp = func() { caughtUp++ }
		defer run(t, table)()
		time.Sleep(3 * time.Second) // of the bubble: the controls are in, the job is not
		synctest.Wait()
		if len(sums) != 4 || !sums[0].Paused || sums[2].Paused || *sums[3].Rate != 9 || sums[3].Doubt != job.DecideDrop || caughtUp == 0 {
			t.Fatalf("%+v, caught up %d times", sums, caughtUp)
		}
		select {
		case <-table.Ready():
			t.Fatal("ready without its jobs")
		default:
		}
		close(g.open)
		synctest.Wait()
		<-table.Ready()
		j, err := table.Get(t.Context(), id)
		if err != nil || j.Controls.Paused || j.Controls.Rate == nil || *j.Controls.Rate != 9 || j.Rate() != 9 {
			t.Fatalf("%+v, %v", j, err)
		}
		if _, err := setUp.Control(t.Context(), id, job.Control{Cancel: true}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if j, _ = table.Get(t.Context(), id); !j.Controls.Cancelled || j.Over(at) != job.Cancelled || *j.Controls.Rate != 9 {
			t.Fatalf("%+v", j)
		}
	})
}

func TestJobsThatAreOverLeaveMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, controls := streams()
		before := New(log, controls)
		for i := range byte(3) {
			before.Accept(t.Context(), spec(i+1, i))
			before.Control(t.Context(), job.ID{i + 1}, job.Control{Pause: ptr(true)})
		}
		before.Transition(t.Context(), job.ID{1}, job.JobFailed, "why", at)
		table := New(log, controls) // it starts after the first job's end
		defer run(t, table)()
		<-table.Ready()
		table.Transition(t.Context(), job.ID{2}, job.JobFailed, "why", at)
		table.Control(t.Context(), job.ID{2}, job.Control{Cancel: true}) // too late
		time.Sleep(5 * time.Second)                                      // of the bubble
		synctest.Wait()
		table.mu.RLock()
		live, early := len(table.mu.jobs), len(table.mu.early)
		table.mu.RUnlock()
		if live != 1 || early != 0 {
			t.Errorf("%d jobs and the controls of %d are in memory, one job is live", live, early)
		}
		if got := table.Live(); len(got) != 1 || got[0].Spec.ID != (job.ID{3}) || !got[0].Controls.Paused || !table.IsLive(job.ID{3}) {
			t.Errorf("live: %+v", got)
		}
		for _, id := range []job.ID{{1}, {2}} {
			if j, err := table.Get(t.Context(), id); err != nil || j.State != job.JobFailed || j.Reason != "why" || j.Version != 2 || !j.Since.Equal(at) || table.IsLive(id) || j.Controls.Paused == j.Controls.Cancelled {
				t.Errorf("%s: %+v, %v", id, j, err)
			}
			if spec, err := table.Spec(t.Context(), id); err != nil || spec.ID != id {
				t.Errorf("the spec of %s: %+v, %v", id, spec, err)
			}
		}
	})
}

// A recall brings a job back that is over, once, in every table, whether it runs or begins
// later; other controls do not.
func TestARecallBringsAJobBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, controls := streams()
		table := New(log, controls)
		var mu sync.Mutex // its Run tells, and so does whoever changes a job
		var told []job.State
		table.OnJob = func(j Job) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, j.State)
		}
		defer run(t, table)()
		for i := range byte(3) {
			table.Accept(t.Context(), spec(i+1, i))
			table.Transition(t.Context(), job.ID{i + 1}, job.JobFailed, "why", at)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		mu.Lock()
		told = nil
		mu.Unlock()
		table.Control(t.Context(), job.ID{1}, job.Control{Recall: true, Why: "a typo"})
		table.Control(t.Context(), job.ID{2}, job.Control{Cancel: true})
		time.Sleep(5 * time.Second)
		synctest.Wait()
		later := New(log, controls)
		defer run(t, later)()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		for _, x := range []*Table{table, later} {
			got := x.Live()
			if len(got) != 1 || got[0].Spec.ID != (job.ID{1}) || got[0].State != job.JobFailed || !got[0].Controls.Recalled || got[0].Controls.Reason != "a typo" ||
				got[0].Over(at) != job.Recalled || !x.IsLive(job.ID{1}) || x.IsLive(job.ID{2}) {
				t.Errorf("live: %+v", got)
			}
		}
		mu.Lock()
		if fmt.Sprint(told) != "[failed]" {
			t.Errorf("told %v", told)
		}
		mu.Unlock()
		for _, to := range []job.State{job.Recalling, job.JobRecalled} {
			if j, err := later.Transition(t.Context(), job.ID{1}, to, "", at); err != nil || j.State != to || !j.Controls.Recalled {
				t.Fatalf("%+v, %v", j, err)
			}
			time.Sleep(5 * time.Second)
			synctest.Wait()
			for _, x := range []*Table{table, later} {
				if j, ok := x.Current(job.ID{1}); ok != (to == job.Recalling) || ok && (j.State != to || !j.Controls.Recalled) {
					t.Errorf("%+v, live %v", j, ok)
				}
			}
		}
		table.Control(t.Context(), job.ID{1}, job.Control{Recall: true})
		last := New(log, controls)
		defer run(t, last)()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		for _, x := range []*Table{table, later, last} {
			x.mu.RLock()
			if len(x.mu.jobs) > 0 || len(x.mu.early) > 0 {
				t.Errorf("%d jobs and the controls of %d are in memory", len(x.mu.jobs), len(x.mu.early))
			}
			x.mu.RUnlock()
		}
	})
}

// The first recall counts; a cancel after it changes nothing, one before it stands.
func TestCancelAndRecall(t *testing.T) {
	recall, cancel := job.Control{Recall: true, Why: "one"}, job.Control{Cancel: true}
	for _, c := range []struct {
		given []job.Control
		want  job.Controls
	}{
		{[]job.Control{recall, {Recall: true, Why: "two"}}, job.Controls{Recalled: true, Reason: "one"}},
		{[]job.Control{recall, cancel}, job.Controls{Recalled: true, Reason: "one"}},
		{[]job.Control{cancel, recall}, job.Controls{Cancelled: true, Recalled: true, Reason: "one"}},
	} {
		var sum job.Controls
		for _, x := range c.given {
			sum.Apply(x)
		}
		if sum != c.want {
			t.Errorf("%+v add up to %+v, want %+v", c.given, sum, c.want)
		}
	}
}

func TestAJobThatIsOverDoesNotComeBackWithAnOldRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, controls := streams()
		g := &gated{log, make(chan struct{})}
		table := New(g, controls)
		var told []job.State
		table.OnJob = func(j Job) { told = append(told, j.State) }
		defer run(t, table)()
		id := job.ID{1}
		if _, _, err := table.Accept(t.Context(), spec(1, 1)); err != nil {
			t.Fatal(err)
		}
		for _, to := range []job.State{job.Packed, job.JobFailed} {
			if j, err := table.Transition(t.Context(), id, to, "", at); err != nil || j.State != to {
				t.Fatalf("%+v, %v", j, err)
			}
		}
		if table.IsLive(id) || len(table.Live()) > 0 {
			t.Error("a job that is over is live")
		}
		g.open <- struct{}{} // now Run sees how it began, one record after the other
		synctest.Wait()
		if table.IsLive(id) || len(table.Live()) > 0 {
			t.Error("an old record brings a job back")
		}
		close(g.open)
		synctest.Wait()
		if fmt.Sprint(told) != "[packed failed]" {
			t.Errorf("told %v", told)
		}
		if got := table.versionOf(id); got != 0 {
			t.Errorf("version %d is still in memory", got)
		}
	})
}

func TestReadersBesideControls(t *testing.T) {
	log, controls := streams()
	table := New(log, controls)
	stop := run(t, table)
	defer stop()
	if _, _, err := table.Accept(t.Context(), spec(1, 1)); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for n := range 200 {
				if i == 0 {
					if _, err := table.Control(t.Context(), job.ID{1}, job.Control{Rate: ptr(uint32(n))}); err != nil {
						t.Error(err)
					}
					continue
				}
				table.Get(t.Context(), job.ID{1})
				for _, j := range table.Live() {
					j.Rate()
				}
			}
		})
	}
	wg.Wait()
}

func TestControlIsStoredOrSaysSo(t *testing.T) {
	log, controls := streams()
	table := New(log, controls)
	h := &hooked{Memory: controls}
	table.controls = h
	h.after = func(seq uint64, err error) (uint64, error) { // another control comes in between
		h.after = nil
		if _, err := New(log, controls).Control(t.Context(), job.ID{1}, job.Control{Cancel: true}); err != nil {
			t.Error(err)
		}
		return seq, err
	}
	if _, err := table.Control(t.Context(), job.ID{1}, job.Control{Pause: ptr(true)}); err != nil {
		t.Fatal(err)
	}
	if _, err := table.Control(t.Context(), job.ID{1}, job.Control{Pause: ptr(false)}); err != nil {
		t.Fatal(err)
	}
	controls.Inject(ledger.AllControls, ledger.FaultLost)
	if _, err := table.Control(t.Context(), job.ID{1}, job.Control{}); job.CodeOf(err) != job.CodeUnavailable {
		t.Fatalf("lost: %v", err)
	}
	if got, _ := controls.Subjects(t.Context(), ledger.AllControls); got[ledger.ControlSubject(job.ID{1})] != 3 {
		t.Fatalf("%v", got)
	}
}

func TestOver(t *testing.T) {
	j := Job{Spec: spec(1, 1)}
	for _, c := range []struct {
		change func(*Job)
		now    time.Time
		want   job.Outcome
	}{
		{func(*Job) {}, at, job.Parked},
		{func(*Job) {}, j.Spec.ExpiresAt.Add(-1), job.Parked},
		{func(*Job) {}, j.Spec.ExpiresAt, job.Expired},
		{func(j *Job) { j.Controls.Cancelled = true }, j.Spec.ExpiresAt, job.Cancelled},
		{func(j *Job) { j.State = job.Cancelling }, at, job.Cancelled},
		{func(j *Job) { j.State = job.JobCancelled }, at, job.Cancelled},
		{func(j *Job) { j.Controls.Recalled = true }, j.Spec.ExpiresAt, job.Recalled},
		{func(j *Job) { j.State = job.Recalling }, at, job.Recalled},
		{func(j *Job) { j.State = job.JobRecalled }, at, job.Recalled},
		{func(j *Job) { j.Controls.Cancelled, j.Controls.Recalled = true, true }, at, job.Cancelled}, // what was cancelled stays so
		{func(j *Job) { j.Controls.Paused = true }, at, job.Parked},
	} {
		x := j
		c.change(&x)
		if got := x.Over(c.now); got != c.want {
			t.Errorf("%s %+v at %s: %s, want %s", x.State, x.Controls, c.now, got, c.want)
		}
	}
}

// What is ordered of a job is what its controls are to make of it, and nothing once it is that.
func TestOrdered(t *testing.T) {
	paused, cancelled, recalled := job.Controls{Paused: true}, job.Controls{Cancelled: true}, job.Controls{Recalled: true}
	for _, c := range []struct {
		state    job.State
		controls job.Controls
		want     string
	}{
		{job.Sending, job.Controls{}, ""}, {job.Sending, paused, "paused"}, {job.Prepared, paused, "paused"}, {job.Sent, paused, ""},
		{job.Paused, paused, ""}, {job.Paused, job.Controls{}, "sending"}, {job.Paused, cancelled, "cancelling"},
		{job.Sent, cancelled, "cancelling"}, {job.Cancelling, cancelled, ""}, {job.JobCancelled, cancelled, ""},
		{job.Sent, recalled, "recalling"}, {job.Completed, recalled, "recalling"}, {job.Recalling, recalled, ""}, {job.JobRecalled, recalled, ""},
		{job.Quarantined, job.Controls{Again: 6}, ""}, {job.Quarantined, job.Controls{Again: 7}, "queued"},
	} {
		j := Job{Spec: spec(1, 1), State: c.state, Version: 7, Controls: c.controls}
		if to, ok := j.Ordered(); ok != (c.want != "") || ok && to.String() != c.want {
			t.Errorf("%s with %+v is ordered to be %s, %v; want %q", c.state, c.controls, to, ok, c.want)
		}
	}
}

// setBack is a stream that has lost its newest records, and of which a table has more.
type setBack struct {
	*ledger.Memory
	lost    bool
	appends int
}

// Append implements ledger.Log.
func (l *setBack) Append(ctx context.Context, subject string, last uint64, data []byte) (uint64, error) {
	if l.appends++; l.appends > 1000 {
		return 0, errors.New("it is tried without end")
	}
	if l.lost {
		return 0, ledger.ErrConflict
	}
	return l.Memory.Append(ctx, subject, last, data)
}

// A conflict behind which there is no other record does not go away: whoever calls is told, and
// tries again when it may.
func TestAConflictThatStaysIsTold(t *testing.T) {
	log, controls := streams()
	first, second := &setBack{Memory: log}, &setBack{Memory: controls}
	table := New(first, second)
	if _, _, err := table.Accept(t.Context(), spec(1, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := table.Control(t.Context(), job.ID{1}, job.Control{At: at}); err != nil {
		t.Fatal(err)
	}
	first.lost, second.lost = true, true
	if j, err := table.Transition(t.Context(), job.ID{1}, job.Packed, "", at); !errors.Is(err, ledger.ErrConflict) || j.State != job.Submitted {
		t.Errorf("the job is %s, %v; want a conflict", j.State, err)
	}
	if _, err := table.Control(t.Context(), job.ID{1}, job.Control{At: at}); !errors.Is(err, ledger.ErrConflict) {
		t.Errorf("a control: %v; want a conflict", err)
	}
	if first.appends > 5 || second.appends > 5 {
		t.Errorf("tried %d and %d times", first.appends, second.appends)
	}
}

// When a job was accepted is told by its first record: where it is followed, moved on here or
// elsewhere, over, or asked for before the table runs.
func TestWhenAJobWasAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, controls := streams()
		table, other := New(log, controls), New(log, controls)
		accept := func(id byte) {
			t.Helper()
			if _, _, err := table.Accept(t.Context(), spec(id, id)); err != nil {
				t.Fatal(err)
			}
		}
		followed := false
		check := func(what string) {
			t.Helper()
			for id := byte(1); id <= 3; id++ {
				var first uint64
				_ = ledger.ReadAll(t.Context(), log, 1, ledger.JobSubject(job.ID{id}), func(st ledger.Stored) error {
					if first == 0 {
						first = st.Seq
					}
					return nil
				})
				for _, x := range []*Table{table, other} {
					if seq, err := x.Accepted(t.Context(), job.ID{id}); err != nil || seq != first || first == 0 {
						t.Errorf("%s: job %d was accepted with record %d, %v; want %d", what, id, seq, err, first)
					}
					if j, ok := x.Current(job.ID{id}); ok && j.Accepted() != first && (followed || j.Accepted() != 0) {
						t.Errorf("%s: job %d in the table was accepted with record %d, want %d", what, id, j.Accepted(), first)
					}
				}
			}
			if _, err := table.Accepted(t.Context(), job.ID{9}); job.CodeOf(err) != job.CodeNotFound {
				t.Errorf("%s: a job that is none: %v", what, err)
			}
		}
		accept(1)
		accept(2)
		accept(3)
		if _, err := other.Transition(t.Context(), job.ID{2}, job.Packed, "", at); err != nil { // before it has followed
			t.Fatal(err)
		}
		check("before they run")
		defer run(t, table, other)()
		synctest.Wait()
		followed = true
		check("when they run")
		for _, s := range []job.State{job.Queued, job.Preparing} {
			if _, err := table.Transition(t.Context(), job.ID{2}, s, "", at); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := other.Transition(t.Context(), job.ID{3}, job.Cancelling, "", at); err != nil {
			t.Fatal(err)
		}
		if j, err := other.Transition(t.Context(), job.ID{3}, job.JobCancelled, "", at); err != nil || j.IsLive() {
			t.Fatalf("%+v, %v", j, err)
		}
		synctest.Wait()
		check("moved on, and over")
	})
}
