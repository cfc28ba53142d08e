package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"crier/api"
	"crier/api/client"
	"crier/internal/bench/feed"
	"crier/internal/bus/natsbus"
	"crier/internal/idset"
	"crier/internal/proc"
	"crier/job"
)

// Pipeline is a run of the whole chain.
type Pipeline struct {
	Binary   string // crier
	Dir      string // for the server's data
	Progress io.Writer
	Population
}

// Result is what a run measured.
type Result struct {
	Recipients      uint64   `json:"recipients"`
	Seconds         float64  `json:"seconds"` // from the 202 to sent, every ledger record durable
	RecipientsPerS  float64  `json:"recipients_per_s"`
	Delivered       uint64   `json:"delivered"`
	Parked          uint64   `json:"parked"`
	Dropped         uint64   `json:"dropped"`
	Conserved       bool     `json:"conserved"`
	Duplicates      uint64   `json:"duplicates"`
	RSSMaxBytes     uint64   `json:"rss_max_bytes"`
	LedgerBytes     uint64   `json:"ledger_bytes"`
	DroppedRelation uint64   `json:"dropped_relation"`
	DroppedSuppress uint64   `json:"dropped_suppression"`
	Violations      []string `json:"violations,omitempty"`
}

const account = "bench"

// serve starts a server that has the account and its people.
func (p *Pipeline) serve(ctx context.Context) (*proc.Server, *client.Client, error) {
	srv, err := proc.Start(ctx, proc.Config{Binary: p.Binary, Dir: p.Dir, Args: []string{"--nats-listen", "127.0.0.1:0"}})
	if err != nil {
		return nil, nil, err
	}
	svc, err := srv.Client()
	if err != nil {
		return nil, nil, errors.Join(err, srv.Stop())
	}
	if err := p.people(ctx, svc); err != nil {
		svc.Close()
		return nil, nil, errors.Join(fmt.Errorf("preparing: %w", err), srv.Stop())
	}
	return srv, svc, nil
}

// Run measures one job. Preparation (package, followers, presence) is not timed.
func (p *Pipeline) Run(ctx context.Context) (res Result, err error) {
	srv, svc, err := p.serve(ctx)
	if err != nil {
		return res, err
	}
	defer func() { svc.Close(); err = errors.Join(err, srv.Stop()) }()
	p.say("importing the package")
	pkg, err := feed.Package(ctx, svc, p.Dir, account, "bench", p.Ranges)
	if err != nil {
		return res, fmt.Errorf("importing the package: %w", err)
	}
	children, err := p.startGateways(srv, false)
	defer func() {
		for _, c := range children {
			err = errors.Join(err, c.Stop())
		}
	}()
	if err != nil {
		return res, err
	}
	p.say("sending")
	j, err := svc.SubmitJob(ctx, api.SubmitJob{Account: account, Package: pkg, Body: "benchmark", IdempotencyKey: "bench"})
	accepted := time.Now()
	if err != nil {
		return res, err
	}
	if j, err = svc.WaitJob(ctx, j.Job, api.WaitJob{For: job.Sent}); err != nil {
		return res, err
	}
	res.Seconds = time.Since(accepted).Seconds()
	res.Recipients, res.RecipientsPerS = p.Recipients, float64(p.Recipients)/res.Seconds
	if j.State != job.Sent && j.State != job.Completed {
		return res, fmt.Errorf("the job is %s: %s", j.State, j.Reason)
	}
	if err := p.settle(ctx, svc, j.Job); err != nil {
		return res, err
	}
	if res.RSSMaxBytes, err = srv.HighWater(); err != nil {
		return res, err
	}
	return res, p.judge(ctx, svc, j.Job, children, &res)
}

func (p *Pipeline) say(format string, a ...any) { fmt.Fprintf(p.Progress, format+"\n", a...) }

// people makes account, followers and suppression list by the API.
func (p *Pipeline) people(ctx context.Context, svc api.Service) error {
	if _, err := svc.CreateAccount(ctx, api.CreateAccount{Name: account}); err != nil {
		return err
	}
	p.say("importing followers")
	err := feed.Stream(func(w *bufio.Writer) error {
		return p.Ranges(func(s *idset.Set) error { return feed.WriteIDs(w, p.Followers(s.Range)) })
	}, func(r io.Reader) error {
		_, err := svc.ImportFollowers(ctx, api.ImportFollowers{Format: api.FormatIDs, Account: account}, r)
		return err
	})
	if err != nil {
		return fmt.Errorf("importing followers: %w", err)
	}
	p.say("importing the suppression list")
	if err := p.suppress(ctx, svc); err != nil {
		return fmt.Errorf("importing the suppression list: %w", err)
	}
	return nil
}

func (p *Pipeline) suppress(ctx context.Context, svc api.Service) error {
	var batch []job.Recipient
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		_, err := svc.AddSuppressed(ctx, api.SuppressionChange{Account: account, IDs: batch})
		batch = batch[:0]
		return err
	}
	err := p.Ranges(func(s *idset.Set) error {
		list := p.Suppressed(s.Range)
		defer list.Release()
		for id := range list.All() {
			if batch = append(batch, job.Recipient(id)); len(batch) == api.MaxIDs {
				if err := flush(); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return flush()
}

// startGateways starts a process for each simulated gateway and waits until all
// their recipients are announced. Many says that more than one job will come.
func (p *Pipeline) startGateways(srv *proc.Server, many bool) ([]*proc.Child, error) {
	p.say("starting %d simulated gateways", p.Gateways)
	var children []*proc.Child
	for i := range p.Gateways {
		c, err := proc.StartChild(p.Binary, "bench", "gateway")
		if err != nil {
			return children, err
		}
		children = append(children, c)
		in := gatewaySpec{Population: p.Population, Index: i, Many: many, NATS: srv.NATS, Token: srv.NATSToken, Worker: srv.Worker}
		if err := c.Tell(in); err != nil {
			return children, fmt.Errorf("telling a gateway what it is: %w", err)
		}
	}
	for _, c := range children {
		var ready struct{ Ready bool }
		if err := c.Hear(&ready); err != nil {
			return children, err
		}
	}
	return children, nil
}

// settle waits until every hand-off is reported and recorded.
func (p *Pipeline) settle(ctx context.Context, svc api.Service, id job.ID) error {
	for {
		j, err := svc.GetJob(ctx, id)
		if err != nil {
			return err
		}
		if j.Counts.HandedOff == 0 && j.Counts.Pending == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// judge compares what the gateways saw with what the ledger says.
func (p *Pipeline) judge(ctx context.Context, svc api.Service, id job.ID, children []*proc.Child, res *Result) error {
	p.say("reconciling")
	var got GatewayResult
	for _, c := range children {
		var r GatewayResult
		if err := c.Ask(struct{}{}, &r); err != nil {
			return err
		}
		got.Received += r.Received
		got.Twice += r.Twice
		got.Strange += r.Strange
		got.Missing += r.Missing
	}
	rec, err := svc.ReconcileJob(ctx, id)
	if err != nil {
		return err
	}
	if res.LedgerBytes, err = ledgerBytes(ctx, svc); err != nil {
		return err
	}
	res.Delivered, res.Parked, res.Dropped, res.Duplicates = rec.Delivered, rec.Parked, rec.DroppedTotal(), got.Twice
	res.DroppedRelation, res.DroppedSuppress = rec.Dropped[job.ReasonRelation], rec.Dropped[job.ReasonSuppressed]
	res.Violations = rec.Violations
	if got.Missing+got.Strange > 0 || got.Received != rec.Delivered {
		res.Violations = append(res.Violations, fmt.Sprintf("the gateways got %d recipients (the ledger says %d), %d that they should not have got, and miss %d",
			got.Received, rec.Delivered, got.Strange, got.Missing))
	}
	res.Conserved = rec.Conserved && len(res.Violations) == 0
	return nil
}

// gatewaySpec is what a simulated gateway is told on its standard input.
type gatewaySpec struct {
	Population
	Index       int
	Many        bool
	NATS, Token string
	Worker      string // of the server
}

// ServeGateway is the process of a simulated gateway: it reads what it is, says
// when it is ready, and answers each further line with what it saw.
func ServeGateway(ctx context.Context, in io.Reader, out io.Writer) error {
	dec := json.NewDecoder(in)
	var spec gatewaySpec
	if err := dec.Decode(&spec); err != nil {
		return fmt.Errorf("reading what this gateway is: %w", err)
	}
	conn, err := natsbus.Connect(natsbus.Dial{URL: spec.NATS, Token: spec.Token, Name: "bench gateway"})
	if err != nil {
		return err
	}
	defer conn.Close()
	g := &Gateway{Population: spec.Population, Index: spec.Index, Many: spec.Many, Bus: natsbus.New(conn), Worker: spec.Worker,
		Inc: job.Incarnation{Gateway: "bench" + strconv.Itoa(spec.Index), Start: 1}}
	if err := g.Prepare(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go g.Run(ctx)
	enc := json.NewEncoder(out)
	if err := enc.Encode(struct{ Ready bool }{true}); err != nil {
		return err
	}
	for {
		var ask struct{}
		if err := dec.Decode(&ask); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := enc.Encode(g.Result()); err != nil {
			return err
		}
	}
}
