// Package worker sends: it claims slices, works out their blocks, makes the
// reserves durable in its journal, hands them to gateways, and is home to ranges
// of recipients whose parked messages it drains when they log in.
//
// It guarantees that nothing leaves before its reserve is in the ledger, and that
// after a crash whoever takes over seals this journal, asks the gateways what they
// accepted, and sends again only what none of them did.
//
// One goroutine (loop) owns all decisions: the cores in the packages journal,
// lane, outbound and home. Everything that reads, waits or talks runs beside it
// and posts what it found back as an event.
package worker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"crier/filters"
	"crier/internal/bus"
	"crier/internal/crew"
	"crier/internal/inhand"
	"crier/job"
	"crier/state/claims"
	"crier/state/erased"
	"crier/state/jobs"
	"crier/state/ledger"
	"crier/state/parked"
	"crier/state/parked/feed"
	"crier/worker/arrivals"
	"crier/worker/block"
	"crier/worker/holds"
	"crier/worker/outbound"
	"crier/worker/sweep"
	"crier/worker/tenure"
	"crier/worker/tries"
)

// Config is what a worker is made of.
type Config struct {
	Name     string // of this worker: job.ValidName; the same after a restart
	Start    uint32 // of its process; its incarnation is this, or the next after its last
	Log      ledger.Log
	Bus      bus.Bus
	Index    *parked.Index
	Jobs     *jobs.Table        // the worker sets its callbacks; whoever made it runs it after New
	Claims   *claims.Table      // the same; whoever made it runs it
	Ring     func() tenure.Ring // who else there is, now: the same value (==) while nothing changes; default: nobody
	Silent   func() bool        // everything is to be given up, nothing taken; default: never
	Presence Presence
	Content  Content
	Erased   Erased                            // default: nobody asked to be forgotten
	Filters  func(filters.Lists) filters.Chain // default: filters.New
	Policy   block.Policy                      // of the frequency caps; the same for all workers
	Lanes    int                               // blocks under way at a time; default 8; each holds up to 2 MiB
	// DrainRate is how many recipients a second are handed what was parked for them,
	// apart from the rates of jobs; 0 is unlimited.
	DrainRate int
	ParkCap   int          // the most messages that wait for a recipient; 0 is any number
	Boot      string       // this machine's boot id
	InHand    *inhand.Book // default: none; the worker's process begins nothing again that it dies of
	Logger    *slog.Logger // default: slog.Default()
}

// Worker is a worker.
type Worker struct {
	cfg       Config
	journal   job.Journal
	former    []job.Journal // of earlier starts, sealed
	closed    []job.Journal // those of them of which nothing is open, or is this one's to close
	log       *slog.Logger
	events    chan any
	ready     chan struct{}
	over      chan struct{} // closed when the loop decides no more
	stopped   chan struct{} // closed when Run returns
	beside    crew.Crew     // what the loop and the bus start; over when Run returns
	blocks    *block.Maker
	drains    *rate.Limiter
	full      atomic.Pointer[map[job.Incarnation]bool] // incarnations with no room for a reserve
	open      atomic.Pointer[[]job.Incarnation]        // those with open reserves
	inherited []ledger.Claim                           // by which it closes what its former journals left open
	holds     *holds.Ranges
	taking    chan struct{} // one slot per claim under way
	reading   chan struct{} // one slot per look that reads the index
	slices    *holds.Slices
	tries     tries.Book
	arrivals  *arrivals.Intake // the only one to change presence, forgetting apart
	outbox    *outbound.Outbox
	slow      sync.Map     // jobs for whose body hand-offs wait beside the others
	ticked    atomic.Int64 // when the loop last saw time pass, in Unix nanoseconds
	sure      atomic.Int64 // when all controls were last known, in Unix nanoseconds
	stats     Stats
}

// Stats counts what a worker did since it started. All fields only grow.
type Stats struct {
	Records, Bytes, Reserves, Drains, Dones atomic.Uint64
	Collapsed, Capped                       atomic.Uint64 // recipients, of a job each, for whom too much waited
}

// ErrStopped is wrapped by Run's error when the journal was sealed or lost: the
// worker must start again, with another incarnation.
var ErrStopped = errors.New("the worker's journal has ended")

// New makes a worker; Run runs it.
func New(cfg Config) (*Worker, error) {
	switch {
	case !job.ValidName(cfg.Name):
		return nil, fmt.Errorf("worker name %q: want 1 to 64 of a-z, A-Z, 0-9, - and _", cfg.Name)
	case cfg.Log == nil || cfg.Bus == nil || cfg.Index == nil || cfg.Jobs == nil || cfg.Claims == nil || cfg.Presence == nil || cfg.Content == nil:
		return nil, errors.New("a worker needs a ledger, a bus, an index, jobs, claims, presence and content")
	}
	if err := cfg.Policy.Validate(); err != nil {
		return nil, fmt.Errorf("the frequency caps: %w", err)
	}
	if cfg.Lanes <= 0 {
		cfg.Lanes = 8
	}
	if cfg.Ring == nil {
		cfg.Ring = func() tenure.Ring { return tenure.Alone{} }
	}
	if cfg.Silent == nil {
		cfg.Silent = func() bool { return false }
	}
	if cfg.Erased == nil {
		cfg.Erased = erased.Nobody{}
	}
	if cfg.Filters == nil {
		cfg.Filters = filters.New
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	w := &Worker{cfg: cfg, log: cfg.Logger.With("worker", cfg.Name), events: make(chan any, 1024), ready: make(chan struct{}), over: make(chan struct{}), stopped: make(chan struct{})}
	if cfg.DrainRate > 0 {
		w.drains = rate.NewLimiter(rate.Limit(cfg.DrainRate), cfg.DrainRate)
	}
	w.full.Store(&map[job.Incarnation]bool{})
	w.open.Store(&[]job.Incarnation{})
	w.taking = make(chan struct{}, maxTaking)
	w.reading = make(chan struct{}, runtime.GOMAXPROCS(0))
	w.slices = holds.NewSlices(holds.Config{Log: cfg.Log, Taker: w.taker, MayTake: w.mayTake, Go: w.beside.Go, Logger: w.log})
	w.holds = holds.New()
	w.blocks = block.New(block.Config{Name: cfg.Name, Job: cfg.Jobs.Get, Content: cfg.Content, Filters: cfg.Filters, Split: cfg.Presence.Split, Holds: w.holds,
		Home: cfg.Claims.Home, Want: w.wantHome, Full: w.hasNoRoom, Charges: cfg.Index.Charges, Charge: w.charge, Policy: cfg.Policy, Now: time.Now, InHand: cfg.InHand,
		Bus: cfg.Bus, Logger: w.log})
	w.arrivals = arrivals.NewIntake(cfg.Presence)
	cfg.Claims.OnClaim = w.claimed
	w.outbox = outbound.NewOutbox()
	cfg.Jobs.OnControls = func(id job.ID, c job.Controls) { w.postSoon(controlsChanged{id, c}) }
	cfg.Jobs.OnCaughtUp = func() {
		now := time.Now()
		w.sure.Store(now.UnixNano())
		w.postSoon(controlsCaughtUp{now})
	}
	return w, nil
}

// maxTaking is how many claims are asked for at a time.
const maxTaking = 64

// Ready is closed when the worker has taken over from its former incarnation and
// takes work.
func (w *Worker) Ready() <-chan struct{} { return w.ready }

// stalledAfter is how long the loop may take for what it does at a time.
const stalledAfter = 2 * time.Second

// Alive reports whether the worker's loop goes on; before it runs, it does.
func (w *Worker) Alive() bool {
	at := w.ticked.Load()
	return at == 0 || time.Now().UnixNano()-at < int64(stalledAfter)
}

// Stats gives the counters.
func (w *Worker) Stats() *Stats { return &w.stats }

// Journal is the name of this incarnation's journal; valid once Ready.
func (w *Worker) Journal() job.Journal { return w.journal }

// Run takes over, works until ctx ends, and returns nil then; any other end is an
// error. What was durable stays; what was not is as if it had never been begun. Nothing of
// the worker runs any more when it returns.
func (w *Worker) Run(ctx context.Context) error {
	defer close(w.stopped)
	g, ctx := errgroup.WithContext(ctx)
	for _, ready := range []<-chan struct{}{w.cfg.Claims.Ready(), w.cfg.Erased.Ready()} {
		select {
		case <-ready:
		case <-ctx.Done():
			return nil
		}
	}
	inherited, err := w.takeOver(ctx)
	switch {
	case ctx.Err() != nil:
		return nil
	case err != nil:
		return fmt.Errorf("taking over: %w", err)
	}
	l := newLoop(w, ctx)
	defer w.beside.Close()
	g.Go(func() error { return l.run(inherited) })
	g.Go(func() error { return w.sendHandOffs(ctx) })
	g.Go(func() error { return w.feed(ctx) })
	g.Go(func() error { return w.pulse(ctx) })
	g.Go(func() error { return w.sweep().Run(ctx) })
	g.Go(func() error { return w.listen(ctx) })
	g.Go(func() error { return w.watchGateways(ctx) })
	err = g.Wait()
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

func (w *Worker) sweep() *sweep.Sweep {
	return &sweep.Sweep{Index: w.cfg.Index, Jobs: w.cfg.Jobs, Presence: w.cfg.Presence, Holds: w.holds.Has, Info: w.infoOf, Cap: w.cfg.ParkCap,
		Erased: w.cfg.Erased.After, Post: w.post}
}

// post gives the loop an event.
func (w *Worker) post(ctx context.Context, ev any) {
	select {
	case w.events <- ev:
	case <-ctx.Done():
	}
}

// postSoon gives the loop an event from a callback that has no context. Before the
// loop runs there is nobody to tell: it reads the table when it gets a job.
func (w *Worker) postSoon(ev any) {
	select {
	case <-w.ready:
		select {
		case w.events <- ev:
		case <-w.stopped:
		}
	default:
	}
}

// tickEvery is how finely time passes for the cores: a rate is spread over 20 blocks a second.
const tickEvery = 50 * time.Millisecond

// pulse lets the cores' time pass.
func (w *Worker) pulse(ctx context.Context) error {
	t := time.NewTicker(tickEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
			w.post(ctx, tick{})
		}
	}
}

// feed passes records on to the index, in the order of the ledger.
func (w *Worker) feed(ctx context.Context) error {
	known := w.cfg.Index.Journals()
	return feed.Follow(ctx, w.cfg.Index, w.cfg.Log, func(records []ledger.Stored, changes []parked.Change) error {
		ev := applied{}
		for _, st := range records {
			if ev.seq = st.Seq; !ledger.IsJournal(st.Subject) {
				continue
			}
			if err := w.noteJournal(ctx, st, known); err != nil {
				return err
			}
		}
		for _, c := range changes {
			if !w.holds.Has(c.Range) || c.Parked.IsEmpty() {
				c.Parked.Release()
				continue
			}
			// No stranding (rule 20): the row is in the index; who is online now will
			// not log in for it.
			if online := w.cfg.Presence.Online(c.Parked); !online.IsEmpty() {
				ev.online = append(ev.online, online)
			}
			c.Parked.Release()
		}
		w.post(ctx, ev)
		return nil
	})
}

// noteJournal tells the loop about a journal that is new, or whose seal is applied now.
func (w *Worker) noteJournal(ctx context.Context, st ledger.Stored, known map[job.Journal]bool) error {
	j, _, err := ledger.NameOf(st.Data)
	switch {
	case err != nil:
		return err
	case j == w.journal && w.cfg.Index.Sealed(j): // it might append nothing for long, and not notice
		return fmt.Errorf("%w: %s: another has sealed it", ErrStopped, j)
	case j == w.journal:
		return nil
	}
	was, seen := known[j]
	now := w.cfg.Index.Sealed(j)
	known[j] = now
	if now && !was {
		w.post(ctx, tenure.Sealed{Journal: j, Open: w.cfg.Index.HasOpen(j)})
	} else if !seen {
		w.post(ctx, tenure.Seen{Journal: j})
	}
	return nil
}

func nonce() [16]byte {
	var n [16]byte
	rand.Read(n[:]) // never fails
	return n
}
