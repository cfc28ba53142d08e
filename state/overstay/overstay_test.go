package overstay

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"crier/job"
	"crier/state/events"
	"crier/state/jobs"
	"crier/state/ledger"
	"crier/state/parked"
)

// world is what a sweep talks to, with a clock that the test moves.
type world struct {
	t      *testing.T
	clock  time.Time
	live   []jobs.Job
	totals map[job.ID]parked.Tally
	log    *ledger.Memory
	events *events.Memory
	broken error // what Total answers
}

var began = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newWorld(t *testing.T) *world {
	w := &world{t: t, clock: began, totals: map[job.ID]parked.Tally{}, log: ledger.NewMemory(ledger.MemoryConfig{})}
	w.events = events.NewMemory(w.now)
	return w
}

func (w *world) now() time.Time   { return w.clock }
func (w *world) Live() []jobs.Job { return slices.Clone(w.live) }
func (w *world) Total(id job.ID) (parked.Tally, error) {
	return w.totals[id], w.broken
}

// Of reads the ledger itself: no table is behind here.
func (w *world) Of(thing ledger.Thing) ledger.Claim {
	c, err := ledger.LastClaim(w.t.Context(), w.log, thing)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func (w *world) watch() *Watch { return NewWatch(w, w, w, w.now) }

func (w *world) sweep() *Sweep {
	return NewSweep(Config{Watch: w.watch(), Events: w.events, Claims: w, Logger: slog.New(slog.DiscardHandler),
		WaitingOn: func(id job.ID) string { return "a sign of job " + id.String() },
		Take: func(ctx context.Context, c ledger.Claim, version uint64, at time.Time) error {
			return ledger.TakeAway(ctx, w.log, c, version, at)
		}})
}

// enter makes job n be in a state from now on.
func (w *world) enter(n byte, s job.State) jobs.Job {
	id := job.ID{n}
	j := jobs.Job{Spec: job.Spec{ID: id, ExpiresAt: began.Add(100 * time.Hour)}, State: s, Version: 1, Since: w.clock}
	for i := range w.live {
		if w.live[i].Spec.ID == id {
			j.Version = w.live[i].Version + 1
			w.live[i] = j
			return j
		}
	}
	w.live = append(w.live, j)
	return j
}

// takes makes a scheduler claim job n now, as it would: by Next.
func (w *world) takes(n byte, name string) ledger.Claim {
	w.t.Helper()
	last := w.Of(ledger.JobThing(job.ID{n}))
	by := ledger.Taker{Journal: job.Journal{Worker: name, Incarnation: 1}, Sealed: func(job.Journal) bool { return false }}
	c, err := by.Next(last, w.clock)
	if err == nil {
		c.Seq, err = w.log.Append(w.t.Context(), ledger.ClaimSubject(c.Thing()), last.Seq, c.Bytes())
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// late names the jobs that are late.
func (w *world) late(of *Watch) (ids string) {
	w.t.Helper()
	late, err := of.Late()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, s := range late {
		ids += string('0' + s.Job.Spec.ID[0])
	}
	return ids
}

// alerts are the alerts in the stream, as job/version.
func (w *world) alerts() (all []string) {
	w.t.Helper()
	done := errors.New("all")
	ctx, cancel := context.WithCancelCause(w.t.Context())
	err := w.events.Follow(ctx, events.Query{}, func(s events.Stored) error {
		all = append(all, string('0'+s.Job[0])+"/"+string(rune('0'+s.Version)))
		if s.Alert != job.Overstayed || !strings.Contains(s.Reason, "waits on a sign of job "+s.Job.String()) {
			w.t.Errorf("the alert is %+v", s.Event)
		}
		return nil
	}, func() { cancel(done) })
	if !errors.Is(context.Cause(ctx), done) {
		w.t.Fatal(err)
	}
	return all
}

func TestWhatIsLate(t *testing.T) {
	w := newWorld(t)
	of := w.watch()
	w.enter(1, job.Preparing) // 10 min
	w.enter(2, job.Paused)    // never
	w.enter(3, job.Sending)   // 10 min without progress
	w.enter(4, job.Sent)      // 10 min after its end
	w.enter(5, job.Cancelling)
	for _, step := range []struct {
		after time.Duration // since the step before
		do    func()
		late  string
	}{
		{0, nil, ""},
		{10*time.Minute - 1, func() { w.totals[job.ID{3}] = parked.Tally{Reserved: 7} }, ""},
		{1, nil, "15"},
		{10*time.Minute - 2, func() { w.totals[job.ID{5}] = parked.Tally{Delivered: 1} }, "1"}, // a moment before job 3 is
		{1, func() { w.totals[job.ID{3}] = parked.Tally{Reserved: 7, Delivered: 5} }, "13"},    // acknowledgements send nothing
		{time.Minute, func() { w.totals[job.ID{3}] = parked.Tally{Reserved: 8} }, "1"},
		{time.Minute, func() { w.enter(1, job.Prepared) }, ""},
		{100 * time.Hour, nil, "1534"}, // the longest first
	} {
		w.clock = w.clock.Add(step.after)
		if step.do != nil {
			step.do()
		}
		if got := w.late(of); got != step.late {
			t.Errorf("%s after the beginning %q are late, want %q", w.clock.Sub(began), got, step.late)
		}
	}
	// Who begins to watch now does not know of progress before, and calls nothing late that
	// may have gone on a moment ago.
	if got := w.late(w.watch()); got != "14" {
		t.Errorf("to a new watch %q are late", got)
	}
	w.broken = errors.New("the index is closed")
	if late, err := w.watch().Late(); err == nil || len(late) != 2 {
		t.Errorf("without the index %d are late, %v", len(late), err)
	}
}

// Before the table of jobs has read all there is, what it has is old: nothing is told, or taken.
func TestNothingIsLateBeforeAllIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.enter(1, job.Preparing)
		w.clock = w.clock.Add(time.Hour)
		ready := make(chan struct{})
		s := w.sweep()
		s.cfg.Ready = ready
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		time.Sleep(time.Minute) // in a bubble
		if got := w.alerts(); len(got) > 0 {
			t.Errorf("alerts %v before all is read", got)
		}
		close(ready)
		synctest.Wait()
		if got := w.alerts(); !slices.Equal(got, []string{"1/1"}) {
			t.Errorf("alerts %v, want 1/1", got)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestAlertsAreToldOnce(t *testing.T) {
	w := newWorld(t)
	w.enter(1, job.Preparing)
	w.enter(2, job.Queued)
	s := w.sweep()
	want := func(all ...string) {
		t.Helper()
		for range 3 {
			s.Once(t.Context())
		}
		if got := w.alerts(); !slices.Equal(got, all) {
			t.Errorf("alerts %v, want %v", got, all)
		}
	}
	want()
	w.clock = w.clock.Add(10 * time.Minute)
	w.events.Fail(errors.New("the stream is away"))
	want()
	w.events.Fail(nil)
	want("1/1")
	// A sweep that begins anew finds in the stream what was told.
	w.clock = w.clock.Add(time.Hour)
	s = w.sweep()
	want("1/1", "2/1")
	// The next version is another one.
	w.enter(1, job.Queued)
	want("1/1", "2/1")
	w.clock = w.clock.Add(time.Hour)
	want("1/1", "2/1", "1/2")
}

func TestALateJobIsTakenFromItsOwner(t *testing.T) {
	w := newWorld(t)
	w.enter(1, job.Preparing)
	w.enter(2, job.Queued) // waits for others: it helps nobody to take it
	w.takes(1, "a")
	w.takes(2, "a")
	s := w.sweep()
	holder := func() string { return w.Of(ledger.JobThing(job.ID{1})).Journal.Worker }
	for try := uint32(1); try <= job.MaxTries; try++ {
		w.clock = w.clock.Add(10*time.Minute - 1)
		s.Once(t.Context())
		if holder() == "" {
			t.Fatalf("try %d: it was taken too early", try)
		}
		w.clock = w.clock.Add(1)
		s.Once(t.Context())
		if c := w.Of(ledger.JobThing(job.ID{1})); c.Journal.Worker != "" || c.Tries != try {
			t.Fatalf("try %d: it is %+v", try, c)
		}
		s = w.sweep() // one dies here
		s.Once(t.Context())
		w.clock = w.clock.Add(time.Second)
		w.takes(1, "b")
		if x, err := s.cfg.Watch.Of(w.live[0]); err != nil || x.Tries != try {
			t.Fatalf("try %d: it shows %d, %v", try, x.Tries, err)
		}
	}
	w.clock = w.clock.Add(24 * time.Hour)
	s.Once(t.Context())
	if holder() != "b" {
		t.Error("it is taken for ever")
	}
	if c := w.Of(ledger.JobThing(job.ID{2})); c.Journal.Worker != "a" {
		t.Errorf("the queued one is %+v", c)
	}
	// In its next state it has tries again.
	j := w.enter(1, job.Prepared)
	if x, err := s.cfg.Watch.Of(j); err != nil || x.Tries != 0 {
		t.Errorf("the next state begins with %d tries, %v", x.Tries, err)
	}
	w.clock = w.clock.Add(time.Hour)
	s.Once(t.Context())
	if c := w.Of(ledger.JobThing(job.ID{1})); c.Journal.Worker != "" || c.Tries != 1 || c.Of != j.Version {
		t.Errorf("in its next state it is %+v", c)
	}
}

// What changed since the sweep looked is left alone.
func TestATakeThatIsLateItself(t *testing.T) {
	w := newWorld(t)
	w.enter(1, job.Preparing)
	old := w.takes(1, "a")
	if err := ledger.TakeAway(t.Context(), w.log, old, 1, w.clock); err != nil {
		t.Fatal(err)
	}
	now := w.takes(1, "b")
	for range 2 {
		if err := ledger.TakeAway(t.Context(), w.log, old, 1, w.clock); err != nil {
			t.Fatal(err)
		}
	}
	if c := w.Of(old.Thing()); c.Journal.Worker != "b" || c.Epoch != now.Epoch {
		t.Errorf("it is %+v", c)
	}
}
