// Package app wires a Crier process: it opens the stores under one data
// directory, starts the roles that were asked for, and ends them in the reverse
// order.
//
// It guarantees that one process at a time works on a data directory, that what a
// former process left open is taken over before anything new is begun, and that
// stopping is bounded.
package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"crier/api/server"
	"crier/filters"
	"crier/internal/app/datadir"
	"crier/internal/app/index"
	"crier/internal/app/leases"
	"crier/internal/app/member"
	"crier/internal/app/space"
	"crier/internal/authority"
	"crier/internal/bus/natsbus"
	"crier/internal/pause"
	"crier/job"
	"crier/state/ledger"
	"crier/state/parked"
	"crier/worker"
	"crier/worker/block"
)

// Roles are the parts that a process can play.
var Roles = []string{"api", "scheduler", "worker", "gateway", "relay"}

// Config says how a process runs.
type Config struct {
	Data      string         // data directory, made if need be
	Name      string         // of this member; default: a random one, kept in the data directory
	Blobs     string         // directory of blobs, which all processes of a cluster share; default: in Data
	Keys      string         // directory of keys, likewise; default: Data
	Cluster   Cluster        // the other processes; its zero value: there are none
	Listen    string         // host:port of API and gateway; port 0 takes a free one
	Gateway   string         // URL at which clients reach the gateway; default by Listen, if that names a host and a port
	Roles     []string       // of Roles; all by default
	ReadyFile string         // if set, written when ready
	NATS      string         // host:port on which the embedded NATS server also listens; default none
	SQL       string         // DSN of a MySQL database; default an SQLite file under Data
	LedgerMax int64          // bytes of the ledger; default half of what the disk has free, at most 64 GiB
	FoldEvery uint64         // bytes by which the ledger grows between foldings; 0 is fold.Config's default
	Disk      space.Limits   // from how much of a disk on it is told of
	Lanes     int            // blocks a worker has under way; default 8
	Policy    block.Policy   // of the frequency caps
	ParkCap   int            // messages that wait for a recipient; 0 is any number
	Webhooks  []netip.Prefix // networks besides the public internet that webhooks may be in
	DrainRate int            // recipients a second whose parked messages are handed over; 0 is unlimited
	// Filters makes the chain through which recipients go; default filters.New.
	Filters   func(filters.Lists) filters.Chain
	Version   string       // of this binary
	Messaging Messaging    // default a server embedded in this process
	Logger    *slog.Logger // default slog.Default()
	Edge      Edge         // for tests
	// Announce is told, once, when the process is ready.
	Announce func(Ready)
}

// Ready is what a process tells when it is ready; it is the content of ReadyFile.
type Ready struct {
	Listen  string `json:"listen"`            // URL of what every process answers: health, metrics
	API     string `json:"api,omitempty"`     // URL, if it serves the API
	Gateway string `json:"gateway,omitempty"` // URL to which clients connect, if it is a gateway
	Token   string `json:"token"`             // admin key
	PID     int    `json:"pid"`
	Worker  string `json:"worker,omitempty"` // its name on the bus
	NATS    string `json:"nats,omitempty"`
	NATSKey string `json:"nats_token,omitempty"`
}

// stopWithin bounds stopping.
const stopWithin = 8 * time.Second

// Validate fills in defaults and names the field that is wrong.
func (c *Config) Validate() error {
	if c.Data == "" {
		return job.Invalid("data", "a data directory is needed", nil)
	}
	if c.Listen == "" {
		c.Listen = "127.0.0.1:7420"
	}
	if len(c.Roles) == 0 {
		c.Roles = Roles
	}
	for _, r := range c.Roles {
		if !slices.Contains(Roles, r) {
			return job.Invalid("roles", fmt.Sprintf("role %q: want some of %v", r, Roles), nil)
		}
	}
	if c.Name != "" && !job.ValidName(c.Name) {
		return job.Invalid("name", fmt.Sprintf("name %q: want 1 to 64 of a-z, A-Z, 0-9, - and _", c.Name), nil)
	}
	if c.Blobs == "" {
		c.Blobs = filepath.Join(c.Data, "blobs")
	}
	if c.Keys == "" {
		c.Keys = c.Data
	}
	if c.LedgerMax < 0 {
		return job.Invalid("ledger_max", "the ledger's limit is negative", nil)
	}
	if err := c.Disk.Validate(); err != nil {
		return err
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return nil
}

// disk is whose space is watched.
func (c *Config) disk() space.Config {
	return space.Config{Data: c.Data, Address: c.Listen, Log: c.Logger, Limits: c.Disk,
		Dirs: []space.Dir{{Name: "data", Path: c.Data}, {Name: "ledger", Path: filepath.Join(c.Data, "nats")}, {Name: "parked", Path: filepath.Join(c.Data, "parked")}, {Name: "accepted", Path: filepath.Join(c.Data, "accepted")}, {Name: "blobs", Path: c.Blobs}}}
}

// has reports whether the process plays one of these roles.
func (c *Config) has(roles ...string) bool {
	return slices.ContainsFunc(roles, func(r string) bool { return slices.Contains(c.Roles, r) })
}

// closer is a tear-down, by name.
type closer struct {
	name string
	fn   func() error
}

// app is a process under construction or at work.
type app struct {
	cfg     Config
	log     *slog.Logger
	node    *datadir.Node
	started time.Time
	space   *space.Space
	refused *ledger.Refusals
	closers []closer
	health  health
	up      bool // the parts were ready, and run or have run
	parts
}

// onClose registers a tear-down; they run in the reverse order.
func (a *app) onClose(name string, fn func() error) {
	a.closers = append(a.closers, closer{name, fn})
}

func (a *app) close() {
	for _, c := range slices.Backward(a.closers) {
		if err := c.fn(); err != nil {
			a.log.Error("closing", "what", c.name, "error", err)
		}
	}
}

// Run runs a process until ctx ends, and returns nil then; or until a part of it
// cannot go on. What it accepted is then taken over by the next process on the
// same data directory. One whose parked index shows that it is damaged begins again
// without it. A process whose disk is full stops all its parts, for the
// stores cannot be relied on any more, answers that it is full, and takes over from
// itself when there is space again. So does one that finds, after it was ready, that a NATS
// server acknowledges what its disk may not have: not even what is done can be recorded then.
func Run(ctx context.Context, cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	lock, err := datadir.Lock(cfg.Data)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := unready(cfg.ReadyFile); err != nil {
		return err
	}
	s := space.New(cfg.disk())
	defer s.Close()
	if err := s.Probe(); err != nil {
		return err
	}
	return runWith(ctx, cfg, s)
}

// takenFrom reports whether parts ended because others took this process for dead: its
// journal is sealed, its gateway is over, or, in a cluster, what its index lacks is purged.
func (c *Config) takenFrom(err error) bool {
	return errors.Is(err, worker.ErrStopped) || errors.Is(err, member.ErrRejoin) || errors.Is(err, leases.ErrOver) || c.Cluster.isOn() && errors.Is(err, parked.ErrLedger)
}

// runWith runs the parts, again and again as long as only the disk, a damaged index, NATS servers, or others, end them,
// or what they need to begin again does not answer: what keeps a process from its first
// beginning may be its configuration, and ends it.
func runWith(ctx context.Context, cfg Config, s *space.Space) (err error) {
	started, refused, wasUp := time.Now().UTC(), new(ledger.Refusals), false
	for {
		if err := s.Wait(ctx, err); err != nil || ctx.Err() != nil {
			return err
		}
		a := &app{cfg: cfg, log: cfg.Logger, started: started, space: s, refused: refused}
		err = a.live(ctx)
		if ctx.Err() != nil && cfg.takenFrom(err) {
			return nil // it was asked to stop, and others have gone on with its work
		}
		wasUp = wasUp || a.up
		unsynced := wasUp && errors.Is(err, natsbus.ErrUnsynced)
		damaged := index.IsDamaged(err) // the index, which is aside now
		if ctx.Err() != nil || !s.RanOut(err) && !unsynced && !damaged && !cfg.takenFrom(err) && (!wasUp || a.up) {
			return err
		}
		if !s.RanOut(err) {
			switch {
			case unsynced:
				if err := s.Hold(ctx, s.Why(err), cfg.synced); err != nil {
					return err
				}
			case damaged:
				a.log.Warn("this process begins again, and builds its parked index from the ledger", "why", err)
				pause.For(ctx, time.Second)
			case cfg.takenFrom(err):
				a.log.Warn("others took over what this process held; it begins again with nothing", "why", err)
				pause.For(ctx, time.Second)
			default:
				a.log.Warn("this process cannot begin again yet; it goes on trying", "why", err)
				pause.For(ctx, time.Second)
			}
			err = nil // the disk is not why
		}
		cfg.Announce = nil // it was told
	}
}

// live takes the data directory over and runs the parts. A parked index that showed that it is
// damaged is moved aside behind them.
func (a *app) live(ctx context.Context) (err error) {
	defer func() { a.close(); err = a.files.After(err) }()
	if a.node, err = datadir.Take(a.cfg.Data, a.cfg.Name); err != nil {
		return err
	}
	if err := a.open(ctx); err != nil {
		return fmt.Errorf("starting: %w", err)
	}
	return a.run(ctx)
}

// run starts the roles and waits, until it is asked to stop or a part ends.
func (a *app) run(asked context.Context) error {
	ctx, stop := context.WithCancel(context.WithoutCancel(asked))
	defer stop()
	defer context.AfterFunc(asked, func() { a.leave(ctx); stop() })()
	g, gctx := errgroup.WithContext(ctx)
	part := func(name string, run func(context.Context) error) {
		g.Go(func() error {
			if err := run(gctx); err != nil && gctx.Err() == nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
	a.follow(part)
	if err := a.waitReady(gctx); err != nil {
		if gctx.Err() == nil {
			a.leave(ctx) // it is registered, though nobody took it
		}
		stop()
		if ended := g.Wait(); ended != nil {
			return ended
		}
		return err
	}
	if a.scheduler != nil {
		part("scheduler", a.scheduler.Run)
	}
	if a.gateway != nil {
		part("gateway", a.gateway.Run)
	}
	a.leases(part)
	if a.relay != nil {
		part("relay", a.relay.Run)
		part("webhooks", a.courier.Run)
	}
	if err := a.serve(g, gctx); err != nil && gctx.Err() == nil { // else a part says why
		stop()
		return errors.Join(err, g.Wait())
	}
	return g.Wait()
}

// follow starts what must know all that was before, and what needs nobody to be ready.
func (a *app) follow(part func(string, func(context.Context) error)) {
	duties := a.duties()
	part("disk", a.space.Watch)
	part("disk alarms", a.space.Alarms.Run)
	part("streams", a.watchStreams)
	part("job table", a.jobs.Run)
	part("claims", a.claims.Run)
	part("erasures", a.erased.Run)
	if a.member != nil {
		part("membership", a.member.Run)
	}
	if a.recorder != nil {
		part("slices", a.slices.Run)
		part("recorder", duties.Duty("recorder", a.recorder.Run))
		part("audit", duties.Duty("audit", a.trail.Run))
		part("mirror", duties.Duty("mirror", a.mirror.Run))
		part("sweep", duties.Duty("sweep", a.sweep().Run))
	}
	switch {
	case a.worker != nil:
		part("worker", a.worker.Run)
		part("folder", duties.Duty("folder", a.folder.Run))
	case a.index != nil:
		part("index", a.feedIndex)
	}
	if a.members != nil {
		part("suppression", a.hearOfSuppression)
	}
	if a.service != nil {
		part("stays", a.watchStays)
	}
	part("claims kept", a.pruneClaims)
	part("keys", a.authority.Run)
	part("operator", a.operator.Run)
}

// waitReady waits for the take-over from the former process.
func (a *app) waitReady(ctx context.Context) error {
	for _, c := range []<-chan struct{}{a.jobs.Ready(), a.claims.Ready(), a.erased.Ready(), a.able()} {
		select {
		case <-c:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return a.waitMember(ctx)
}

// serve listens and tells the world, as soon as the gateway may be told of.
func (a *app) serve(g *errgroup.Group, ctx context.Context) error {
	if err := a.waitGateway(ctx); err != nil {
		return err
	}
	l, err := a.space.Listen()
	if err != nil {
		return err
	}
	scfg := server.Config{Keys: a.authority, Metrics: a.metrics(), Version: a.cfg.Version, Log: a.log, Ready: a.ready}
	if a.service != nil {
		scfg.Service, scfg.Trail = a.service, &authority.Trail{Store: a.store.Access, Logger: a.log}
	} else {
		scfg.Refuse = func() error {
			return job.Unavailable("this process does not serve the API; it is " + strings.Join(a.cfg.Roles, ", "))
		}
	}
	if a.gateway != nil {
		scfg.Connect = a.gateway
	}
	h, err := server.New(scfg)
	if err != nil {
		l.Close()
		return err
	}
	requests, cut := context.WithCancel(context.WithoutCancel(ctx))
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 5 * time.Minute, ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return requests }}
	srv.RegisterOnShutdown(h.EndStreams)
	g.Go(func() error {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serving: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		defer cut()
		if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
			cut() // a part failed: what waits for it waits in vain
			if why := a.space.Why(cause); why != nil {
				if err := a.space.Refuse(why); err != nil {
					return err
				}
			}
		}
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
		defer cancel()
		if err := srv.Shutdown(stop); err != nil {
			return srv.Close()
		}
		return nil
	})
	a.health.note(true, time.Now().UTC())
	a.up = true
	return a.announce(l.Addr().String())
}

// ready says why the process cannot take requests; it listens only when it can.
func (a *app) ready() error {
	if st := a.status(context.Background()); !st.Healthy {
		return fmt.Errorf("not healthy since %s: %s", st.Since.Format(time.RFC3339), strings.Join(st.Problems, "; "))
	}
	return nil
}

// unready removes the ready file of a former process, which says where nobody
// listens any more.
func unready(file string) error {
	if file == "" {
		return nil
	}
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return job.Invalid("ready_file", "ready_file: removing the old one; give a file that this process may write", err)
	}
	if _, err := os.Stat(filepath.Dir(file)); err != nil {
		return job.Invalid("ready_file", "ready_file: give a file in a directory that is there", err)
	}
	return nil
}

func (a *app) announce(addr string) error {
	token, err := a.keys.AdminKey()
	if err != nil {
		return err
	}
	r := Ready{Listen: "http://" + addr, Token: token, PID: os.Getpid()}
	if a.service != nil {
		r.API = r.Listen
	}
	if a.gateway != nil {
		r.Gateway = "ws://" + addr + "/v1/connect"
	}
	r.NATS, r.NATSKey = a.natsReady()
	if a.worker != nil {
		r.Worker = a.node.Worker()
	}
	if a.cfg.ReadyFile != "" {
		b, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("encoding the ready file: %w", err)
		}
		path, err := filepath.Abs(a.cfg.ReadyFile)
		if err != nil {
			return fmt.Errorf("finding the ready file: %w", err)
		}
		if err := datadir.WriteWhole(path, append(b, '\n'), 0o600); err != nil {
			return fmt.Errorf("writing the ready file: %w", err)
		}
	}
	if a.cfg.Announce != nil {
		a.cfg.Announce(r)
	}
	return nil
}
