// Package drill breaks a running cluster on purpose and judges what that did: real
// clients keep what they were shown, times are measured from the fault, the ledger
// proves what became of everybody, and the two must agree.
//
// It guarantees that a drill that shows nothing says so: without load before the fault,
// or without an effect of it, the verdict is void. Afterwards the cluster is whole
// again, or the verdict says what is not.
package drill

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"crier/api"
	"crier/internal/cluster"
	"crier/internal/crowd"
	"crier/internal/drill/holders"
	"crier/internal/drill/verdict"
	"crier/job"
)

// Config is how a drill is run.
type Config struct {
	Dir    string // of the cluster, which is up
	Binary string // crier
	Jobs   int    // under way at the same time, to the same recipients; default 6
	Online int    // recipients connected from the start; default 600
	Late   int    // who log in after the fault; default 100
	Parked int    // who never do; default 20,000
	Rate   uint32 // of all jobs, recipients a second; default 60, or less, so that the load outlasts the fault
	Seed   uint64 // of ids; a cluster sees each seed of a drill once
	// Cut is the two processes that cut-pair cuts, and both ways or only what the first
	// sends the second; of a role or a kind, that which sends the other most. Default: the
	// busiest worker, and the NATS server that it uses.
	CutFrom, CutTo string
	Both           bool
	// For is how long the fault lasts; 0 is as long as the drill says.
	For        time.Duration
	accountCap int // the cluster's
	// Say is told what happens.
	Say func(format string, args ...any)
}

// settling is how long the load must flow besides the fault: until it is steady, and
// until all is seen to be well.
const settling = 40 * time.Second

func (c *Config) fill(lasts time.Duration) {
	for _, d := range []struct {
		field *int
		value int
	}{{&c.Jobs, 6}, {&c.Online, 600}, {&c.Late, 100}, {&c.Parked, 20_000}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if c.Rate == 0 {
		each := max(1, c.Online*3/4/int((lasts+settling).Seconds())) // a job's; not all may get it
		c.Rate = uint32(min(60, c.Jobs*each))
	}
	if c.Say == nil {
		c.Say = func(string, ...any) {}
	}
}

// run is a drill at work. One goroutine owns it.
type run struct {
	cfg          Config
	drill        Drill
	cluster      *cluster.Cluster
	api          apis
	account      string
	people       []job.Recipient // who follow it
	online, late crowdOf
	lateIn       atomic.Bool // the late ones are connected
	lateErr      chan error
	jobs         []job.ID
	load         map[string]bool // of them, those under way when the fault comes, at a rate
	recalled     job.ID
	aims         *verdict.Aims
	receipts     []crowd.Receipt         // of all, by time
	lost         map[job.Recipient]int64 // when clients lost a connection last, in Unix milliseconds
	claims       holders.Claims
	was          map[string]holders.Claim // what the victim held
	detected     time.Time
	probed       time.Time // when the probe was submitted
	probe        job.ID
	restored     time.Time
	published    *verdict.Seconds       // the event about the probe
	ofVictim     map[job.Recipient]bool // the clients of a gateway that is killed
	lateTokens   []crowd.Member
	before       verdict.Refused // until the fault
	journals     holders.Journals
	submitted    time.Time // when a job was submitted last while a database is away
	meanwhile    int       // jobs submitted so
	unclear      []string  // the names of those of which nothing is known
	report       verdict.Report
	ends         []func() error
}

func (r *run) onEnd(fn func() error) { r.ends = append(r.ends, fn) }

func (r *run) end() (err error) {
	for _, fn := range slices.Backward(r.ends) {
		err = errors.Join(err, fn())
	}
	return err
}

// Run runs a drill. An error is something that kept it from being run. When ctx ends, the
// fault is undone before it returns; the jobs are cancelled in any case.
func Run(ctx context.Context, name string, cfg Config) (_ verdict.Report, err error) {
	d, err := Find(name)
	if err != nil {
		return verdict.Report{}, err
	}
	c, err := cluster.Load(cfg.Dir)
	if err != nil {
		return verdict.Report{}, err
	}
	st, err := c.State()
	if err != nil {
		return verdict.Report{}, err
	}
	d = d.by(st.Topology.Profile).lasting(cfg.For)
	cfg.fill(d.lasts)
	cfg.accountCap = st.Topology.AccountCap
	if err := known(st.Processes, cfg.CutFrom, cfg.CutTo); err != nil {
		return verdict.Report{}, err
	}
	r := &run{cfg: cfg, drill: d, cluster: c, lateErr: make(chan error, 1), load: map[string]bool{}, report: verdict.Report{Drill: d.Name, Hypothesis: d.Hypothesis}}
	defer func() { err = errors.Join(ctx.Err(), err, r.end()) }()
	if broken := r.broken(); len(broken) > 0 {
		return r.report, fmt.Errorf("the cluster is not whole: %s; crier cluster up starts what is missing, and names what is paused", broken[0])
	}
	if err := r.begin(ctx); err != nil {
		return r.report, err
	}
	steady, err := r.steady(ctx)
	if err != nil {
		return r.report, err
	}
	if steady {
		if err := r.breakIt(ctx); err != nil {
			return r.report, err
		}
	} else {
		r.logIn(ctx)
	}
	if err := r.finish(ctx); err != nil {
		return r.report, err
	}
	if !r.report.Fault.Bit {
		r.report.Outage = nil
	}
	r.report.Verdict, r.report.Reasons = verdict.Of(r.report, d.Limits)
	return r.report, nil
}

// broken lists the processes that do not run.
func (r *run) broken() (list []string) {
	all, err := r.cluster.Processes()
	if err != nil {
		return []string{err.Error()}
	}
	for _, p := range all {
		if l := p.Life(); l != cluster.Running {
			list = append(list, fmt.Sprintf("%s is %s", p.Name, l))
		}
	}
	return list
}

// begin makes the load.
func (r *run) begin(ctx context.Context) error {
	if err := r.connectAPI(); err != nil {
		return err
	}
	r.onEnd(func() error { r.dismiss(ctx); return nil }) // when its jobs are cancelled
	r.onEnd(func() error { return r.cancelJobs(ctx) })
	if err := r.populate(ctx); err != nil {
		return fmt.Errorf("making the recipients: %w", err)
	}
	for _, c := range []*crowdOf{&r.online, &r.late} {
		if err := r.gather(c); err != nil {
			return fmt.Errorf("starting the clients: %w", err)
		}
	}
	members, err := r.tokens(ctx, &r.online)
	if err != nil {
		return err
	}
	var rep crowd.Report
	if err := r.online.child.Ask(crowd.Request{Connect: members}, &rep); err != nil {
		return fmt.Errorf("connecting the clients: %w", err)
	}
	r.cfg.Say("%d clients are connected", len(members))
	if r.lateTokens, err = r.tokens(ctx, &r.late); err != nil {
		return err
	}
	if err := r.settle(ctx); err != nil {
		return err
	}
	if err := r.calm(ctx); err != nil {
		return err
	}
	if r.claims.Kind = r.drill.holds; r.claims.Kind != "" { // there may be many
		if err := r.api.do(ctx, r.claims.Read); err != nil {
			return fmt.Errorf("reading who holds what: %w", err)
		}
	}
	if err := r.exceed(ctx); err != nil {
		return err
	}
	rate := r.cfg.Rate / uint32(r.cfg.Jobs)
	for i := range r.cfg.Jobs {
		if err := r.submit(ctx, fmt.Sprint(i), rate, job.Normal); err != nil {
			return err
		}
		r.load[r.jobs[len(r.jobs)-1].String()] = true
	}
	if err := r.submit(ctx, "recalled", rate, job.Realtime); err != nil {
		return err
	}
	r.recalled = r.jobs[len(r.jobs)-1]
	r.report.Load = verdict.Load{Jobs: r.cfg.Jobs, Online: r.cfg.Online, Late: r.cfg.Late, Parked: r.cfg.Parked, Rate: float64(rate) * float64(r.cfg.Jobs)}
	return nil
}

// settleWithin is for the workers to learn who is connected.
const settleWithin = 15 * time.Second

// settle sends everybody one message as fast as it goes, so that the load begins with
// workers who know who is there.
func (r *run) settle(ctx context.Context) error {
	if err := r.submit(ctx, "first", 0, job.Realtime, r.once); err != nil {
		return err
	}
	if err := r.learn(ctx); err != nil {
		return err
	}
	due := verdict.Due(r.aims.Groups, r.online.members)
	ok, err := r.until(ctx, settleWithin, func() bool { return len(r.receipts) >= due })
	if err == nil && !ok {
		r.note("a first message, as fast as it goes, reached %d of %d clients within %s", len(r.receipts), due, settleWithin)
	}
	return err
}

func (r *run) note(format string, args ...any) {
	r.report.Notes = append(r.report.Notes, fmt.Sprintf(format, args...))
	r.cfg.Say(format, args...)
}

// steadyWithin is how long the load may take to flow.
const steadyWithin = 25 * time.Second

// steady waits until the load flows.
func (r *run) steady(ctx context.Context) (bool, error) {
	from := time.Now()
	ok, err := r.until(ctx, steadyWithin, func() bool {
		r.report.Load.Before = verdict.Flow(r.ofLoad(), time.Now())
		return r.report.Load.Before >= verdict.Enough*r.report.Load.Rate && time.Since(from) > verdict.Window+time.Second
	})
	r.cfg.Say("%.1f recipients a second flow, of %.1f", r.report.Load.Before, r.report.Load.Rate)
	return ok, err
}

// finish lets the load come to its end and judges what everybody saw.
func (r *run) finish(ctx context.Context) error {
	select {
	case err := <-r.lateErr:
		if err != nil {
			return err
		}
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(endWithin):
		return errors.New("the clients that log in late could not connect")
	}
	due := verdict.Due(r.aims.Groups, r.people[:r.cfg.Online+r.cfg.Late])
	if _, err := r.until(ctx, endWithin, func() bool { return r.arrived() >= due }); err != nil {
		return err
	}
	if err := r.quiet(ctx); err != nil {
		return err
	}
	if err := r.countMoved(ctx); err != nil {
		return err
	}
	if err := r.effects(ctx); err != nil {
		return err
	}
	if err := r.look(); err != nil {
		return err
	}
	r.measure()
	return r.compare(ctx)
}

const (
	endWithin   = 150 * time.Second
	quietWithin = 45 * time.Second
)

// quiet waits until nobody is handed off or pending, and a moment more for what should
// not come.
func (r *run) quiet(ctx context.Context) error {
	_, err := r.until(ctx, quietWithin, func() bool {
		for _, id := range r.jobs {
			if !r.settled(ctx, id) {
				return false
			}
		}
		return true
	})
	if err != nil {
		return err
	}
	_, err = r.until(ctx, 2*time.Second, func() bool { return false })
	return err
}

// settled reports whether nobody of a job is handed off or pending, and nobody has yet to
// take it back.
func (r *run) settled(ctx context.Context, id job.ID) bool {
	var j api.Job
	ask, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	err := r.api.do(ask, func(ctx context.Context, svc api.Service) (err error) {
		j, err = svc.GetJob(ctx, id)
		return err
	})
	return err == nil && j.State.Reached(job.Sent) && j.Counts.HandedOff+j.Counts.Pending+j.Withdrawing == 0
}

// compare asks what clients saw and judges it.
func (r *run) compare(ctx context.Context) error {
	seen := map[job.ID]verdict.Seen{}
	var away []job.Recipient
	for _, id := range r.jobs {
		all := verdict.Seen{Shown: map[job.Recipient]int{}, Withdrew: map[job.Recipient]bool{}}
		for _, c := range []*crowdOf{&r.online, &r.late} {
			var rep crowd.Report
			if err := c.child.Ask(crowd.Request{Report: &id}, &rep); err != nil {
				return err
			}
			for who, n := range rep.Shown {
				all.Shown[who] += n
			}
			maps.Copy(all.Withdrew, rep.Withdrew)
			if id == r.jobs[0] {
				away = append(away, rep.Away...)
			}
		}
		seen[id] = all
	}
	r.report.Broken = r.broken()
	return r.judge(ctx, seen, away)
}

// startAll starts processes again, together, for some need others of their kind. What
// ends before it is ready, because what it needs does not answer yet, is started anew, as
// whoever supervises it would.
func (r *run) startAll(ctx context.Context, processes []*cluster.Process) error {
	for {
		var g errgroup.Group
		for _, p := range processes {
			g.Go(func() error { return p.Start(ctx) })
		}
		err := g.Wait()
		if err == nil || ctx.Err() != nil {
			return err
		}
		r.note("starting anew: %v", err)
		select {
		case <-ctx.Done():
			return err
		case <-time.After(restartAfter):
		}
	}
}

// restartAfter is between attempts to start what ended at once.
const restartAfter = time.Second
