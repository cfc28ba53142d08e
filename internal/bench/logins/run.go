// Package logins measures how fast recipients who log in get what was parked for them, and what
// the parked index takes meanwhile. The gateways to which they come are simulated; what these got
// is counted apart from the ledger, and must agree.
package logins

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"crier/api"
	"crier/internal/bench/feed"
	"crier/internal/bus/natsbus"
	"crier/internal/idset"
	"crier/internal/pause"
	"crier/internal/proc"
	"crier/job"
)

// Run is a run of logins: many jobs are parked for recipients who are all offline, and then
// these come.
type Run struct {
	Binary   string // crier
	Dir      string // for the server's data
	Progress io.Writer
	Members
	Rounds int           // of parking and draining everybody
	Window int           // logins that wait at a time, at saturation
	Load   float64       // of the logins a second at saturation, when the latencies are measured
	Lasts  time.Duration // how long each of the two is measured in the first round
}

// Result is what a run measured. A login is served when its recipient has all that was
// parked, which leaves only when its record in the ledger is durable.
type Result struct {
	Recipients   uint64   `json:"recipients"`
	Jobs         int      `json:"jobs"`
	Items        int      `json:"items"` // parked of each recipient
	ParkSeconds  float64  `json:"park_seconds"`
	RestSeconds  float64  `json:"rest_seconds"` // until the index was in order behind that
	LoginsPerS   float64  `json:"logins_per_s"` // at saturation
	Saturated    Latency  `json:"saturated"`
	LoadPerS     float64  `json:"load_per_s"` // below it
	Below        Latency  `json:"below"`
	DiskSync     Syncs    `json:"disk_sync"`   // meanwhile
	HeavyItems   int      `json:"heavy_items"` // of each of a few, who come one by one
	HeavyFirst   Latency  `json:"heavy_first"` // until the first of them has come
	Heavy        Latency  `json:"heavy"`       // until all have
	IndexBytes   []uint64 `json:"index_bytes"` // when all are parked, in each round
	DrainedBytes []uint64 `json:"drained_index_bytes"`
	LedgerBytes  uint64   `json:"ledger_bytes"`
	RSSMaxBytes  uint64   `json:"rss_max_bytes"`
	Delivered    uint64   `json:"delivered"`
	Twice        uint64   `json:"duplicates"`
	Conserved    bool     `json:"conserved"`
	Violations   []string `json:"violations,omitempty"`
}

// Quantiles tell how long something took, in milliseconds.
type Quantiles struct {
	P50 float64 `json:"p50_ms"`
	P99 float64 `json:"p99_ms"`
	Max float64 `json:"max_ms"`
}

// Latency is how long logins took.
type Latency struct {
	Logins int `json:"logins"`
	Quantiles
}

// Syncs is how long the disk took for a sync of nobody's but the benchmark's.
type Syncs struct {
	Syncs int `json:"syncs"`
	Quantiles
}

func latencyOf(took []time.Duration) Latency { return Latency{len(took), quantilesOf(took)} }

func quantilesOf(took []time.Duration) Quantiles {
	slices.Sort(took)
	at := func(p float64) float64 {
		if len(took) == 0 {
			return 0
		}
		return float64(took[int(p*float64(len(took)-1))]) / float64(time.Millisecond)
	}
	return Quantiles{at(0.5), at(0.99), at(1)}
}

const account = "bench"

// restWindow is how many recipients wait at a time when nothing is measured.
const restWindow = 20_000

// gateways is how many gateways the recipients come to.
const gateways = 4

// Do parks, lets everybody come, and judges, round by round.
func (l *Run) Do(ctx context.Context) (res Result, err error) {
	if err := l.Validate(); err != nil {
		return res, err
	}
	srv, err := proc.Start(ctx, proc.Config{Binary: l.Binary, Dir: l.Dir, Args: []string{"--nats-listen", "127.0.0.1:0", "--limit-drain", "0"}})
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, srv.Stop()) }()
	svc, err := srv.Client()
	if err != nil {
		return res, err
	}
	defer svc.Close()
	if err := l.prepare(ctx, svc); err != nil {
		return res, fmt.Errorf("preparing: %w", err)
	}
	res.Recipients, res.Jobs, res.Items, res.HeavyItems = l.Recipients, l.Jobs, l.Items, l.Jobs
	come := newArrivals(l.Members)
	for i := range gateways {
		conn, err := natsbus.Connect(natsbus.Dial{URL: srv.NATS, Token: srv.NATSToken, Name: "bench gateway"})
		if err != nil {
			return res, err
		}
		defer conn.Close()
		if err := come.gateway(ctx, "login"+strconv.Itoa(i), natsbus.New(conn), srv.Worker); err != nil {
			return res, err
		}
	}
	var all []job.ID
	for round := range l.Rounds {
		began := time.Now()
		ids, err := l.park(ctx, svc, round)
		if err != nil {
			return res, fmt.Errorf("parking: %w", err)
		}
		all = append(all, ids...)
		if round == 0 {
			res.ParkSeconds = time.Since(began).Seconds()
		}
		if err := l.index(ctx, svc, &res.IndexBytes); err != nil {
			return res, err
		}
		come.begin(ids)
		if round == 0 {
			err = l.measure(ctx, srv, come, &res)
		}
		if err == nil {
			l.say("the rest of %d recipients come, neighbours together", l.Recipients)
			_, _, err = come.closed(ctx, come.neighbour, restWindow, 0)
		}
		if err == nil {
			err = come.leave(ctx)
		}
		if err != nil {
			return res, err
		}
		if err := l.settle(ctx, svc, ids); err != nil {
			return res, err
		}
		if err := l.index(ctx, svc, &res.DrainedBytes); err != nil {
			return res, err
		}
	}
	if res.RSSMaxBytes, err = srv.HighWater(); err != nil {
		return res, err
	}
	return res, l.judge(ctx, svc, all, come, &res)
}

func (l *Run) say(format string, a ...any) { fmt.Fprintf(l.Progress, format+"\n", a...) }

// measure lets recipients come, when the index is in order: as fast as they are served, then at a
// part of that, then those with most one by one.
func (l *Run) measure(ctx context.Context, srv *proc.Server, come *arrivals, res *Result) (err error) {
	if res.RestSeconds, err = l.rest(ctx, srv); err != nil {
		return err
	}
	l.say("logins as fast as they are served")
	took, seconds, err := come.closed(ctx, come.next, l.Window, l.Lasts)
	if err != nil {
		return err
	}
	res.LoginsPerS, res.Saturated = float64(len(took))/seconds, latencyOf(took)
	if err := come.recorded(ctx); err != nil { // what saturation left behind is no part of what is below it
		return err
	}
	res.LoadPerS = res.LoginsPerS * l.Load
	l.say("%.0f logins a second; now %.0f", res.LoginsPerS, res.LoadPerS)
	syncs, err := beside(ctx, l.Dir, func() (err error) {
		took, err = come.open(ctx, res.LoadPerS, l.Lasts)
		return err
	})
	if err != nil {
		return err
	}
	res.Below, res.DiskSync = latencyOf(took), Syncs{len(syncs), quantilesOf(syncs)}
	if err := come.recorded(ctx); err != nil {
		return err
	}
	l.say("recipients for whom %d jobs are parked", l.Jobs)
	first, whole, err := come.heavy(ctx)
	res.HeavyFirst, res.Heavy = latencyOf(first), latencyOf(whole)
	return err
}

// prepare makes account, followers and a suppression list.
func (l *Run) prepare(ctx context.Context, svc api.Service) error {
	if _, err := svc.CreateAccount(ctx, api.CreateAccount{Name: account}); err != nil {
		return err
	}
	l.say("importing %d followers", l.Recipients)
	err := feed.Stream(func(w *bufio.Writer) error {
		return l.ranges(0, l.Recipients, 1, func(s *idset.Set) error { return feed.WriteIDs(w, s) })
	}, func(r io.Reader) error {
		_, err := svc.ImportFollowers(ctx, api.ImportFollowers{Format: api.FormatIDs, Account: account}, r)
		return err
	})
	if err != nil {
		return fmt.Errorf("importing followers: %w", err)
	}
	var others []job.Recipient
	for i := uint64(0); i < l.Recipients && len(others) < 1000; i++ {
		others = append(others, job.Recipient(l.id(i)+1))
	}
	others = slices.DeleteFunc(others, func(r job.Recipient) bool { _, ok := l.indexOf(uint32(r)); return ok })
	_, err = svc.AddSuppressed(ctx, api.SuppressionChange{Account: account, IDs: others})
	return err
}

const (
	restWithin = 5 * time.Minute
	restLook   = 3 * time.Second
	restUses   = 0.35 // of a processor, at most; a slow one spends 0.25 on a thousand live jobs, a compaction 0.5
)

// rest waits until the server has nothing left to do: what was parked at once is put in order
// behind it, for some ten seconds if it is a hundred million messages.
func (l *Run) rest(ctx context.Context, srv *proc.Server) (seconds float64, err error) {
	l.say("waiting until the index is in order")
	began := time.Now()
	for used := time.Duration(-1); time.Since(began) < restWithin; {
		before := used
		if used, err = srv.CPU(); err != nil {
			return 0, err
		}
		if before >= 0 && float64(used-before) < restUses*float64(restLook) {
			return time.Since(began).Seconds(), nil
		}
		if !pause.For(ctx, restLook) {
			return 0, ctx.Err()
		}
	}
	return 0, fmt.Errorf("the server is not at rest %s after everything was parked", restWithin)
}

// park submits all jobs and waits until they are sent.
func (l *Run) park(ctx context.Context, svc api.Service, round int) ([]job.ID, error) {
	l.say("round %d: parking %d jobs", round+1, l.Jobs)
	ids := make([]job.ID, l.Jobs)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for n := range l.Jobs {
		g.Go(func() error {
			pkg, err := feed.Package(gctx, svc, l.Dir, account, "bench"+strconv.Itoa(n), func(add func(*idset.Set) error) error { return l.members(n, add) })
			if err != nil {
				return err
			}
			j, err := svc.SubmitJob(gctx, api.SubmitJob{Account: account, Package: pkg, Body: fmt.Sprint("message ", round, n)})
			if err == nil {
				ids[n] = j.Job
				_, err = svc.WaitJob(gctx, j.Job, api.WaitJob{For: job.Sent, Timeout: 10 * time.Minute})
			}
			return err
		})
	}
	return ids, g.Wait()
}

// index measures the parked index.
func (l *Run) index(ctx context.Context, svc api.Service, to *[]uint64) error {
	st, err := svc.Status(ctx)
	for _, s := range st.Stores {
		if s.Name == "parked" {
			*to = append(*to, s.Bytes)
		}
	}
	return err
}

// settle waits until everything of the jobs is delivered and recorded.
func (l *Run) settle(ctx context.Context, svc api.Service, ids []job.ID) error {
	for _, id := range ids {
		for {
			j, err := svc.GetJob(ctx, id)
			if err != nil {
				return err
			}
			if j.Counts.Open() == 0 {
				break
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return nil
}

// judge compares what the gateways saw with what the ledger says; of some jobs, by a proof.
func (l *Run) judge(ctx context.Context, svc api.Service, ids []job.ID, come *arrivals, res *Result) error {
	for n, id := range ids {
		j, err := svc.GetJob(ctx, id)
		if err != nil {
			return err
		}
		res.Delivered += j.Counts.Delivered
		if j.Counts.Delivered != j.Recipients || j.Counts.Sum() != j.Recipients {
			res.Violations = append(res.Violations, fmt.Sprintf("job %s: %+v", id, j.Counts))
		}
		if n%max(1, len(ids)/10) > 0 {
			continue
		}
		rec, err := svc.ReconcileJob(ctx, id)
		if err != nil {
			return err
		}
		res.Violations = append(res.Violations, rec.Violations...)
	}
	got := come.result()
	res.Twice = got.Twice
	if got.Received != res.Delivered || got.Strange > 0 || got.Twice > 0 {
		res.Violations = append(res.Violations, fmt.Sprintf("the gateways got %d messages (the ledger says %d), %d that they should not have got, and %d twice", got.Received, res.Delivered, got.Strange, got.Twice))
	}
	st, err := svc.Status(ctx)
	for _, s := range st.Stores {
		if s.Name == "ledger" {
			res.LedgerBytes = s.Bytes
		}
	}
	res.Conserved = len(res.Violations) == 0
	return err
}
