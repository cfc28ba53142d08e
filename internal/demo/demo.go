// Package demo runs the main job on one machine and judges it by what the clients
// saw: a server process, an account with a million followers, two thousand of them
// connected from a process of their own, one job to all of them, and then a
// thousand more who log in.
package demo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"crier/api"
	"crier/internal/crowd"
	"crier/internal/proc"
	"crier/job"
)

// Config is a demo run.
type Config struct {
	Binary    string // crier
	Dir       string // for the server's data
	Followers int    // default 1,000,000
	Online    int    // default 2,000
	Late      int    // default 1,000: offline at first, log in afterwards
	Rate      uint32 // recipients a second; 0 is unlimited
	Seed      uint64
	Out       io.Writer
	// Progress is called while the job is being sent.
	Progress func(state string, done, total uint64)
}

// Verdict is what the run came to.
type Verdict struct {
	Conserved bool
	Lost      int // should have shown it and did not
	Twice     int // showed it more than once
	Strange   int // showed it and should not have
}

// OK reports whether nothing was wrong.
func (v Verdict) OK() bool { return v.Conserved && v.Lost == 0 && v.Twice == 0 && v.Strange == 0 }

// String is the verdict in a line.
func (v Verdict) String() string {
	s := "verdict: conserved"
	if !v.Conserved {
		s = "verdict: NOT conserved"
	}
	s += fmt.Sprintf(", lost %d, twice %d", v.Lost, v.Twice)
	if v.Strange > 0 {
		s += fmt.Sprintf(", %d who should not have got it", v.Strange)
	}
	return s
}

const (
	account    = "crier-demo"
	suppressed = 20 // one follower in so many is on the suppression list
)

// run is a demo at work.
type run struct {
	Config
	svc    api.Service
	people []job.Recipient // the followers, in random order
	listed map[job.Recipient]bool
	child  *proc.Child
}

// Run runs the demo.
func Run(ctx context.Context, cfg Config) (v Verdict, err error) {
	r := &run{Config: cfg, listed: map[job.Recipient]bool{}}
	began := time.Now()
	srv, err := proc.Start(ctx, proc.Config{Binary: cfg.Binary, Dir: cfg.Dir})
	if err != nil {
		return v, err
	}
	defer func() { err = errors.Join(err, srv.Stop()) }()
	r.say("server    %s, ready in %.2f s", srv.API, time.Since(began).Seconds())
	svc, err := srv.Client()
	if err != nil {
		return v, err
	}
	defer svc.Close()
	r.svc = svc
	r.child, err = proc.StartChild(cfg.Binary, "demo", "crowd")
	if err != nil {
		return v, err
	}
	defer func() { err = errors.Join(err, r.child.Stop()) }()
	var hello crowd.Report
	if err := r.child.Ask(crowd.Request{Gateway: srv.Gateway}, &hello); err != nil {
		return v, err
	}
	return r.job(ctx)
}

func (r *run) say(format string, a ...any) { fmt.Fprintf(r.Out, format+"\n", a...) }

// job is the main job, from the account to the verdict.
func (r *run) job(ctx context.Context) (Verdict, error) {
	if err := r.populate(ctx); err != nil {
		return Verdict{}, fmt.Errorf("making the account: %w", err)
	}
	online, late := r.people[:r.Online], r.people[r.Online:r.Online+r.Late]
	if err := r.connect(ctx, online); err != nil {
		return Verdict{}, fmt.Errorf("connecting: %w", err)
	}
	r.say("clients   %d connections from a process of their own", len(online))
	j, err := r.svc.SubmitJob(ctx, api.SubmitJob{Account: account, Audience: api.AudienceFollowers, Body: "Hear ye, hear ye!", Rate: r.Rate,
		IdempotencyKey: "demo"})
	if err != nil {
		return Verdict{}, fmt.Errorf("submitting: %w", err)
	}
	r.say("job       %s to %d recipients", j.Job, j.Recipients)
	err = r.svc.WatchJob(ctx, j.Job, func(x api.Job) error {
		r.Progress(x.State.String(), x.Done(), x.Recipients)
		if x.State.Reached(job.Sent) {
			return io.EOF
		}
		return nil
	})
	if err != nil && !errors.Is(err, io.EOF) {
		return Verdict{}, fmt.Errorf("watching: %w", err)
	}
	if err := r.await(ctx, j.Job, r.due(online)); err != nil {
		return Verdict{}, err
	}
	before, err := r.svc.ReconcileJob(ctx, j.Job)
	if err != nil {
		return Verdict{}, err
	}
	r.say("\n%d of those who were offline log in", len(late))
	if err := r.connect(ctx, late); err != nil {
		return Verdict{}, fmt.Errorf("connecting: %w", err)
	}
	due := r.due(r.people[:r.Online+r.Late])
	if err := r.await(ctx, j.Job, due); err != nil {
		return Verdict{}, err
	}
	after, err := r.svc.ReconcileJob(ctx, j.Job)
	if err != nil {
		return Verdict{}, err
	}
	r.funnel(before, after)
	return r.judge(j.Job, due, after)
}

// populate makes an account with followers whose ids lie in clusters, as ids that
// were given out in the order of registration do, and suppresses some of them.
func (r *run) populate(ctx context.Context) error {
	if _, err := r.svc.CreateAccount(ctx, api.CreateAccount{Name: account}); err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(r.Seed, 1))
	seen := map[job.Recipient]bool{}
	for len(seen) < r.Followers {
		at, density := rng.Uint32N(1<<31), 0.2+0.7*rng.Float64()
		for i := range uint32(1000 + rng.IntN(40000)) {
			if rng.Float64() < density && len(seen) < r.Followers {
				seen[job.Recipient(at+i)] = true
			}
		}
	}
	r.people = slices.Sorted(maps.Keys(seen))
	rng.Shuffle(len(r.people), func(i, j int) { r.people[i], r.people[j] = r.people[j], r.people[i] })
	imp, err := r.importFollowers(ctx)
	if err != nil {
		return err
	}
	var list []job.Recipient
	for i, id := range r.people {
		if i%suppressed == 0 {
			r.listed[id] = true
			list = append(list, id)
		}
	}
	if _, err := r.svc.AddSuppressed(ctx, api.SuppressionChange{Account: account, IDs: list}); err != nil {
		return err
	}
	r.say("account   %s with %d followers, %d of them suppressed", account, imp.Added, len(list))
	return nil
}

func (r *run) importFollowers(ctx context.Context) (api.FollowersImport, error) {
	pr, pw := io.Pipe()
	go func() {
		w := bufio.NewWriterSize(pw, 1<<20)
		for _, id := range r.people {
			w.WriteString(strconv.FormatUint(uint64(id), 10))
			w.WriteByte('\n')
		}
		pw.CloseWithError(w.Flush())
	}()
	imp, err := r.svc.ImportFollowers(ctx, api.ImportFollowers{Format: api.FormatIDs, Account: account}, pr)
	pr.CloseWithError(io.ErrClosedPipe)
	return imp, err
}

// connect gives recipients tokens and has the crowd connect them.
func (r *run) connect(ctx context.Context, who []job.Recipient) error {
	members := make([]crowd.Member, len(who))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i, id := range who {
		g.Go(func() error {
			t, err := r.svc.MintToken(gctx, api.MintToken{Recipient: &id})
			members[i] = crowd.Member{Recipient: id, Token: t.Token, Kind: crowd.Speaks}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("minting tokens: %w", err)
	}
	var rep crowd.Report
	return r.child.Ask(crowd.Request{Connect: members}, &rep)
}

// due is who of the recipients should get the job.
func (r *run) due(who []job.Recipient) map[job.Recipient]bool {
	out := map[job.Recipient]bool{}
	for _, id := range who {
		if !r.listed[id] {
			out[id] = true
		}
	}
	return out
}

// patience is how long the clients may take after the server is through.
const patience = 15 * time.Second

// await asks the clients until as many have shown the job as should, and the
// ledger says that nobody is handed off, or patience ends; the verdict comes later.
func (r *run) await(ctx context.Context, id job.ID, due map[job.Recipient]bool) error {
	limit := time.Now().Add(patience)
	for {
		var rep crowd.Report
		if err := r.child.Ask(crowd.Request{Report: &id}, &rep); err != nil {
			return err
		}
		j, err := r.svc.GetJob(ctx, id)
		if err != nil {
			return err
		}
		if len(rep.Shown) >= len(due) && j.Counts.HandedOff == 0 || time.Now().After(limit) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// funnel prints what became of the package, step by step.
func (r *run) funnel(before, after api.Reconciliation) {
	r.say("\n%-28s %9d", "package", after.Package)
	for reason, n := range after.Dropped {
		r.say("%-28s %9d", "dropped: "+reason.String(), n)
	}
	r.say("%-28s %9d", "handed off while sending", before.Delivered+before.HandedOff+before.InDoubt)
	r.say("%-28s %9d", "delivered while sending", before.Delivered)
	r.say("%-28s %9d", "parked when sent", before.Parked)
	r.say("%-28s %9d", "drained after login", before.Parked-after.Parked)
	r.say("%-28s %9d", "delivered in all", after.Delivered)
	r.say("%-28s %9d", "still parked", after.Parked)
	r.say("%-28s %9d\n", "handed off, in doubt", after.HandedOff+after.InDoubt)
	for _, v := range after.Violations {
		r.say("violation: %s", v)
	}
}

// judge compares what the clients showed with who was to get it, and the ledger's
// count of delivered with the clients'.
func (r *run) judge(id job.ID, due map[job.Recipient]bool, after api.Reconciliation) (Verdict, error) {
	var rep crowd.Report
	if err := r.child.Ask(crowd.Request{Report: &id}, &rep); err != nil {
		return Verdict{}, err
	}
	v := Verdict{Conserved: after.Conserved && after.Delivered == uint64(len(rep.Shown)) && after.HandedOff+after.InDoubt+after.Pending == 0}
	for who, n := range rep.Shown {
		if !due[who] {
			v.Strange++
		}
		if n > 1 {
			v.Twice++
		}
	}
	for who := range due {
		if rep.Shown[who] == 0 {
			v.Lost++
		}
	}
	if !v.OK() {
		for _, e := range rep.Errors {
			r.say("client: %s", e)
		}
	}
	return v, nil
}
