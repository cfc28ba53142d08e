package scheduler

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"crier/internal/bus"
	"crier/internal/inhand"
	"crier/internal/work"
	"crier/job"
	"crier/state/claims"
	"crier/state/jobs"
	"crier/state/ledger"
	"crier/state/parked"
)

// world is all that schedulers talk to, in one bubble: a ledger, a bus with a
// worker that is a function, the packages and the totals. In it, job n has id {n}.
type world struct {
	t             *testing.T
	log, controls *ledger.Memory
	bus           *bus.Memory
	mu            sync.Mutex
	totals        map[job.ID]parked.Tally
	offers        []work.Offer
	offeredAt     []time.Time
	// answer is the worker: nil is no answer. check is the store of packages, and
	// checks counts its calls.
	answer func(work.Offer) *work.Reply
	check  func(context.Context) ([]job.Range, []int, error)
	checks atomic.Int64
	// withdraw makes withdrawals; nil makes them at once. asked are the jobs it was called for.
	withdraw func(context.Context, job.Spec) error
	asked    []job.ID
	warned   warnings
	ring     func() Ring
	inHand   *inhand.Book // nil: none
}

// warnings is a log that keeps what it is warned of.
type warnings struct {
	slog.Handler
	mu  sync.Mutex
	all []string
}

func (l *warnings) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }
func (l *warnings) WithAttrs([]slog.Attr) slog.Handler               { return l }

func (l *warnings) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	line := r.Message
	r.Attrs(func(a slog.Attr) bool { line += " " + a.String(); return true })
	l.all = append(l.all, line)
	return nil
}

// take gives the warnings since the last take.
func (l *warnings) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.all
	l.all = nil
	return all
}

// inWorld runs a test in a bubble with a world, whose worker sends at once, and
// whose recipients all acknowledge at once.
func inWorld(t *testing.T, test func(*world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, log: ledger.NewMemory(ledger.MemoryConfig{}), controls: ledger.NewMemory(ledger.MemoryConfig{}), bus: bus.NewMemory(),
			totals: map[job.ID]parked.Tally{}, ring: alone}
		defer w.bus.Close()
		w.answer = w.sends
		w.check = good
		if _, err := w.bus.Subscribe(work.OfferTo("w"), w.offered); err != nil {
			t.Fatal(err)
		}
		test(w)
	})
}

// good is the check of a package that is as it should be.
func good(context.Context) ([]job.Range, []int, error) {
	return []job.Range{3, 9}, []int{400, 600}, nil
}

func (w *world) offered(m bus.Msg) {
	var o work.Offer
	if err := json.Unmarshal(m.Data, &o); err != nil {
		w.t.Error(err)
	}
	w.mu.Lock()
	w.offers, w.offeredAt = append(w.offers, o), append(w.offeredAt, time.Now())
	answer := w.answer
	w.mu.Unlock()
	if r := answer(o); r != nil {
		b, err := json.Marshal(r)
		if err == nil {
			err = m.Respond(b)
		}
		if err != nil {
			w.t.Error(err)
		}
	}
}

// sends is a worker that has sent a slice when it is offered.
func (w *world) sends(o work.Offer) *work.Reply {
	w.setTotal(o.Job, parked.Tally{Reserved: recipients, Delivered: recipients})
	return &work.Reply{State: job.SliceSent}
}

// takes is a worker that begins with a slice and does not end.
func takes(work.Offer) *work.Reply { return &work.Reply{State: job.SliceSending} }

func (w *world) setAnswer(fn func(work.Offer) *work.Reply) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer = fn
}

func (w *world) setTotal(id job.ID, total parked.Tally) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.totals[id] = total
}

// Total implements Totals.
func (w *world) Total(id job.ID) (parked.Tally, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.totals[id], nil
}

func (w *world) setCheck(fn func(context.Context) ([]job.Range, []int, error)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.check = fn
}

// Check implements Packages.
func (w *world) Check(ctx context.Context, _ job.Spec) ([]job.Range, []int, error) {
	w.mu.Lock()
	check := w.check
	w.mu.Unlock()
	w.checks.Add(1)
	return check(ctx)
}

// Withdraw implements Withdrawals.
func (w *world) Withdraw(ctx context.Context, recalled job.Spec) error {
	w.mu.Lock()
	withdraw := w.withdraw
	w.asked = append(w.asked, recalled.ID)
	w.mu.Unlock()
	if withdraw == nil {
		return nil
	}
	return withdraw(ctx, recalled)
}

func (w *world) setWithdraw(fn func(context.Context, job.Spec) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.withdraw = fn
}

// askedFor counts how often the withdrawal of a job was asked for.
func (w *world) askedFor(id job.ID) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, x := range w.asked {
		if x == id {
			n++
		}
	}
	return n
}

// running is one scheduler with its table.
type running struct {
	*Scheduler
	table *jobs.Table
	stop  func()
}

func alone() Ring { return Alone{"w"} }

// start starts a scheduler as a process does: with the table read to its end.
func (w *world) start(name string, incarnation uint32) running {
	return w.startOn(w.log, job.Journal{Worker: name, Incarnation: incarnation})
}

func (w *world) startOn(log ledger.Log, self job.Journal) running {
	return w.startWith(log, self, w, w)
}

func (w *world) startWith(log ledger.Log, self job.Journal, totals Totals, packages Packages) running {
	ctx, cancel := context.WithCancel(w.t.Context())
	table, held := jobs.New(log, w.controls), claims.New(w.log)
	s := New(Config{Self: self, Ring: w.ring, Jobs: table, Claims: held, Log: log, Bus: w.bus, Packages: packages, Totals: totals, Withdrawals: w, InHand: w.inHand,
		Logger: slog.New(&w.warned)})
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := table.Run(ctx); !errors.Is(err, context.Canceled) {
			w.t.Errorf("the table: %v", err)
		}
	})
	wg.Go(func() {
		if err := held.Run(ctx); err != nil {
			w.t.Errorf("the claims: %v", err)
		}
	})
	<-table.Ready()
	<-held.Ready()
	wg.Go(func() {
		if err := s.Run(ctx); err != nil {
			w.t.Errorf("the scheduler: %v", err)
		}
	})
	return running{s, table, sync.OnceFunc(func() { cancel(); wg.Wait() })}
}

// submit accepts job n.
func (w *world) submit(n byte, change ...func(*job.Spec)) job.ID {
	w.t.Helper()
	now := time.Now()
	s := job.Spec{ID: job.ID{n}, Package: job.Digest{1}, Recipients: recipients, Priority: 50, Nonce: job.Digest{n}, SubmittedAt: now, ExpiresAt: now.Add(time.Hour)}
	for _, c := range change {
		c(&s)
	}
	if _, isNew, err := jobs.New(w.log, w.controls).Accept(w.t.Context(), s); err != nil || !isNew {
		w.t.Fatalf("job %d: new %v, %v", n, isNew, err)
	}
	return s.ID
}

func realtime(s *job.Spec) { s.Class = job.Realtime }

func (w *world) control(id job.ID, c job.Control) {
	w.t.Helper()
	if _, err := jobs.New(w.log, w.controls).Control(w.t.Context(), id, c); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) pause(id job.ID, yes bool) { w.control(id, job.Control{Pause: &yes}) }
func (w *world) cancel(id job.ID)          { w.control(id, job.Control{Cancel: true}) }
func (w *world) recall(id job.ID)          { w.control(id, job.Control{Recall: true, Why: "a typo"}) }

// history reads a job's states from the ledger, and holds their versions to have no
// gap and their changes to be allowed.
func (w *world) history(id job.ID) (out []job.Transition) {
	w.t.Helper()
	err := ledger.ReadAll(w.t.Context(), w.log, 1, ledger.JobSubject(id), func(st ledger.Stored) error {
		var tr job.Transition
		if err := json.Unmarshal(st.Data, &tr); err != nil {
			return err
		}
		if tr.Version != uint64(len(out)+1) {
			w.t.Errorf("job %d: version %d follows %d", id[0], tr.Version, len(out))
		}
		if len(out) > 0 && !out[len(out)-1].State.CanBecome(tr.State) {
			w.t.Errorf("job %d: %s follows %s", id[0], tr.State, out[len(out)-1].State)
		}
		out = append(out, tr)
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

func (w *world) state(id job.ID) job.State {
	h := w.history(id)
	return h[len(h)-1].State
}

// reaches waits until a job is in a state.
func (w *world) reaches(id job.ID, want job.State, within time.Duration) {
	w.t.Helper()
	began := time.Now()
	for w.state(id) != want {
		if time.Since(began) > within {
			w.t.Fatalf("job %d is %s after %s, not %s", id[0], w.state(id), within, want)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// offersOf counts the offers of a job's slice.
func (w *world) offersOf(id job.ID, number uint32) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, o := range w.offers {
		if o.Job == id && o.Number == number {
			n++
		}
	}
	return n
}

// passes lets fake time pass.
func (w *world) passes(d time.Duration) { time.Sleep(d) }
