// Package campaign runs many drills, one after another, against one cluster, and gives
// the distribution of their times.
//
// It guarantees that every drill begins on a whole cluster, that one which shows nothing
// is tried once more and both tries are told, and that one verdict sums all up: pass only
// if every round passed.
package campaign

import (
	"context"
	"errors"
	"fmt"
	"time"

	"crier/internal/cluster"
	"crier/internal/drill"
	"crier/internal/drill/verdict"
)

// Step is a drill, and how often it is run.
type Step struct {
	Drill  string
	From   string        // for cut-pair: process, role or kind; empty is the drill's own
	To     string        // likewise
	For    time.Duration // how long the fault lasts; 0 is the drill's own
	Rounds int           // at least 1
}

// String names the step: steps of the same name are added up.
func (s Step) String() string {
	name := s.Drill
	if s.From != "" {
		name += " " + s.From + "," + s.To
	}
	if s.For > 0 {
		name += fmt.Sprintf(" %gs", s.For.Seconds())
	}
	return name
}

// Config is how a campaign is run.
type Config struct {
	Drill drill.Config // of every drill; Seed is of the first, each next one has the next
	// Done is told each drill as it ends.
	Done func(Run)
}

// Run is a drill that was run.
type Run struct {
	Step   string          `json:"step"`
	Round  int             `json:"round"`           // from 1
	Again  bool            `json:"again,omitempty"` // the first try of this round showed nothing
	Error  string          `json:"error,omitempty"` // what kept it from being run: it is void
	Report *verdict.Report `json:"report,omitempty"`
}

// Verdict is the drill's; one that could not be run shows nothing.
func (r Run) Verdict() verdict.Verdict {
	if r.Report == nil {
		return verdict.Void
	}
	return r.Report.Verdict
}

// Why is the first reason of a verdict that is not pass, and how many more there are.
func (r Run) Why() string {
	switch {
	case r.Report == nil:
		return r.Error
	case len(r.Report.Reasons) > 1:
		return fmt.Sprintf("%s; and %d more", r.Report.Reasons[0], len(r.Report.Reasons)-1)
	case len(r.Report.Reasons) == 1:
		return r.Report.Reasons[0]
	}
	return ""
}

// one runs a drill.
type one func(context.Context, Step, drill.Config) (verdict.Report, error)

// Do runs the steps. The result has what was run, also if there is an error: ctx has
// ended, or the cluster cannot be made whole.
func Do(ctx context.Context, cfg Config, steps []Step) (Result, error) {
	mend := func(mending context.Context) error {
		err := whole(mending, cfg.Drill.Dir)
		if err != nil && ctx.Err() != nil && cfg.Drill.Say != nil { // an interruption is all that its error tells
			cfg.Drill.Say("the cluster is not whole: %v; crier cluster up starts what is missing", err)
		}
		return err
	}
	return do(ctx, cfg, steps, mend, func(ctx context.Context, s Step, cfg drill.Config) (verdict.Report, error) {
		cfg.CutFrom, cfg.CutTo, cfg.For = s.From, s.To, s.For
		return drill.Run(ctx, s.Drill, cfg)
	})
}

func do(ctx context.Context, cfg Config, steps []Step, mend func(context.Context) error, run one) (Result, error) {
	began, seed := time.Now(), cfg.Drill.Seed
	var runs []Run
	end := func(err error) (Result, error) {
		res := sum(runs, time.Since(began))
		if res.Interrupted = ctx.Err() != nil; err != nil && res.Verdict == verdict.Pass {
			res.Verdict = verdict.Void // of the rounds that were not run
		}
		return res, err
	}
	for _, s := range steps {
		for round := range max(1, s.Rounds) {
			for try := range 2 {
				if err := mend(context.WithoutCancel(ctx)); err != nil || ctx.Err() != nil { // also who is interrupted leaves it whole
					return end(errors.Join(ctx.Err(), err))
				}
				dcfg := cfg.Drill
				dcfg.Seed, seed = seed, seed+1
				r := Run{Step: s.String(), Round: round + 1, Again: try > 0}
				rep, err := run(ctx, s, dcfg)
				if ctx.Err() != nil {
					return end(ctx.Err())
				}
				if err != nil {
					r.Error = err.Error()
				} else {
					r.Report = &rep
				}
				runs = append(runs, r)
				cfg.Done(r)
				if r.Verdict() != verdict.Void {
					break
				}
			}
		}
	}
	return end(nil)
}

// whole starts what is missing of a cluster, lets go on what is paused, and ends its cuts.
func whole(ctx context.Context, dir string) error {
	c, err := cluster.Load(dir)
	if err != nil {
		return err
	}
	s, err := c.State()
	if err != nil {
		return err
	}
	all, err := c.Processes()
	if err != nil {
		return err
	}
	for _, p := range all {
		if p.Life() == cluster.Paused {
			if err := p.Continue(); err != nil {
				return err
			}
		}
	}
	c, _, err = cluster.Up(ctx, cluster.Config{Dir: dir, Deploy: s.Deploy, Binary: s.Binary, Topology: s.Topology})
	if err != nil {
		return fmt.Errorf("making the cluster whole: %w", err)
	}
	if !s.Topology.Proxy {
		return nil
	}
	return c.Heal(ctx)
}
