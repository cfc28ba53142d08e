package projection

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"crier/job"
	"crier/state/coord"
	"crier/state/jobs"
	"crier/state/ledger"
	"crier/state/sql"
)

// trial is a recorder and what it works with. It knows no job but by what it projects: its
// table is behind.
type trial struct {
	*Recorder
	store coord.Store
	table *jobs.Table // of another process
	spec  job.Spec
}

func newTrial(t *testing.T) trial {
	db, err := sql.Open(t.Context(), sql.Config{Path: filepath.Join(t.TempDir(), "crier.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	log, controls, store := ledger.NewMemory(ledger.MemoryConfig{}), ledger.NewMemory(ledger.MemoryConfig{}), coord.NewMemory(time.Now)
	now := time.Now().UTC()
	spec := job.Spec{ID: job.NewID(now, [10]byte{1}), Priority: 1, SubmittedAt: now, ExpiresAt: now.Add(time.Hour)}
	r := &Recorder{Log: log, Store: db.Jobs, Jobs: jobs.New(log, controls), Coord: store, Logger: slog.New(slog.DiscardHandler)}
	x := trial{r, store, jobs.New(log, controls), spec}
	if _, _, err := x.table.Accept(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	return x
}

// A slice's status stays until its job is over, whatever the recorder's table of jobs knows.
func TestStatusesOfLiveJobsAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTrial(t)
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = x.Run(ctx) })
		defer func() { stop(); running.Wait(); synctest.Wait() }()
		key := sliceKey(x.spec.ID, 0)
		value, err := json.Marshal(SliceStatus{Version: 1, State: job.SliceSending, Since: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := x.store.Put(ctx, key, value, 0); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2*sweepEvery + time.Second)
		if _, err := x.store.Get(ctx, key); err != nil {
			t.Errorf("the job is live: %v", err)
		}
		if _, err := x.table.Transition(ctx, x.spec.ID, job.JobFailed, "", time.Now()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(sweepEvery + time.Second)
		if e, err := x.store.Get(ctx, key); err == nil {
			t.Errorf("the job is over: %s", e.Value)
		}
	})
}

// What the sweep goes by may be old: what was written since stays until it is told.
func TestWhatIsWrittenSinceStays(t *testing.T) {
	x, ctx := newTrial(t), t.Context()
	key := sliceKey(x.spec.ID, 3)
	put := func(version uint64, last coord.Version) coord.Version {
		t.Helper()
		b, err := json.Marshal(SliceStatus{Version: version, State: job.SliceSent, Since: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		now, err := x.store.Put(ctx, key, b, last)
		if err != nil {
			t.Fatal(err)
		}
		return now
	}
	tell := func(v coord.Version) {
		t.Helper()
		e, err := x.store.Get(ctx, key)
		if err != nil || e.Version != v {
			t.Fatalf("it is %+v, %v", e, err)
		}
		if err := x.slice(ctx, e, false); err != nil {
			t.Fatal(err)
		}
	}
	at := time.Now().UTC().Format(time.RFC3339Nano)
	if err := x.Store.Project(ctx, sql.Projection{Recorder: recorderName, Transitions: []job.Transition{
		{Job: x.spec.ID, Version: 1, State: job.Submitted, At: at, Spec: x.spec},
		{Job: x.spec.ID, Version: 2, State: job.JobFailed, At: at, Spec: x.spec}}}); err != nil {
		t.Fatal(err)
	}
	x.statuses.forget()
	first := put(1, 0)
	tell(first)
	second := put(2, first)
	for _, there := range []bool{true, false} {
		if err := x.sweepSlices(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := x.store.Get(ctx, key); (err == nil) != there {
			t.Errorf("it is there: %v, want %v", err, there)
		}
		if there {
			tell(second)
		}
	}
	if err := x.slice(ctx, coord.Entry{Key: key}, true); err != nil {
		t.Fatal(err)
	}
	if n := len(x.statuses.of); n != 0 {
		t.Errorf("statuses of %d jobs are known that are gone", n)
	}
}

// A job that is over as soon as it is sent leaves its slices sent.
func TestTheLastStatusIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTrial(t)
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		defer func() { stop(); running.Wait() }()
		m := &Slices{Store: x.store, Jobs: x.table, Logger: x.Logger, Of: func(id job.ID) []sql.Slice {
			one := sql.Slice{Job: id, Number: 7, State: job.SliceSending, Worker: "w-m1", Epoch: 1}
			two := one
			two.Number = 8
			return []sql.Slice{one, two}
		}}
		running.Go(func() { _ = x.table.Run(ctx) })
		running.Go(func() { _ = m.Run(ctx) })
		move := func(states ...job.State) {
			for _, s := range states {
				if _, err := x.table.Transition(ctx, x.spec.ID, s, "", time.Now()); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(2 * slicesEvery)
		}
		move(job.Packed, job.Queued, job.Preparing, job.Prepared, job.Sending)
		other := sliceKey(x.spec.ID, 8)
		theirs, err := json.Marshal(SliceStatus{Version: 4, State: job.SliceSent, Worker: "w-m2", Epoch: 2})
		if err != nil {
			t.Fatal(err)
		}
		before, err := x.store.Get(ctx, other)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := x.store.Put(ctx, other, theirs, before.Version); err != nil {
			t.Fatal(err)
		}
		move(job.Sent, job.Completed)
		if e, err := x.store.Get(ctx, other); err != nil || string(e.Value) != string(theirs) {
			t.Errorf("what another wrote is %s, %v", e.Value, err)
		}
		e, err := x.store.Get(ctx, sliceKey(x.spec.ID, 7))
		var got SliceStatus
		if err == nil {
			err = json.Unmarshal(e.Value, &got)
		}
		if err != nil || got.State != job.SliceSent || got.Version != 2 || got.Worker != "w-m1" {
			t.Errorf("%+v, %v; want it sent", got, err)
		}
	})
}

// counting counts what is logged.
type counting struct {
	slog.Handler
	n *atomic.Int64
}

func (c counting) Enabled(context.Context, slog.Level) bool { return true }

func (c counting) Handle(context.Context, slog.Record) error {
	c.n.Add(1)
	return nil
}

// A store that does not answer is asked once a round, and complained of once; what was
// written is not forgotten meanwhile.
func TestAStoreThatIsDownIsAskedOnceARound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTrial(t)
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		defer func() { stop(); running.Wait() }()
		store, logged, sending := coord.NewMemory(time.Now), new(atomic.Int64), new(atomic.Bool)
		m := &Slices{Store: store, Jobs: x.table, Logger: slog.New(counting{slog.DiscardHandler, logged}), Of: func(id job.ID) (all []sql.Slice) {
			state := job.SliceOffered
			if sending.Load() {
				state = job.SliceSending
			}
			for n := range uint32(50) {
				all = append(all, sql.Slice{Job: id, Number: n, State: state})
			}
			return all
		}}
		running.Go(func() { _ = x.table.Run(ctx) })
		running.Go(func() { _ = m.Run(ctx) })
		time.Sleep(2 * slicesEvery)
		store.SetDown(true)
		sending.Store(true)
		time.Sleep(20 * slicesEvery)
		if n := logged.Load(); n != 1 {
			t.Errorf("%d complaints", n)
		}
		store.SetDown(false)
		time.Sleep(2 * slicesEvery)
		all, err := store.List(ctx, "slices")
		if err != nil || len(all) != 50 {
			t.Fatalf("%d statuses, %v", len(all), err)
		}
		for _, e := range all {
			var got SliceStatus
			if err := json.Unmarshal(e.Value, &got); err != nil || got.State != job.SliceSending || got.Version != 2 {
				t.Errorf("%s: %+v, %v", e.Key, got, err)
			}
		}
	})
}

// A status that was removed goes on with the next version, so that SQL takes it.
func TestVersionsOfAStatusGoOn(t *testing.T) {
	store := coord.NewMemory(time.Now)
	m := &Slices{Store: store, Logger: slog.New(slog.DiscardHandler)}
	x := sql.Slice{Job: job.ID{1}, State: job.SliceSending}
	key := sliceKey(x.Job, 0)
	last, err := m.write(t.Context(), key, SliceStatus{}, x)
	if err != nil {
		t.Fatal(err)
	}
	e, err := store.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Delete(t.Context(), key, e.Version); err != nil {
		t.Fatal(err)
	}
	x.State = job.SliceSent
	if next, err := m.write(t.Context(), key, last, x); err != nil || next.Version <= last.Version {
		t.Errorf("version %d, %v; want one above %d", next.Version, err, last.Version)
	}
}

// A scheduler that takes a job over knows nothing of its slices until the workers answer, and
// nobody tells it of those of a job that is sent. What is written does not go back; nor is it
// forgotten who sent a slice when that one gives it up.
func TestAStatusDoesNotGoBack(t *testing.T) {
	store := coord.NewMemory(time.Now)
	x := sql.Slice{Job: job.ID{1}, State: job.SliceSending, Worker: "w-m1", Epoch: 1}
	key := sliceKey(x.Job, 0)
	write := func(state job.SliceState, worker string, epoch uint64) {
		t.Helper()
		m := &Slices{Store: store, Logger: slog.New(slog.DiscardHandler)} // of another scheduler
		if _, err := m.write(t.Context(), key, SliceStatus{}, sql.Slice{Job: x.Job, State: state, Worker: worker, Epoch: epoch}); err != nil {
			t.Fatal(err)
		}
	}
	is := func(version uint64, state job.SliceState, worker string, epoch uint64) {
		t.Helper()
		got, _, err := get[SliceStatus](t.Context(), store, key)
		if got.Since = (time.Time{}); err != nil || got != (SliceStatus{Version: version, State: state, Worker: worker, Epoch: epoch}) {
			t.Errorf("%+v, %v; want %s by %q at epoch %d, version %d", got, err, state, worker, epoch, version)
		}
	}
	write(job.SliceSending, "w-m1", 1)
	write(job.SlicePlanned, "w-m1", 1)
	is(1, job.SliceSending, "w-m1", 1)
	write(job.SlicePlanned, "w-m2", 2) // another has it
	is(2, job.SlicePlanned, "w-m2", 2)
	write(job.SliceSent, "", 3) // it gave it up before it was known that it sent it
	is(3, job.SliceSent, "w-m2", 2)
	write(job.SlicePlanned, "", 3)
	write(job.SliceSent, "w-m1", 4) // it found nothing to do
	is(3, job.SliceSent, "w-m2", 2)
}

// What a recorder began beside is over when Run returns: then its stores are closed.
func TestNothingOfARecorderGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTrial(t)
		x.Jobs = x.table
		counting, release, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
		x.Tally = func(job.Spec) (job.Counts, uint64, error) {
			close(counting)
			<-release
			return job.Counts{}, 1, nil
		}
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = x.table.Run(ctx) })
		for _, s := range []job.State{job.Packed, job.Queued, job.Preparing, job.Prepared, job.Sending} {
			if _, err := x.table.Transition(ctx, x.spec.ID, s, "", time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		running.Go(func() { _ = x.Run(ctx); close(ended) })
		<-counting
		stop()
		synctest.Wait()
		select {
		case <-ended:
			t.Error("Run has returned, and it still counts")
		default:
		}
		close(release)
		running.Wait()
		synctest.Wait()
	})
}

// A job that is not projected yet keeps no other's counts from being so.
func TestCountsOfJobsThatAreThere(t *testing.T) {
	x := newTrial(t)
	var some []sql.JobCounts
	now := time.Now().UTC()
	for i := range 5 {
		spec := x.spec
		spec.ID = job.NewID(now, [10]byte{2, byte(i)})
		some = append(some, sql.JobCounts{Job: spec.ID, AsOf: 7, Counts: job.Counts{Package: 10, Pending: uint64(i), Delivered: 10 - uint64(i)}})
		if i == 2 {
			continue
		}
		first := job.Transition{Job: spec.ID, Version: 1, State: job.Submitted, At: now.Format(time.RFC3339Nano), Spec: spec}
		if err := x.Store.Project(t.Context(), sql.Projection{Recorder: recorderName, Transitions: []job.Transition{first}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := x.projectCounts(t.Context(), some); err != nil {
		t.Fatal(err)
	}
	for i, c := range some {
		got, err := x.Store.Get(t.Context(), c.Job)
		if i == 2 {
			if job.CodeOf(err) != job.CodeNotFound {
				t.Errorf("the job that is not there: %v", err)
			}
		} else if err != nil || got.CountsAsOf != 7 || got.Counts.Delivered != c.Counts.Delivered {
			t.Errorf("job %d has %+v, %v", i, got, err)
		}
	}
}

// refusing is a store that does not take one key.
type refusing struct {
	coord.Store
	key string
}

func (s *refusing) Put(ctx context.Context, key string, value []byte, last coord.Version) (coord.Version, error) {
	if key == s.key {
		return 0, errors.New("it is down")
	}
	return s.Store.Put(ctx, key, value, last)
}

// TestToldSlices: a job all of whose slices are told to be sent is not asked for again; what could
// not be told is told later, and what was told before is known on.
func TestToldSlices(t *testing.T) {
	x, ctx := newTrial(t), t.Context()
	go x.table.Run(ctx)
	<-x.table.Ready()
	states, asked := []job.SliceState{job.SliceSending, job.SliceSending}, 0
	store := &refusing{Store: x.store}
	m := &Slices{Store: store, Jobs: x.table, Logger: slog.New(slog.DiscardHandler), Of: func(id job.ID) (of []sql.Slice) {
		asked++
		for n, s := range states {
			of = append(of, sql.Slice{Job: id, Number: uint32(n), State: s, Worker: "w", Epoch: 1})
		}
		return of
	}}
	var written map[job.ID]told
	round := func(fails bool) {
		t.Helper()
		now, err := m.round(ctx, written)
		if (err != nil) != fails {
			t.Fatalf("a round: %v", err)
		}
		written = now
	}
	want := func(states ...job.SliceState) {
		t.Helper()
		for n, want := range states {
			if s, _, err := get[SliceStatus](ctx, x.store, sliceKey(x.spec.ID, uint32(n))); err != nil || s.State != want {
				t.Errorf("slice %d is %s, %v; want %s", n, s.State, err, want)
			}
		}
	}
	round(false)
	want(job.SliceSending, job.SliceSending)
	states = []job.SliceState{job.SliceSent, job.SliceSent}
	store.key = sliceKey(x.spec.ID, 1)
	round(true)
	want(job.SliceSent, job.SliceSending)
	if got := written[x.spec.ID].slices; got[0].State != job.SliceSent || got[1].State != job.SliceSending {
		t.Errorf("after an error it knows %v", got)
	}
	store.key = ""
	round(false)
	want(job.SliceSent, job.SliceSent)
	before := asked
	round(false)
	if asked != before {
		t.Error("a job is asked for that is told to be sent")
	}
}
