package webhook

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"crier/internal/pause"
	"crier/job"
)

const (
	slots    = 64 // requests under way at most
	perHost  = 4  // of them to one host
	leaseFor = 3 * Timeout
	lookWait = time.Second
	recordIn = 5 * time.Second
	// recordTries is how often what became of an attempt is written before it is left: the
	// delivery is repeated then, when its lease is over.
	recordTries = 5
)

// Config describes a courier. Store and Owner are required.
type Config struct {
	Store Store
	// Owner names this courier; no other, before or after it, has the name.
	Owner string
	// Guard says where requests may go.
	Guard Guard
	// Now is the clock. Default: time.Now.
	Now func() time.Time
	// Chance gives numbers from 0 to 1. Default: random ones.
	Chance func() float64
	// Transport, if set, changes how connections are made; for tests.
	Transport func(*http.Transport)
	// Logger takes warnings. Default: slog.Default().
	Logger *slog.Logger
}

// Validate names what is missing, and fills in the defaults.
func (c *Config) Validate() error {
	if c.Store == nil || c.Owner == "" {
		return fmt.Errorf("courier configuration: Store and Owner are needed")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Chance == nil {
		c.Chance = rand.Float64
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return nil
}

// Stats counts attempts by what became of them.
type Stats struct{ Delivered, Failed, Gone, GivenUp atomic.Uint64 }

// Courier sends deliveries. It has one owner, Run.
type Courier struct {
	cfg   Config
	wake  chan struct{} // one slot
	out   *sender
	stats Stats
	busy  struct {
		sync.Mutex
		n     int
		hosts map[string]int
	}
}

// New makes a courier.
func New(cfg Config) (*Courier, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	c := &Courier{cfg: cfg, wake: make(chan struct{}, 1), out: newSender(cfg.Guard, cfg.Transport)}
	c.busy.hosts = map[string]int{}
	return c, nil
}

// Stats are the counters.
func (c *Courier) Stats() *Stats { return &c.stats }

// Notify tells the courier that something may be due; it never blocks. What nobody tells it
// finds by itself within a second.
func (c *Courier) Notify() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Run sends what is due until ctx ends, and returns nil then, when nothing is under way.
func (c *Courier) Run(ctx context.Context) error {
	var under sync.WaitGroup
	defer c.out.close()
	defer under.Wait()
	failing := false
	for ctx.Err() == nil {
		tasks, err := c.take(ctx)
		if err != nil && ctx.Err() == nil && !failing {
			c.cfg.Logger.Warn("looking for webhooks that are due; it goes on when the store answers", "error", err)
		}
		failing = err != nil
		for _, t := range tasks {
			c.count(t.Host, 1)
			under.Go(func() {
				defer c.Notify()
				defer c.count(t.Host, -1)
				c.try(ctx, t)
			})
		}
		t := time.NewTimer(lookWait)
		wake := c.wake
		if failing {
			wake = nil // whoever tells must not make it spin
		}
		select {
		case <-ctx.Done():
		case <-wake:
		case <-t.C:
		}
		t.Stop()
	}
	return nil
}

func (c *Courier) count(host string, by int) {
	c.busy.Lock()
	defer c.busy.Unlock()
	c.busy.n += by
	if c.busy.hosts[host] += by; c.busy.hosts[host] == 0 {
		delete(c.busy.hosts, host)
	}
}

// take takes as much as there are slots for.
func (c *Courier) take(ctx context.Context) ([]Task, error) {
	l := Lease{Owner: c.cfg.Owner, For: leaseFor, PerHost: perHost, Busy: map[string]int{}}
	c.busy.Lock()
	l.Limit = slots - c.busy.n
	for host, n := range c.busy.hosts {
		l.Busy[host] = n
	}
	c.busy.Unlock()
	if l.Limit <= 0 {
		return nil, nil
	}
	return c.cfg.Store.Take(ctx, l)
}

// try makes an attempt and records what became of it. If the process dies in between, the
// attempt is repeated by the same id; so it is if the record cannot be written.
func (c *Courier) try(ctx context.Context, t Task) {
	secrets, err := c.cfg.Store.Secrets(ctx, t.Tenant)
	if err != nil {
		c.cfg.Logger.Warn("reading a webhook secret; the delivery is tried again", "tenant", t.Tenant, "error", err)
		return // its lease ends
	}
	a := c.out.send(ctx, t, secrets, c.cfg.Now())
	if ctx.Err() != nil && a.Status == 0 {
		return // it was cut off, and says nothing of the receiver
	}
	v := Decide(t.Attempts, t.First, a, c.cfg.Now(), c.cfg.Chance())
	// Who is being stopped records what was answered.
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordIn)
	defer cancel()
	for i := range recordTries {
		if err = c.cfg.Store.Record(within, c.cfg.Owner, t, v); err == nil {
			break
		}
		if ctx.Err() != nil || !pause.For(within, time.Duration(i+1)*100*time.Millisecond) {
			break
		}
	}
	if err != nil {
		c.cfg.Logger.Warn("recording what became of a webhook; it may be sent again", "event", t.Event.ID(), "error", err)
		return
	}
	c.note(t, v)
}

// note counts, and says what an operator may want to know. A URL may have a secret in it,
// so that only its host is told.
func (c *Courier) note(t Task, v Verdict) {
	switch v.Outcome {
	case job.DeliveryDelivered:
		c.stats.Delivered.Add(1)
	case job.DeliveryGone:
		c.stats.Gone.Add(1)
		c.cfg.Logger.Warn("a webhook wants nothing more of a job", "event", t.Event.ID(), "tenant", t.Tenant, "host", t.Host)
	case job.DeliveryGivenUp:
		c.stats.GivenUp.Add(1)
		c.cfg.Logger.Warn("a webhook is given up", "event", t.Event.ID(), "tenant", t.Tenant, "host", t.Host, "attempts", t.Attempts+1, "error", v.Error)
	default:
		c.stats.Failed.Add(1)
		c.cfg.Logger.Debug("a webhook failed and is tried again", "event", t.Event.ID(), "tenant", t.Tenant, "host", t.Host, "due", v.Due, "error", v.Error)
	}
}
