// Package scheduler moves jobs through their states: it claims them, queues them,
// has their packages verified, cuts them into slices, offers these to workers, and
// notes when they are sent and completed.
//
// It owns no truth: what it knows comes from the ledger and from the workers'
// answers, and a scheduler that starts again goes on from there. It guarantees
// that an accepted job is moved on until it is over, and that every state a job
// can wait in is named with what it waits on.
package scheduler

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"crier/internal/bus"
	"crier/internal/guard"
	"crier/internal/inhand"
	"crier/internal/work"
	"crier/job"
	"crier/state/claims"
	"crier/state/jobs"
	"crier/state/ledger"
	"crier/state/parked"
)

// Packages checks a job's recipient package and lists its ranges.
type Packages interface {
	// Check reads the whole package and compares it with its digest. A package
	// that is not what the job says is an error of code invalid, and final; any
	// other error may pass.
	Check(ctx context.Context, spec job.Spec) (ranges []job.Range, sizes []int, err error)
}

// Totals tells how far a job is; parked.Index has it.
type Totals interface {
	Total(id job.ID) (parked.Tally, error)
}

// Config is what a scheduler is made of.
type Config struct {
	Self        job.Journal // name and incarnation under which it claims jobs
	Ring        func() Ring // who else there is, now
	Silent      func() bool // what is claimed is to be given up, nothing taken; default: never
	Jobs        *jobs.Table
	Claims      *claims.Table
	Log         ledger.Log
	Bus         bus.Bus
	Packages    Packages
	Totals      Totals
	Withdrawals Withdrawals
	InHand      *inhand.Book // default: none; no package is verified again that the process dies of
	Logger      *slog.Logger // default: slog.Default()
}

// Timing of the scheduler.
const (
	round     = 100 * time.Millisecond // between looks at all live jobs
	reoffer   = 2 * time.Second        // between offers of a slice; after a refusal at most
	offerWait = 5 * time.Second
	claimWait = 2 * time.Second  // for the ledger to take a claim; other jobs wait meanwhile
	retryMost = 5 * time.Second  // between tries to move a job on that fail; the first is after a round
	recheck   = time.Second      // after a package could not be read
	atRest    = 10 * time.Second // without a change of the totals, a job that cannot be finished is over
)

// Scheduler is a scheduler.
type Scheduler struct {
	cfg  Config
	log  *slog.Logger
	wake chan struct{}  // holds one; asks for a round before the next is due
	busy sync.WaitGroup // checks and offers under way, which end with Run's context
	turn int            // of look alone: the first job at rest that the next one is about
	mu   struct {
		sync.Mutex
		plans   map[job.ID]*plan
		waiting map[job.ID]string
	}
}

// plan is what the scheduler knows of one job's slices.
type plan struct {
	// Of look alone, which runs one at a time:
	retryAt   time.Time     // not before
	retryWait time.Duration // between the last two tries, 0 if the last was good
	trouble   string        // why the last try failed

	rests    uint64       // the version of a job that was sent and waits for its recipients; 0 if it does not
	claim    ledger.Claim // this scheduler's; zero if it has none
	free     time.Time    // since when it may be claimed; zero if it may not
	checking bool
	checkAt  time.Time // not before
	failure  string
	total    parked.Tally // with a failure, as it has been
	since    time.Time    // then
	slices   []Slice      // nil until the package is checked
	offers   []offering   // of each of them
	tries    int          // offers that were not taken
	unread   string       // why the package could not be read
	verify   broken       // when it was verified
	slice    broken       // when a slice was worked out

	withdrawal withdrawing // of a job that is being recalled
}

// New makes a scheduler; Run runs it. It sets the job table's OnJob.
func New(cfg Config) *Scheduler {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Silent == nil {
		cfg.Silent = func() bool { return false }
	}
	s := &Scheduler{cfg: cfg, log: cfg.Logger.With("scheduler", cfg.Self.Worker), wake: make(chan struct{}, 1)}
	cfg.Jobs.OnJob = func(jobs.Job) { s.soon() }
	s.mu.plans = map[job.ID]*plan{}
	s.mu.waiting = map[job.ID]string{}
	return s
}

// Run moves jobs on until ctx ends; it returns nil then, and nothing that it began
// goes on: the packages may be closed.
func (s *Scheduler) Run(ctx context.Context) error {
	defer s.busy.Wait()
	sub, err := s.cfg.Bus.Subscribe(work.SentTo, func(m bus.Msg) {
		var o work.Offer
		if json.Unmarshal(m.Data, &o) == nil {
			s.note(o.Job, o.Number, job.SliceSent)
		}
	})
	if err != nil {
		return fmt.Errorf("subscribing to sent slices: %w", err)
	}
	defer sub.Unsubscribe()
	asked, err := s.cfg.Bus.Subscribe(work.WaitingTo(s.cfg.Self.Worker), s.tellWaiting)
	if err != nil {
		return fmt.Errorf("subscribing to questions: %w", err)
	}
	defer asked.Unsubscribe()
	t := time.NewTicker(round)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		case <-s.wake:
		}
		s.look(ctx)
	}
}

func (s *Scheduler) soon() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// WaitingOn says in words what a live job waits on; "" if it is not known here.
func (s *Scheduler) WaitingOn(id job.ID) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.waiting[id]
}

// tellWaiting answers what a job waits on.
func (s *Scheduler) tellWaiting(m bus.Msg) {
	var id job.ID
	if len(m.Data) != len(id) {
		return
	}
	copy(id[:], m.Data)
	if err := m.Respond([]byte(s.WaitingOn(id))); err != nil {
		s.log.Debug("telling what a job waits on", "error", err)
	}
}

// look goes over all live jobs once, in the order of the queue. A new job takes
// some appends to the ledger until it waits for its turn; so that thousands of them
// hold up neither those that are being sent nor an urgent one that comes meanwhile,
// a look spends a round on them, and leaves the rest to the next, due at once. None
// is begun while the ledger keeps what it has left for those that were.
func (s *Scheduler) look(ctx context.Context) {
	live := s.cfg.Jobs.Live()
	slices.SortFunc(live, queued)
	sending := 0
	for _, j := range live {
		if s.takesPlace(j) {
			sending++
		}
	}
	ahead, full := 0, s.cfg.Jobs.Full()
	var spent time.Duration // on new ones
	for _, j := range s.takeOver(ctx, s.mine(ctx, s.due(live))) {
		if ctx.Err() != nil {
			return
		}
		if full && j.State <= job.Queued && j.Controls.Over() == job.Parked {
			s.mu.Lock()
			s.mu.waiting[j.Spec.ID] = "space in the ledger"
			s.mu.Unlock()
			continue
		}
		if j.State < job.Queued && spent >= round {
			s.soon()
			continue
		}
		began := time.Now()
		now, had := j, s.takesPlace(j)
		if p := s.planOf(j.Spec.ID); !began.Before(p.retryAt) {
			room := j.Spec.Class == job.Realtime || sending < MaxSending
			var err error
			now, err = s.advance(ctx, j, room, ahead)
			s.noteAdvance(ctx, now, p, err)
		}
		if j.State < job.Queued {
			spent += time.Since(began)
		}
		if now.State == job.Queued {
			ahead++
		}
		if s.takesPlace(now) && !had {
			sending++
		}
	}
	s.forget(live)
}

// planOf gives what is known of a job, making it if nothing is.
func (s *Scheduler) planOf(id job.ID) *plan {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.mu.plans[id]
	if p == nil {
		p = &plan{}
		s.mu.plans[id] = p
	}
	return p
}

// noteAdvance puts the next try of a job that could not be moved on off, the longer
// the more often it failed, and says why once as long as the reason is the same.
func (s *Scheduler) noteAdvance(ctx context.Context, j jobs.Job, p *plan, err error) {
	switch {
	case ctx.Err() != nil:
		return
	case errors.Is(err, ledger.ErrHeld): // another was faster; the table will tell
		p.retryAt = time.Now().Add(2 * round)
		return
	case err == nil:
		if p.trouble != "" {
			s.log.Info("a job can be moved on again", "job", j.Spec.ID.String(), "state", j.State.String())
		}
		p.trouble, p.retryWait, p.retryAt = "", 0, time.Time{}
		return
	}
	if p.trouble != err.Error() {
		s.log.Warn("moving a job on; it is tried again", "job", j.Spec.ID.String(), "state", j.State.String(), "error", err)
		p.trouble = err.Error()
	}
	p.retryWait = min(max(2*p.retryWait, round), retryMost)
	p.retryAt = time.Now().Add(p.retryWait)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.waiting[j.Spec.ID] = "being moved on, which is tried again: " + p.trouble
}

// takesPlace reports whether a job is one of the MaxSending: not if it cannot send,
// because it is paused or its package cannot be used.
func (s *Scheduler) takesPlace(j jobs.Job) bool {
	if j.Spec.Class != job.Normal || j.State < job.Preparing || j.State > job.Preempted || j.State == job.Paused {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.mu.plans[j.Spec.ID]
	return p == nil || p.failure == ""
}

// forget drops what is known of jobs that are over.
func (s *Scheduler) forget(live []jobs.Job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	keep := map[job.ID]bool{}
	for _, j := range live {
		keep[j.Spec.ID] = true
	}
	for id := range s.mu.plans {
		if !keep[id] {
			delete(s.mu.plans, id)
			delete(s.mu.waiting, id)
		}
	}
}

// advance moves one job on as far as it can go now, and gives it as it then is.
func (s *Scheduler) advance(ctx context.Context, j jobs.Job, room bool, ahead int) (jobs.Job, error) {
	for {
		if err := s.claim(ctx, j.Spec.ID); err != nil {
			return j, err
		}
		v, err := s.see(ctx, j, room)
		if err != nil {
			return j, err
		}
		next, ok := decide(v)
		s.mu.Lock()
		s.mu.waiting[j.Spec.ID] = waitingOn(v, ahead)
		if p := s.mu.plans[j.Spec.ID]; !ok && j.State == job.Sent {
			p.rests = j.Version
		}
		s.mu.Unlock()
		if !ok {
			if v.mayWithdraw() {
				s.withdraw(ctx, j)
			} else {
				s.drive(ctx, j)
			}
			return j, nil
		}
		now, err := s.cfg.Jobs.Transition(ctx, j.Spec.ID, next.to, next.reason, time.Now())
		if err != nil {
			return j, err
		}
		if now.State == j.State { // the table forbids it: a fault of ours
			return j, fmt.Errorf("job %s cannot become %s from %s", j.Spec.ID, next.to, j.State)
		}
		s.log.Info("job", "id", j.Spec.ID.String(), "state", now.State.String(), "reason", next.reason)
		j = now
		if j.State.Terminal() {
			return j, nil
		}
	}
}

// see gathers what the decision about a job needs.
func (s *Scheduler) see(ctx context.Context, j jobs.Job, room bool) (view, error) {
	total, err := s.cfg.Totals.Total(j.Spec.ID)
	if err != nil {
		return view{}, fmt.Errorf("reading the totals of job %s: %w", j.Spec.ID, err)
	}
	if j.State >= job.Preparing && j.State != job.Quarantined {
		s.check(ctx, j)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.mu.plans[j.Spec.ID]
	v := view{job: j, total: total, room: room, prepared: p.slices != nil, failure: p.failure, broken: cmp.Or(p.verify.reason(j.Controls.Again), p.slice.reason(j.Controls.Again)),
		withdrawn: p.withdrawal.made, unmade: p.withdrawal.failed}
	if p.failure != "" {
		if p.since.IsZero() || p.total != total {
			p.total, p.since = total, time.Now()
		}
		v.settled = time.Since(p.since) >= atRest
	}
	if p.slices == nil {
		v.why = p.unread
	}
	for i, x := range p.slices {
		if x.State != job.SliceSent {
			v.unsent++
			v.why = cmp.Or(v.why, p.offers[i].refusal)
		}
	}
	return v, nil
}

// claim makes this scheduler the one that moves the job on.
func (s *Scheduler) claim(ctx context.Context, id job.ID) error {
	p := s.planOf(id)
	s.mu.Lock()
	claimed := !p.claim.Journal.IsZero()
	s.mu.Unlock()
	if claimed {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, claimWait)
	defer cancel()
	c, err := ledger.Take(ctx, s.cfg.Log, ledger.JobThing(id), ledger.Taker{Journal: s.cfg.Self, Sealed: s.dead})
	if err == nil {
		s.mu.Lock()
		p.claim = c
		s.mu.Unlock()
	}
	return err
}

// check starts to verify the job's package, beside the scheduler's rounds, unless
// that is under way or done, or was tried a moment ago.
func (s *Scheduler) check(ctx context.Context, j jobs.Job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.mu.plans[j.Spec.ID]
	if p.checking || p.slices != nil || p.failure != "" || time.Now().Before(p.checkAt) {
		return
	}
	p.checking = true
	s.busy.Go(func() {
		var ranges []job.Range
		var sizes []int
		err := guard.Run(func() (err error) {
			return s.cfg.InHand.Do(ctx, inhand.Work{Kind: inhand.Verify, Job: j.Spec.ID, Again: j.Controls.Again}, func() (err error) {
				ranges, sizes, err = s.cfg.Packages.Check(ctx, j.Spec)
				return err
			})
		})
		s.mu.Lock()
		defer s.mu.Unlock()
		p.checking = false
		switch {
		case err == nil:
			p.slices = append([]Slice{}, cut(ranges, sizes)...)
			p.offers = make([]offering, len(p.slices))
		case job.CodeOf(err) == job.CodeInvalid:
			p.failure = err.Error()
		default:
			p.checkAt = time.Now().Add(recheck)
			if b := guard.Of(err); b != nil {
				p.verify.more(j.Controls.Again, "verifying its package: "+b.What)
			}
			if ctx.Err() == nil && p.unread != err.Error() {
				s.log.Warn("verifying a package; it is tried again", "job", j.Spec.ID.String(), "error", err)
			}
			p.unread = err.Error()
			return
		}
		s.soon()
	})
}

// note keeps a slice's state.
func (s *Scheduler) note(id job.ID, number uint32, state job.SliceState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.mu.plans[id]
	if p == nil || int(number) >= len(p.slices) || p.slices[number].State == job.SliceSent {
		return
	}
	p.slices[number].State = state
	s.soon()
}

// Slices lists a job's slices as far as this scheduler knows them.
func (s *Scheduler) Slices(id job.ID) []Slice {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.mu.plans[id]; p != nil {
		return slices.Clone(p.slices)
	}
	return nil
}
