// Package authority knows which keys are in force, and how much each tenant may ask for.
//
// It keeps all of that in memory and follows the SQL store, so that no request waits for
// the store, and wrong keys cost it nothing. It guarantees that a key which is revoked is
// refused within five seconds, as long as the store answers this process; when it does
// not, what was in force stays so.
package authority

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"crier/api"
	"crier/internal/auth"
	"crier/internal/pause"
	"crier/job"
	"crier/state/sql/access"
)

const (
	lookEvery  = 2 * time.Second // between looks at the store
	lookWithin = 2 * time.Second // for one look; both together are less than five seconds
	usedEvery  = 4 * time.Second // between notes of when keys were used, which are a write each
	// A key that is not known may be new: the store is asked, but not often.
	missWithin = time.Second
	missEvery  = 200 * time.Millisecond
)

// Store has the keys and tenants.
type Store interface {
	// Since gives what changed after a number.
	Since(ctx context.Context, number uint64) (access.Changes, error)
	// Used notes when keys were used last.
	Used(ctx context.Context, at map[string]time.Time) error
}

// Admin checks the admin key of the data directory.
type Admin interface {
	// VerifyAdmin returns nil for that key.
	VerifyAdmin(key string) error
}

// Config is what an Authority works with. Admin is required.
type Config struct {
	Admin Admin
	// Store has the other keys. Nil: there are none, and nobody but the admin may do
	// anything.
	Store Store
	// Now is the clock. Default: time.Now.
	Now func() time.Time
	// Logger is told when the store does not answer. Default: slog.Default.
	Logger *slog.Logger
}

// Authority decides. It is safe for concurrent use.
type Authority struct {
	cfg    Config
	misses *rate.Limiter // looks for keys that are not known
	look   chan struct{} // holds a token while one looks
	mu     struct {
		sync.RWMutex
		through uint64    // the number of the newest change that is known
		away    bool      // the last look failed
		heard   time.Time // when the store answered last
		byHash  map[job.Digest]api.Caller
		hashes  map[string]job.Digest // of the keys in force, by their ids
		tenants map[string]*tenant
	}
	used struct {
		sync.Mutex
		at map[string]time.Time // since they were noted last
	}
}

// tenant is what is known of one.
type tenant struct {
	limits   job.Limits
	requests *rate.Limiter // nil: no limit
}

// New makes an Authority that knows only the admin, until Refresh or Run.
func New(cfg Config) *Authority {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	a := &Authority{cfg: cfg, misses: rate.NewLimiter(rate.Every(missEvery), 1), look: make(chan struct{}, 1)}
	a.mu.byHash, a.mu.hashes, a.mu.tenants = map[job.Digest]api.Caller{}, map[string]job.Digest{}, map[string]*tenant{}
	a.used.at = map[string]time.Time{}
	return a
}

// Refresh takes in what changed in the store, which a process does before it serves and
// after it made a change.
func (a *Authority) Refresh(ctx context.Context) error {
	if a.cfg.Store == nil {
		return nil
	}
	select {
	case a.look <- struct{}{}:
		defer func() { <-a.look }()
	case <-ctx.Done():
		return ctx.Err()
	}
	a.mu.RLock()
	through := a.mu.through
	a.mu.RUnlock()
	changes, err := a.cfg.Store.Since(ctx, through)
	again := err == nil && changes.Through < through // the store is an older one: what is known is not its own
	if again {
		changes, err = a.cfg.Store.Since(ctx, 0)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	was := a.mu.away
	if a.mu.away = err != nil; err != nil {
		return err
	}
	a.mu.heard = a.cfg.Now()
	if was {
		a.cfg.Logger.Info("the store of keys answers again")
	}
	if again {
		a.mu.through = 0
		clear(a.mu.byHash)
		clear(a.mu.hashes)
		clear(a.mu.tenants)
	}
	for _, k := range changes.Keys {
		a.takeLocked(k)
	}
	for _, t := range changes.Tenants {
		a.limitLocked(t)
	}
	a.mu.through = max(a.mu.through, changes.Through)
	return nil
}

func (a *Authority) takeLocked(k access.Key) {
	if !k.RevokedAt.IsZero() {
		delete(a.mu.byHash, k.Hash)
		delete(a.mu.hashes, k.ID)
		return
	}
	a.mu.byHash[k.Hash] = api.Caller{Key: k.ID, Name: k.Name, Role: k.Role, Tenant: k.Tenant, Recipient: k.Recipient}
	a.mu.hashes[k.ID] = k.Hash
}

// limitLocked takes in a tenant's limits. Who changes none keeps what was used of it.
func (a *Authority) limitLocked(t access.Tenant) {
	old := a.mu.tenants[t.Name]
	next := &tenant{limits: t.Limits}
	switch n := t.Limits.Requests; {
	case n == 0:
	case old != nil && old.limits.Requests == n:
		next.requests = old.requests
	default:
		next.requests = rate.NewLimiter(rate.Limit(n), int(n)) // a second's worth at once
	}
	a.mu.tenants[t.Name] = next
}

// Age is for how long the store has not answered: what it was told meanwhile, such as
// that a key is revoked, is not known here. Some seconds are usual.
func (a *Authority) Age() time.Duration {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.cfg.Now().Sub(a.mu.heard)
}

// Run follows the store until ctx ends.
func (a *Authority) Run(ctx context.Context) error {
	if a.cfg.Store == nil {
		<-ctx.Done()
		return nil
	}
	noted := a.cfg.Now()
	for pause.For(ctx, lookEvery) {
		a.follow(ctx)
		if now := a.cfg.Now(); now.Sub(noted) >= usedEvery {
			noted = now
			a.noteUse(ctx)
		}
	}
	return nil
}

// follow looks once. That the store is away is told once.
func (a *Authority) follow(ctx context.Context) {
	a.mu.RLock()
	was := a.mu.away
	a.mu.RUnlock()
	looking, cancel := context.WithTimeout(ctx, lookWithin)
	defer cancel()
	if err := a.Refresh(looking); err != nil && ctx.Err() == nil && !was {
		a.cfg.Logger.Warn("the store of keys does not answer; the keys that are known stay in force", "error", err)
	}
}

// noteUse tells the store when keys were used. What it does not take is told next time.
func (a *Authority) noteUse(ctx context.Context) {
	a.used.Lock()
	at := a.used.at
	a.used.at = map[string]time.Time{}
	a.used.Unlock()
	if len(at) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lookWithin)
	defer cancel()
	if a.cfg.Store.Used(ctx, at) == nil {
		return
	}
	a.used.Lock()
	defer a.used.Unlock()
	for id, t := range at {
		if a.used.at[id].Before(t) {
			a.used.at[id] = t
		}
	}
}

// errKey is all that is said of a key that is none: whether it ever was one, or whose,
// is nobody's business.
func errKey() error {
	return &job.Error{Code: job.CodeDenied, Message: "this is not a valid key"}
}

// Identify tells whose key it is; its errors are denied. A key is looked for by its
// SHA-256, of which nobody can choose a part: how long that takes tells nothing.
func (a *Authority) Identify(ctx context.Context, key string) (api.Caller, error) {
	if !auth.IsKey(key) {
		if a.cfg.Admin.VerifyAdmin(key) != nil {
			return api.Caller{}, errKey()
		}
		return api.Operator(), nil
	}
	hash := auth.HashKey(key)
	c, ok := a.known(hash)
	if !ok && a.cfg.Store != nil && a.misses.AllowN(a.cfg.Now(), 1) { // it may have been made a moment ago, elsewhere
		looking, cancel := context.WithTimeout(ctx, missWithin)
		defer cancel()
		if a.Refresh(looking) == nil {
			c, ok = a.known(hash)
		}
	}
	if !ok {
		return api.Caller{}, errKey()
	}
	a.noticed(c.Key)
	return c, nil
}

func (a *Authority) known(hash job.Digest) (api.Caller, bool) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	c, ok := a.mu.byHash[hash]
	return c, ok
}

// noticed remembers that a key is used now.
func (a *Authority) noticed(id string) {
	now := a.cfg.Now()
	a.used.Lock()
	defer a.used.Unlock()
	if a.used.at[id].Before(now) {
		a.used.at[id] = now
	}
}

// Limits are what a tenant may do; a tenant that is not known has no limit.
func (a *Authority) Limits(name string) job.Limits {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if t := a.mu.tenants[name]; t != nil {
		return t.limits
	}
	return job.Limits{}
}

// Admit takes one of the requests that the caller's tenant may make now, or is limited.
// Who runs the cluster must always get in.
func (a *Authority) Admit(c api.Caller) error {
	if c.IsOperator() {
		return nil
	}
	a.mu.RLock()
	t := a.mu.tenants[c.Tenant]
	a.mu.RUnlock()
	if t == nil || t.requests == nil {
		return nil
	}
	now := a.cfg.Now()
	r := t.requests.ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait == 0 {
		return nil
	}
	r.CancelAt(now)
	return &job.Error{Code: job.CodeLimited, After: wait,
		Message: fmt.Sprintf("the tenant %s may make %d requests a second here, and made more; try again later", c.Tenant, t.limits.Requests)}
}
