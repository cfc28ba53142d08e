package lastmile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"crier/api"
	"crier/internal/proc"
	"crier/job"
)

// Run is a measurement.
type Run struct {
	Binary      string // crier
	Dir         string // for the server's data
	Progress    io.Writer
	Connections int // recipients, each with one connection
	Jobs        int // of a round, each to all of them
	UnderWay    int // jobs at a time
	Rounds      int // of the server and the bare loop in turn
	Readers     int // processes
	BodyBytes   int // of a message
}

// Bounds of a run.
const (
	// A process may hold 20,000 descriptors: the server's connections, and two for each
	// of a reader's members.
	maxConnections = 19_000
	maxJobs        = 10_000
)

// Validate names the first field that cannot be.
func (r Run) Validate() error {
	for _, x := range []struct {
		name        string
		value, most int
	}{{"connections", r.Connections, maxConnections}, {"jobs", r.Jobs, maxJobs}, {"under-way", r.UnderWay, 64}, {"rounds", r.Rounds, 100},
		{"readers", r.Readers, 64}, {"body", r.BodyBytes, job.MaxBody}} {
		if x.value < 1 || x.value > x.most {
			return job.Invalid(x.name, fmt.Sprintf("%s: %d; want 1 to %d", x.name, x.value, x.most), nil)
		}
	}
	if (r.Connections+r.Readers-1)/r.Readers*2 > maxConnections {
		return job.Invalid("readers", fmt.Sprintf("%d processes cannot read %d connections and as many of the bare loop: start more", r.Readers, r.Connections), nil)
	}
	return nil
}

const account = "last-mile"

// bench is a run at work.
type bench struct {
	Run
	srv     *proc.Server
	svc     api.Service
	readers []*proc.Child
	bare    *proc.Child
	members []Member
	jobs    []job.ID // sent by the server, each to all
	ids     []string // sent by the bare loop
	res     Result
}

// The groups of each process of readers, in the order of their making.
const (
	crierGroup = iota
	bareGroup
)

// Do measures. What is wrong with what was delivered stands in the result.
func (r Run) Do(ctx context.Context) (res Result, err error) {
	if err := r.Validate(); err != nil {
		return res, err
	}
	b := &bench{Run: r}
	b.srv, err = proc.Start(ctx, proc.Config{Binary: r.Binary, Dir: r.Dir})
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, b.srv.Stop()) }()
	svc, err := b.srv.Client()
	if err != nil {
		return res, err
	}
	defer svc.Close()
	b.svc = svc
	defer func() {
		for _, c := range append(b.readers, b.bare) {
			if c != nil {
				err = errors.Join(err, c.Stop())
			}
		}
	}()
	if err := b.prepare(ctx); err != nil {
		return res, fmt.Errorf("preparing: %w", err)
	}
	for i := range r.Rounds {
		if err := b.round(ctx, i); err != nil {
			return res, fmt.Errorf("round %d: %w", i+1, err)
		}
	}
	if err := b.judge(ctx); err != nil {
		return res, err
	}
	b.res.conclude(r)
	return b.res, nil
}

func (b *bench) say(format string, a ...any) { fmt.Fprintf(b.Progress, format+"\n", a...) }

// spread is over how many ids the recipients lie: four ranges.
const spread = 4 << job.RangeBits

// prepare makes the account, connects everybody to the server and to the bare loop, and
// sends one job that is not measured, which shows what a frame looks like.
func (b *bench) prepare(ctx context.Context) error {
	who := make([]job.Recipient, b.Connections)
	for i := range who {
		who[i] = job.Recipient(uint64(i) * spread / uint64(b.Connections))
	}
	if _, err := b.svc.CreateAccount(ctx, api.CreateAccount{Name: account}); err != nil {
		return err
	}
	for ids := range slices.Chunk(who, api.MaxIDs) {
		if _, err := b.svc.AddFollowers(ctx, account, ids); err != nil {
			return err
		}
	}
	if err := b.mint(ctx, who); err != nil {
		return fmt.Errorf("minting tokens: %w", err)
	}
	if err := b.startChildren(); err != nil {
		return err
	}
	before, err := measureMemory(ctx, b.srv)
	if err != nil {
		return err
	}
	b.say("connecting %d readers in %d processes", b.Connections, b.Readers)
	if err := b.connect(b.srv.Gateway); err != nil {
		return err
	}
	after, err := measureMemory(ctx, b.srv)
	if err != nil {
		return err
	}
	b.res.RSSPerConnection = per(after.rss, before.rss, b.Connections)
	b.res.HeapPerConnection = per(after.inUse, before.inUse, b.Connections)
	var s Standing
	if err := b.bare.Ask(Order{Accept: b.Connections}, &s); err != nil {
		return err
	}
	if s.Error != "" {
		return fmt.Errorf("starting the bare loop: %s", s.Error)
	}
	if err := b.connect("tcp://" + s.Address); err != nil {
		return err
	}
	return b.send(ctx, 1, "warm-up")
}

// mint gives each recipient a token.
func (b *bench) mint(ctx context.Context, who []job.Recipient) error {
	b.members = make([]Member, len(who))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i, id := range who {
		g.Go(func() error {
			t, err := b.svc.MintToken(ctx, api.MintToken{Recipient: &id})
			b.members[i] = Member{Client: fmt.Sprint("reader-", id), Token: t.Token}
			return err
		})
	}
	return g.Wait()
}

func (b *bench) startChildren() (err error) {
	if b.bare, err = proc.StartChild(b.Binary, "bench", "bare"); err != nil {
		return err
	}
	for range b.Readers {
		c, err := proc.StartChild(b.Binary, "bench", "readers")
		if err != nil {
			return err
		}
		b.readers = append(b.readers, c)
	}
	return nil
}

// connect has the readers make a group of connections, each its part.
func (b *bench) connect(url string) error {
	each := (len(b.members) + b.Readers - 1) / b.Readers
	for i, part := range slices.Collect(slices.Chunk(b.members, each)) {
		if err := b.readers[i].Tell(Request{Connect: &Connect{URL: url, Members: part}}); err != nil {
			return err
		}
	}
	p, err := b.hear()
	if err == nil && p.Error != "" {
		err = errors.New(p.Error)
	}
	if err == nil && p.Connected != len(b.members) {
		err = fmt.Errorf("%d of %d are connected", p.Connected, len(b.members))
	}
	if err != nil {
		return fmt.Errorf("connecting to %s: %w", url, err)
	}
	return nil
}

// ask asks the readers of a group what they have seen.
func (b *bench) ask(group int) (Report, error) {
	for _, c := range b.readers {
		if err := c.Tell(Request{Report: &group}); err != nil {
			return Report{}, err
		}
	}
	return b.hear()
}

// hear adds up what the processes of readers answer.
func (b *bench) hear() (Report, error) {
	all := Report{Jobs: map[string]int{}}
	for _, c := range b.readers {
		var p Report
		if err := c.Hear(&p); err != nil {
			return all, err
		}
		all.add(p)
	}
	return all, nil
}

func (p *Report) add(o Report) {
	p.Connected += o.Connected
	p.Ended += o.Ended
	p.Twice += o.Twice
	p.Settled += o.Settled
	p.Strange += o.Strange
	for id, n := range o.Jobs {
		p.Jobs[id] += n
	}
	if p.Message == "" {
		p.Message = o.Message
	}
	p.AckBytes = max(p.AckBytes, o.AckBytes)
	if p.Error == "" {
		p.Error = o.Error
	}
}

// round sends the same number of messages by the server and by the bare loop.
func (b *bench) round(ctx context.Context, i int) error {
	crier, err := spend(b.srv, func() error { return b.send(ctx, b.Jobs, fmt.Sprint("round-", i)) })
	if err != nil {
		return err
	}
	p, err := b.ask(crierGroup)
	if err != nil {
		return err
	}
	id := ""
	for _, x := range b.jobs {
		if strings.Contains(p.Message, x.String()) {
			id = x.String()
		}
	}
	round := Round{Message: p.Message, ID: id, AckBytes: p.AckBytes}
	for range b.Jobs {
		round.IDs = append(round.IDs, job.KeyID("bare", fmt.Sprint(len(b.ids)+len(round.IDs))).String())
	}
	b.ids = append(b.ids, round.IDs...)
	var s Standing
	bare, err := spend(b.bare, func() error { return b.bare.Ask(Order{Round: &round}, &s) })
	if err != nil {
		return err
	}
	if want := b.Jobs * b.Connections; s.Error != "" || s.Messages != want {
		return fmt.Errorf("the bare loop did %d of %d messages: %s", s.Messages, want, s.Error)
	}
	b.res.FrameBytes, b.res.AckBytes = len(p.Message), p.AckBytes
	b.res.add(b.Jobs*b.Connections, crier, bare)
	b.say("round %d: %.0f messages a second, the bare loop %.0f", i+1, b.res.PerRound[i].MessagesPerS, b.res.PerRound[i].BarePerS)
	return nil
}

// spend measures what a process takes while something is done.
func spend(of interface{ CPU() (time.Duration, error) }, do func() error) (s Spent, err error) {
	before, err := of.CPU()
	if err != nil {
		return s, err
	}
	began := time.Now()
	if err := do(); err != nil {
		return s, err
	}
	s.Time = time.Since(began)
	after, err := of.CPU()
	s.CPU = after - before
	return s, err
}

// send submits jobs to everybody, several at a time, and waits until each is completed:
// the ledger says of nobody that he waits.
func (b *bench) send(ctx context.Context, jobs int, name string) error {
	body := strings.Repeat("x", b.BodyBytes)
	ids := make([]job.ID, jobs)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(b.UnderWay)
	for i := range jobs {
		g.Go(func() error {
			j, err := b.svc.SubmitJob(ctx, api.SubmitJob{Account: account, Audience: api.AudienceFollowers, Body: body,
				IdempotencyKey: fmt.Sprintf("%s-%d", name, i)})
			if err != nil {
				return err
			}
			ids[i] = j.Job
			if j, err = b.svc.WaitJob(ctx, j.Job, api.WaitJob{For: job.Completed}); err != nil {
				return err
			}
			if j.State != job.Completed {
				return fmt.Errorf("job %s is %s: %s", j.Job, j.State, j.Reason)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	b.jobs = append(b.jobs, ids...)
	return nil
}

// judge compares what the readers saw, what the ledger says, and what was sent.
func (b *bench) judge(ctx context.Context) error {
	b.say("reconciling %d jobs", len(b.jobs))
	crier, err := b.ask(crierGroup)
	if err != nil {
		return err
	}
	bare, err := b.ask(bareGroup)
	if err != nil {
		return err
	}
	var sent []string
	conserved := true
	for _, id := range b.jobs {
		rec, err := b.svc.ReconcileJob(ctx, id)
		if err != nil {
			return err
		}
		if n := uint64(b.Connections); !rec.Conserved || rec.Delivered != n || rec.Package != n {
			conserved = false
			b.res.violate("job %s: %d of %d were delivered as the ledger says, conserved: %v", id, rec.Delivered, rec.Package, rec.Conserved)
		}
		sent = append(sent, id.String())
	}
	b.res.Conserved = conserved
	b.res.Twice = crier.Twice
	b.res.seen("the server", crier, sent, b.Connections)
	b.res.seen("the bare loop", bare, b.ids, b.Connections)
	return nil
}
