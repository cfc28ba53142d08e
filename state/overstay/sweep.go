package overstay

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"crier/internal/pause"
	"crier/job"
	"crier/state/ledger"
)

// Publisher is where alerts go: the stream of events. They do not go by way of SQL, so
// that they come also when that is what does not answer.
type Publisher interface {
	// Publish stores an event; an alert that is stored already is stored once.
	Publish(ctx context.Context, e job.Event) error
}

// Config is what a sweep is made of.
type Config struct {
	Watch *Watch
	// Ready is closed when the table of jobs has read all there is: before, it has jobs in states
	// that they left long ago. Nil: it has.
	Ready     <-chan struct{}
	WaitingOn func(job.ID) string // in words, as whoever moves the job on says
	Events    Publisher
	Claims    Claims
	// Take takes a job in a version from who holds it, by ledger.TakeAway.
	Take   func(ctx context.Context, c ledger.Claim, version uint64, at time.Time) error
	Logger *slog.Logger // default slog.Default()
}

// every is the pause between two looks at all live jobs.
const every = 5 * time.Second

// Sweep tells of what is late, and takes it from its owner. One at a time is enough; two
// do no harm. What it did stands in the stream of events and in the ledger, so that one
// that begins anew goes on.
type Sweep struct {
	cfg  Config
	told map[job.ID]uint64 // the version that was alerted to
}

// NewSweep makes a sweep; it is used by one goroutine.
func NewSweep(cfg Config) *Sweep {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	return &Sweep{cfg: cfg, told: map[job.ID]uint64{}}
}

// Run sweeps until ctx ends, and returns nil then.
func (s *Sweep) Run(ctx context.Context) error {
	if s.cfg.Ready != nil {
		select {
		case <-s.cfg.Ready:
		case <-ctx.Done():
			return nil
		}
	}
	for ok := true; ok; ok = pause.For(ctx, every) {
		s.Once(ctx)
	}
	return nil
}

// Once looks at all live jobs. What fails is tried again at the next look.
func (s *Sweep) Once(ctx context.Context) {
	late, err := s.cfg.Watch.Late()
	if err != nil {
		s.cfg.Logger.Warn("looking for jobs that overstay their state; it is tried again", "error", err)
	}
	now, told := s.cfg.Watch.now(), map[job.ID]uint64{}
	for _, x := range late {
		if ctx.Err() != nil {
			return
		}
		id, holder := x.Job.Spec.ID, s.cfg.Claims.Of(ledger.JobThing(x.Job.Spec.ID))
		if s.told[id] != x.Job.Version {
			err := s.tell(ctx, x)
			if err != nil && ctx.Err() == nil {
				s.cfg.Logger.Warn("alerting to a job that overstays its state; it is tried again", "job", id.String(), "error", err)
			}
			if err == nil {
				told[id] = x.Job.Version
			}
		} else {
			told[id] = x.Job.Version
		}
		if mayTake(x, holder, now) {
			s.take(ctx, x, holder, now)
		}
	}
	s.told = told
}

// mayTake decides whether a late job is taken from who holds it: it had the job for a
// whole deadline, in this state, and this was not tried too often.
func mayTake(x Stay, holder ledger.Claim, now time.Time) bool {
	rule := x.Job.State.Rule()
	return rule.Take && x.Late(now) && !holder.Journal.IsZero() && triesOf(holder, x.Job.Version) < job.MaxTries &&
		now.Sub(holder.At) >= rule.Deadline
}

func (s *Sweep) take(ctx context.Context, x Stay, holder ledger.Claim, now time.Time) {
	log := s.cfg.Logger.With("job", x.Job.Spec.ID.String(), "state", x.Job.State.String(), "from", holder.Journal.String())
	if err := s.cfg.Take(ctx, holder, x.Job.Version, now); err != nil {
		if ctx.Err() == nil {
			log.Warn("taking a late job from who holds it; it is tried again", "error", err)
		}
		return
	}
	log.Warn("a late job is taken from who holds it: whoever takes it next begins anew", "try", x.Tries+1)
}

// tell alerts to a late job.
func (s *Sweep) tell(ctx context.Context, x Stay) error {
	j := x.Job
	on := s.cfg.WaitingOn(j.Spec.ID)
	err := s.cfg.Events.Publish(ctx, job.Event{Job: j.Spec.ID, Version: j.Version, State: j.State.String(), At: x.Due.UTC(), Alert: job.Overstayed,
		Reason: fmt.Sprintf("%s since %s; it waits on %s", j.State, j.Since.UTC().Format(time.RFC3339), on)})
	if err == nil {
		s.cfg.Logger.Warn("a job overstays its state", "job", j.Spec.ID.String(), "state", j.State.String(), "since", j.Since, "due", x.Due, "waiting_on", on)
	}
	return err
}
