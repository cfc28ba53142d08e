// Package leases is the shell around presence/lease: it keeps the lease of this process's
// gateway in the coordination store and its licence by the ledger, and watches the leases
// of others (rule 24).
package leases

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"crier/internal/pause"
	"crier/job"
	"crier/presence/lease"
	"crier/state/coord"
	"crier/state/ledger"
)

// root is the key under which each gateway has its lease.
const root = "gateways"

// retry is how long after an error the store or the ledger is asked again.
const retry = time.Second

// ErrOver is wrapped by Gateway.Run when others called this process's gateway over: it
// must begin again with another incarnation.
var ErrOver = errors.New("the ledger says that this gateway is over")

// Entry is a gateway's entry in the coordination store.
type Entry struct {
	Start  uint32 `json:"start"`
	URL    string `json:"url,omitempty"`
	Member string `json:"member"`
}

// Gateway is this process's gateway among others (rule 24): it says in the
// coordination store that it is there, and asks the ledger whether others called it over.
type Gateway struct {
	Incarnation job.Incarnation
	URL         string // where clients connect; may be empty
	Member      string // of which it is a part
	Store       coord.Store
	Log         ledger.Log
	Logger      *slog.Logger
	Began       time.Time // when it was made; the licence is by the clock since then
	mu          struct {
		sync.Mutex
		licence lease.Licence
	}
}

// May reports whether the gateway may take hand-offs now.
func (g *Gateway) May() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.mu.licence.May(time.Since(g.Began))
}

// Run keeps the lease and the licence until ctx ends, or the gateway is over.
func (g *Gateway) Run(ctx context.Context) error {
	var keeping sync.WaitGroup
	ctx, stop := context.WithCancel(ctx)
	defer keeping.Wait()
	defer stop()
	keeping.Go(func() {
		for {
			err := g.keep(ctx)
			if ctx.Err() != nil {
				return
			}
			g.Logger.Warn("coordination store: renewing the gateway's lease; it is tried again", "gateway", g.Incarnation.String(), "error", err)
			if !pause.For(ctx, retry) {
				return
			}
		}
	})
	for {
		if err := g.ask(ctx); err != nil {
			return err
		}
		if !pause.For(ctx, lease.Ask) {
			return nil
		}
	}
}

// ask asks the ledger. Without an answer hand-offs are taken until the licence ends.
func (g *Gateway) ask(ctx context.Context) error {
	try, cancel := context.WithTimeout(ctx, lease.Term)
	defer cancel()
	sent := time.Since(g.Began)
	c, err := ledger.LastClaim(try, g.Log, ledger.GatewayThing(g.Incarnation))
	switch {
	case err != nil && ctx.Err() == nil:
		g.Logger.Warn("asking the ledger whether this gateway is over; it is tried again", "error", err)
	case err != nil:
	case c.Epoch > 0:
		return fmt.Errorf("%w: %s, so says %s", ErrOver, g.Incarnation, c.Journal)
	default:
		g.mu.Lock()
		g.mu.licence.Confirmed(sent)
		g.mu.Unlock()
	}
	return nil
}

// keep renews the lease until that does not work.
func (g *Gateway) keep(ctx context.Context) error {
	key := root + "/" + g.Incarnation.Gateway
	value, err := json.Marshal(Entry{g.Incarnation.Start, g.URL, g.Member})
	if err != nil {
		return fmt.Errorf("encoding the gateway: %w", err)
	}
	var version coord.Version
	e, err := g.Store.Get(ctx, key)
	switch {
	case err == nil: // of a former start, or of this one before an error
		version = e.Version
	case !errors.Is(err, coord.ErrNotFound):
		return err
	}
	var last Entry
	if err == nil && json.Unmarshal(e.Value, &last) == nil && last.Start > g.Incarnation.Start {
		return fmt.Errorf("a later start, %d, has the lease of %s", last.Start, key)
	}
	for {
		if version, err = g.Store.Lease(ctx, key, value, version, lease.TTL); err != nil {
			return err
		}
		if !pause.For(ctx, lease.Renew) {
			return ctx.Err()
		}
	}
}

// Watch looks for gateways that are over: of those at which this process's worker
// has something open.
type Watch struct {
	Store coord.Store
	// Silent lists the incarnations that may be over: something is open there, and they
	// are not heard.
	Silent func() []job.Incarnation
	// End says of one that it is over. It is called again as long as it is silent.
	End    func(context.Context, job.Incarnation) error
	Logger *slog.Logger
	mu     struct {
		sync.Mutex
		watch *lease.Watch
	}
}

// endWait bounds one try to say that a gateway is over.
const endWait = 5 * time.Second

// Run looks until ctx ends. Whoever calls a gateway over by mistake makes it begin again,
// and no more.
func (g *Watch) Run(ctx context.Context) error {
	var watching sync.WaitGroup
	defer watching.Wait()
	g.with(func() { g.mu.watch = lease.NewWatch() })
	watching.Go(func() {
		for {
			err := g.follow(ctx)
			if ctx.Err() != nil {
				return
			}
			g.Logger.Warn("coordination store: watching the gateways; it is tried again", "error", err)
			if !pause.For(ctx, retry) {
				return
			}
		}
	})
	for pause.For(ctx, lease.Ask/2) {
		var over []job.Incarnation
		silent := g.Silent()
		g.with(func() { over = g.mu.watch.Look(time.Now(), silent) })
		for _, inc := range over {
			try, cancel := context.WithTimeout(ctx, endWait)
			err := g.End(try, inc)
			cancel()
			if err != nil && ctx.Err() == nil {
				g.Logger.Warn("saying that a gateway is over; it is tried again", "gateway", inc.String(), "error", err)
			}
		}
	}
	return nil
}

func (g *Watch) with(fn func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	fn()
}

// follow notes what the store has. Each time it begins anew, since what went away
// meanwhile is not told.
func (g *Watch) follow(ctx context.Context) error {
	g.with(func() { g.mu.watch = lease.NewWatch() })
	return g.Store.Watch(ctx, root, func(c coord.Change) error {
		name := strings.TrimPrefix(c.Key, root+"/")
		var e Entry
		if !c.Gone {
			if err := json.Unmarshal(c.Value, &e); err != nil {
				return fmt.Errorf("decoding %s: %w", c.Key, err)
			}
		}
		g.with(func() {
			if c.Gone {
				g.mu.watch.Lapsed(name)
			} else {
				g.mu.watch.Held(job.Incarnation{Gateway: name, Start: e.Start})
			}
		})
		return nil
	}, func() { g.with(func() { g.mu.watch.Answered(time.Now()) }) })
}
