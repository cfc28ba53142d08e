package holds

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"crier/job"
	"crier/state/ledger"
)

// Config is what Slices is made of.
type Config struct {
	Log     ledger.Log
	Taker   func() ledger.Taker // by whom they are claimed
	MayTake func() error        // why nothing new may be claimed now; nil: it may
	Go      func(func())        // runs what goes on beside; it may be too late for that
	Logger  *slog.Logger
}

// Slices remembers which slices a worker's journal has claimed. A slice that is being
// given up is not taken again before its release is in the ledger. It is safe for
// concurrent use.
type Slices struct {
	cfg Config
	mu  struct {
		sync.Mutex
		held map[ledger.Thing]*claimed
	}
}

type claimed struct {
	sync.Mutex
	epoch  atomic.Uint64 // of its claim; 0 if it is not claimed
	giving atomic.Bool   // nothing more is reserved of it here
	claim  ledger.Claim
}

// giveAgain is the pause between tries to release a slice.
const giveAgain = 5 * time.Second

// NewSlices makes an empty one.
func NewSlices(cfg Config) *Slices {
	s := &Slices{cfg: cfg}
	s.mu.held = map[ledger.Thing]*claimed{}
	return s
}

func (s *Slices) of(thing ledger.Thing, add bool) *claimed {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.mu.held[thing]
	if c == nil && add {
		c = &claimed{}
		s.mu.held[thing] = c
	}
	return c
}

// Has reports whether a slice is claimed, still by the claim with that epoch, and not
// being given up.
func (s *Slices) Has(thing ledger.Thing, epoch uint64) bool {
	c := s.of(thing, false)
	return c != nil && epoch > 0 && c.epoch.Load() == epoch && !c.giving.Load()
}

// Claim makes the journal the sender of a slice (rule 4) and gives the claim's epoch. It
// is idempotent.
func (s *Slices) Claim(ctx context.Context, thing ledger.Thing) (epoch uint64, err error) {
	c := s.of(thing, true)
	if !c.TryLock() { // the ledger is slow, and offers are repeated
		return 0, errors.New("it is being claimed")
	}
	defer c.Unlock()
	if c.giving.Load() {
		return 0, errors.New("this worker is giving it up")
	}
	if epoch := c.epoch.Load(); epoch > 0 {
		return epoch, nil
	}
	if err := s.cfg.MayTake(); err != nil {
		return 0, err
	}
	claim, err := ledger.Take(ctx, s.cfg.Log, thing, s.cfg.Taker())
	if err != nil {
		return 0, err
	}
	c.claim = claim
	c.epoch.Store(claim.Epoch)
	return claim.Epoch, nil
}

// Give begins to release a slice of which nothing is under way any more, and of which
// everything was appended at or before a sequence; it tries until that works or ctx ends.
// From now on the slice is not had.
func (s *Slices) Give(ctx context.Context, thing ledger.Thing, after uint64) {
	c := s.of(thing, false)
	if c == nil || !c.giving.CompareAndSwap(false, true) {
		return // its job is over, or it is being given
	}
	s.cfg.Go(func() {
		t := time.NewTicker(giveAgain)
		defer t.Stop()
		for {
			err := ledger.Give(ctx, s.cfg.Log, c.claim, after)
			if err == nil {
				break
			}
			s.cfg.Logger.Warn("releasing a slice; it is tried again", "slice", thing.ID, "error", err)
			select {
			case <-t.C:
			case <-ctx.Done():
				return
			}
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.mu.held, thing)
	})
}

// Held lists the slices that are claimed and not being given up, in no order.
func (s *Slices) Held() []ledger.Thing {
	s.mu.Lock()
	defer s.mu.Unlock()
	var held []ledger.Thing
	for thing, c := range s.mu.held {
		if c.epoch.Load() > 0 && !c.giving.Load() {
			held = append(held, thing)
		}
	}
	return held
}

// Forget drops the claims on slices of jobs that are not live.
func (s *Slices) Forget(live func(job.ID) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for thing := range s.mu.held {
		if id, _, ok := ledger.SliceOf(thing); ok && !live(id) {
			delete(s.mu.held, thing)
		}
	}
}
