package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Config says which cluster to start.
type Config struct {
	Dir string // of the cluster; made if need be
	// Deploy is the directory of the configuration files and of topology.yaml. Default: that
	// which the cluster had the last time; of a new one DefaultDeploy.
	Deploy string
	Binary string // crier
	// Topology stands for topology.yaml, unless it is zero.
	Topology Topology
	// Profile stands for the topology's, unless it is "". Default: that which the cluster was
	// made with, if Deploy is not given.
	Profile string
}

// DefaultDeploy is where the configuration is in the repository.
const DefaultDeploy = "deploy/cluster"

// Up starts what is not there of the cluster in a directory, and waits until it can be
// used; what is paused stays so. A new cluster is made from the configuration files; one
// that was made keeps its processes and ports. It gives the names of what it started: none
// if all was there.
func Up(ctx context.Context, cfg Config) (*Cluster, []string, error) {
	c, err := at(cfg.Dir)
	if err != nil {
		return nil, nil, err
	}
	if cfg, err = c.remembered(cfg); err != nil {
		return nil, nil, err
	}
	if cfg, err = cfg.complete(); err != nil { // before anything is made
		return nil, nil, err
	}
	if err := os.MkdirAll(c.path(lockDir), 0o700); err != nil {
		return nil, nil, fmt.Errorf("making the cluster's directory: %w", err)
	}
	unlock, err := c.lock(lockWhole)
	if err != nil {
		return nil, nil, err
	}
	defer unlock()
	if err := c.prepare(ctx, cfg); err != nil {
		return nil, nil, err
	}
	started, err := c.start(ctx)
	if err != nil {
		err = fmt.Errorf("%w\ncrier cluster up goes on with what is missing; crier cluster down ends the rest", err)
	}
	return c, started, err
}

// remembered takes what is not given from the cluster as it was made.
func (c *Cluster) remembered(cfg Config) (Config, error) {
	if cfg.Deploy != "" {
		return cfg, nil
	}
	s, err := c.State()
	switch {
	case errors.Is(err, ErrNone):
		cfg.Deploy = DefaultDeploy
	case err != nil:
		return cfg, err
	default:
		cfg.Deploy, cfg.Profile = s.Deploy, cmp.Or(cfg.Profile, s.Topology.Profile)
	}
	return cfg, nil
}

// complete reads what is not given, and makes the paths absolute.
func (cfg Config) complete() (Config, error) {
	var err error
	if cfg.Deploy, err = filepath.Abs(cfg.Deploy); err != nil {
		return cfg, fmt.Errorf("finding the configuration: %w", err)
	}
	if cfg.Binary, err = filepath.Abs(cfg.Binary); err != nil {
		return cfg, fmt.Errorf("finding crier: %w", err)
	}
	if _, err := os.Stat(filepath.Join(cfg.Deploy, "crier.yaml")); errors.Is(err, fs.ErrNotExist) {
		return cfg, fmt.Errorf("there is no configuration of a cluster in %s: give --deploy DIR, or start a new one in the repository", cfg.Deploy)
	}
	if cfg.Topology == (Topology{}) {
		if cfg.Topology, err = ReadTopology(cfg.Deploy); err != nil {
			return cfg, err
		}
	}
	cfg.Topology.Profile = cmp.Or(cfg.Profile, cfg.Topology.Profile)
	if err := cfg.Topology.Validate(); err != nil {
		return cfg, fmt.Errorf("the cluster to be started: %w", err)
	}
	return cfg, nil
}

// prepare makes the cluster, or takes up the one that was made.
func (c *Cluster) prepare(ctx context.Context, cfg Config) error {
	boot, err := bootID()
	if err != nil {
		return err
	}
	t := cfg.Topology
	unlock, err := c.lock(lockState)
	if err != nil {
		return err
	}
	defer unlock()
	s, err := c.State()
	switch {
	case errors.Is(err, ErrNone):
		if s, err = c.plan(ctx, cfg, t); err != nil {
			return err
		}
	case err != nil:
		return err
	case s.Topology != t:
		return fmt.Errorf("the cluster in %s was made with another profile, cap or other counts of processes, %+v; remove it first (crier cluster down --remove)", c.dir, s.Topology)
	}
	if s.Boot != boot {
		for i := range s.Processes { // they ended with the machine
			s.Processes[i].PID = 0
		}
	}
	s.Boot, s.Deploy, s.Binary = boot, cfg.Deploy, cfg.Binary
	for i := range s.Processes {
		if k := s.Processes[i].Kind; k == Crier || k == Proxy {
			s.Processes[i].Path = cfg.Binary
		}
	}
	if err := c.render(s); err != nil {
		return err
	}
	return c.save(s)
}

// start starts what is not there: what Crier stands on, then one process that makes
// what all share, then the others.
func (c *Cluster) start(ctx context.Context) ([]string, error) {
	all, err := c.Processes()
	if err != nil {
		return nil, err
	}
	var ground, first, rest []*Process
	for _, p := range all {
		switch {
		case p.Kind != Crier:
			ground = append(ground, p)
		case first == nil:
			first = append(first, p)
		default:
			rest = append(rest, p)
		}
	}
	var started []string
	for _, wave := range [][]*Process{ground, first, rest} {
		names, err := c.startWave(ctx, wave)
		started = append(started, names...)
		if err != nil {
			return started, err
		}
	}
	return started, nil
}

// startWave starts processes together and waits for all of them, until each is ready or
// has failed; the error is of all that failed. Nobody waits for what is paused.
func (c *Cluster) startWave(ctx context.Context, wave []*Process) (started []string, err error) {
	errs := make([]error, len(wave))
	whole := !slices.ContainsFunc(wave, func(p *Process) bool { return p.Life() == Paused })
	var wg sync.WaitGroup
	for i, p := range wave {
		ended, err := p.spawn()
		if errs[i] = err; err != nil || p.Life() == Paused {
			continue
		}
		if ended != nil {
			started = append(started, p.Name)
		}
		wg.Go(func() { errs[i] = p.await(ctx, ended, whole) })
	}
	wg.Wait()
	return started, errors.Join(errs...)
}

const (
	crierStops  = 10 * time.Second
	proxyStops  = time.Second
	serverStops = 6 * time.Second
)

// Down ends what was started, in the reverse order, within 30 s, and gives the names of
// what it ended. Its data stays.
func (c *Cluster) Down() (stopped []string, err error) {
	unlock, err := c.lock(lockWhole)
	if err != nil {
		return nil, err
	}
	defer unlock()
	s, err := c.State()
	if err != nil {
		return nil, err
	}
	if boot, err := bootID(); err != nil || boot != s.Boot {
		return nil, err // nothing outlives the machine's start
	}
	all, err := c.Processes()
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, wave := range []struct {
		kinds  []Kind
		within time.Duration
	}{{[]Kind{Crier}, crierStops}, {[]Kind{Proxy}, proxyStops}, {[]Kind{NATS, MariaDB, ZooKeeper}, serverStops}} {
		names, err := stopWave(all, wave.kinds, wave.within)
		stopped, errs = append(stopped, names...), append(errs, err)
	}
	return stopped, errors.Join(append(errs, c.update(func(s *State) {
		for i := range s.Processes {
			s.Processes[i].PID = 0
		}
	}))...)
}

func stopWave(all []*Process, kinds []Kind, within time.Duration) (stopped []string, err error) {
	var mu sync.Mutex
	var g errgroup.Group
	for _, p := range all {
		for _, k := range kinds {
			if p.Kind != k || p.Life() == Gone {
				continue
			}
			g.Go(func() error {
				err := p.Stop(within)
				mu.Lock()
				defer mu.Unlock()
				stopped = append(stopped, p.Name)
				return err
			})
		}
	}
	err = g.Wait()
	return stopped, err
}

// Remove takes the directory of a cluster away, of which nothing runs.
func (c *Cluster) Remove() error {
	all, err := c.Processes()
	if err != nil {
		return err
	}
	for _, p := range all {
		if p.Life() != Gone {
			return fmt.Errorf("%s is %s: the cluster in %s is not removed", p.Name, p.Life(), c.dir)
		}
	}
	if err := os.RemoveAll(c.dir); err != nil {
		return fmt.Errorf("removing the cluster's directory: %w", err)
	}
	return nil
}
