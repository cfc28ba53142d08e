package app_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"crier/api"
	"crier/internal/app"
	"crier/internal/proc"
	"crier/job"
	"crier/presence/gateway"
	"crier/presence/gateway/ws"
	"crier/state/ledger"
	"crier/state/parked/kv"
	"crier/worker/block"
)

// crashWrites are the writes that outlive a process: the records of the ledger by what is
// in them, what is purged of it, the controls, the index of what is parked, and what the
// gateway accepted.
var crashWrites = []string{
	"open", "charge", "reserve", "drain", "done", "outcome", "seal",
	"claim job", "claim slice", "claim range", "claim role",
	"job submitted", "job queued", "job packed", "job preparing", "job prepared", "job sending", "job sent", "job completed",
	"job cancelling", "job cancelled", "job recalling", "job recalled",
	"control", "control cancel", "control recall",
	"fold", "purge", "index", "acknowledged", "freed", "accepted",
	"claim journal", "doubt", "decide", // of what was accepted
}

// firstWrite comes once in the life of a data directory.
const firstWrite = "cluster"

// crasher ends its own process at one point, and writes down which it passed.
type crasher struct {
	at     string
	passed *os.File
	mu     struct {
		sync.Mutex
		seen map[string]bool
	}
}

func (c *crasher) pass(when string, writes ...string) {
	for _, w := range writes {
		name := when + " " + w
		if name == c.at {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // until it is gone
		}
		c.mu.Lock()
		if !c.mu.seen[name] {
			c.mu.seen[name] = true
			fmt.Fprintln(c.passed, name)
		}
		c.mu.Unlock()
	}
}

// around does a write between its two points. What was refused was not written.
func (c *crasher) around(write func() error, names ...string) error {
	c.pass("before", names...)
	err := write()
	if err == nil {
		c.pass("after", names...)
	}
	return err
}

// fragileLog is a log whose writes are points.
type fragileLog struct {
	ledger.Log
	*crasher
}

func (l fragileLog) Append(ctx context.Context, subject string, last uint64, data []byte) (seq uint64, err error) {
	err = l.around(func() error {
		seq, err = l.Log.Append(ctx, subject, last, data)
		return err
	}, recordNames(subject, data)...)
	return seq, err
}

func (l fragileLog) Purge(ctx context.Context, subject string, before uint64) error {
	return l.around(func() error { return l.Log.Purge(ctx, subject, before) }, "purge")
}

// recordNames is what a record tells, in the words of the ledger.
func recordNames(subject string, data []byte) (names []string) {
	switch {
	case strings.HasPrefix(subject, "led.j."):
		r, err := ledger.ParseRecord(data)
		if err != nil {
			panic(err)
		}
		for _, e := range r.Entries {
			_, name, _ := strings.Cut(fmt.Sprintf("%T", e), ".")
			if name = strings.ToLower(name); !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
		return names
	case strings.HasPrefix(subject, "led.job."):
		var tr job.Transition
		if err := json.Unmarshal(data, &tr); err != nil {
			panic(err)
		}
		return []string{"job " + tr.State.String()}
	case strings.HasPrefix(subject, "led.claim."):
		c, err := ledger.ParseClaim(ledger.Stored{Subject: subject, Data: data})
		if err != nil {
			panic(err)
		}
		if c.Journal == (job.Journal{}) {
			return []string{"release " + string(c.Kind)}
		}
		return []string{"claim " + string(c.Kind)}
	case strings.HasPrefix(subject, "ctl."):
		var c job.Control
		if err := json.Unmarshal(data, &c); err != nil {
			panic(err)
		}
		switch {
		case c.Recall:
			return []string{"control recall"}
		case c.Cancel:
			return []string{"control cancel"}
		}
		return []string{"control"}
	}
	return []string{strings.TrimPrefix(subject, "led.")}
}

// fragileIndex is an index whose writes are points.
type fragileIndex struct {
	kv.Store
	*crasher
}

func (x fragileIndex) Write(b *kv.Batch) error {
	return x.around(func() error { return x.Store.Write(b) }, "index")
}

// fragileAccepted is an accepted-file whose writes are points.
type fragileAccepted struct {
	ws.Accepted
	*crasher
}

func (f fragileAccepted) Append(r gateway.Record) error {
	return f.around(func() error { return f.Accepted.Append(r) }, "accepted")
}

func (f fragileAccepted) Mark(ref job.Ref, rank uint32) {
	_ = f.around(func() error { f.Accepted.Mark(ref, rank); return nil }, "acknowledged")
}

func (f fragileAccepted) Free(start uint32, ref job.Ref) error {
	return f.around(func() error { return f.Accepted.Free(start, ref) }, "freed")
}

// serveFragile is a server that ends at a point: this test's own binary, started by it.
func serveFragile(args []string) error {
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	data, listen, ready := flags.String("data", "", ""), flags.String("listen", "", ""), flags.String("ready-file", "", "")
	at, passed := flags.String("crash", "", ""), flags.String("passed", "", "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	f, err := os.OpenFile(*passed, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	c := &crasher{at: *at, passed: f}
	c.mu.seen = map[string]bool{}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	return app.Run(ctx, app.Config{Data: *data, Listen: *listen, ReadyFile: *ready, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		FoldEvery: 64 << 10, Policy: block.Policy{Cap: 1000},
		Edge: app.Edge{
			Log:      func(l ledger.Log) ledger.Log { return fragileLog{l, c} },
			Index:    func(s kv.Store) kv.Store { return fragileIndex{s, c} },
			Accepted: func(a ws.Accepted) ws.Accepted { return fragileAccepted{a, c} },
		}})
}

// fragile is a server that is ended again and again, the devices of some of those whom it
// sends to, and all jobs that were ever asked for.
type fragile struct {
	trial
	passed   string
	screens  []*screen // always on
	restless []*screen // on and off
	orders   []*order
}

// order is a job that somebody wanted, whether or not there was an answer.
type order struct {
	api.SubmitJob
	point string // where the server ended while it was new
	id    job.ID
	ends  string // what was asked of it besides: "", expire, cancel, recall
}

const fragileFollowers = 60 // ids from 0; every fifth is online

// TestCrashPoints ends the server before and after each write that outlives it, once each,
// under a mixture of jobs, and goes on with what is there. Nothing that was accepted may
// be lost, and no device shown a message twice.
func TestCrashPoints(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	x := &fragile{trial: trial{t: t, cfg: proc.Config{Binary: os.Args[0], Dir: t.TempDir()}}}
	x.passed = filepath.Join(x.cfg.Dir, "passed")
	x.begin(ctx)
	for _, write := range crashWrites {
		if write == "doubt" { // nobody can tell any more what the last one had accepted
			x.must(os.RemoveAll(filepath.Join(x.cfg.Dir, "data", "accepted")))
		}
		x.crash(ctx, "before "+write)
		x.crash(ctx, "after "+write)
	}
	x.finish(ctx)
}

// begin starts the server, and brings the devices.
func (x *fragile) begin(ctx context.Context) {
	x.run(ctx, "")
	x.cfg.Listen = mustHost(x.t, x.srv.API) // the devices find it there again
	_, err := x.svc.CreateAccount(ctx, api.CreateAccount{Name: "news"})
	x.must(err)
	var ids []job.Recipient
	for id := range fragileFollowers {
		ids = append(ids, job.Recipient(id<<14)) // in several ranges
		switch id % 10 {
		case 0:
			x.screens = append(x.screens, newScreen(ids[id]))
		case 5:
			x.restless = append(x.restless, newScreen(ids[id]))
		}
	}
	_, err = x.svc.AddFollowers(ctx, "news", ids)
	x.must(err)
	for _, s := range x.screens {
		x.connect(s, false)
	}
	for _, s := range x.restless {
		x.tokenOf(s.who) // while there is somebody to give it
	}
}

// run starts the server, which ends at a point.
func (x *fragile) run(ctx context.Context, point string) {
	x.cfg.Args = []string{"--crash", point, "--passed", x.passed}
	x.restart(ctx)
}

// crash works until the server has ended at a point.
func (x *fragile) crash(ctx context.Context, point string) {
	x.srv.Kill()
	x.cfg.Args = []string{"--crash", point, "--passed", x.passed}
	srv, err := proc.Start(ctx, x.cfg)
	if err != nil && strings.Contains(err.Error(), "ended before it was ready") {
		x.run(ctx, "")
		return
	}
	x.must(err)
	x.srv = srv
	x.t.Cleanup(srv.Kill)
	svc, err := srv.Client()
	x.must(err)
	defer svc.Close()
	x.svc = svc
	limit, stop := context.WithTimeout(ctx, 40*time.Second)
	defer stop()
	go func() {
		select {
		case <-srv.Done():
			stop()
		case <-limit.Done():
		}
	}()
	for limit.Err() == nil {
		x.work(limit, point)
	}
	select {
	case <-srv.Done():
	default:
		x.t.Errorf("the server never came %s", point)
	}
}

// work asks for a mixture of jobs; any question may find the server gone.
func (x *fragile) work(ctx context.Context, point string) {
	on := len(x.orders)/6%2 == 0
	for _, s := range x.restless {
		if s.stop(); on {
			x.connect(s, false)
		}
	}
	order := func(ends string, ttl time.Duration) *order {
		o := &order{SubmitJob: api.SubmitJob{Account: "news", Audience: api.AudienceFollowers, Body: fmt.Sprint("job ", len(x.orders)), TTL: api.Duration(ttl),
			IdempotencyKey: fmt.Sprint("order-", len(x.orders))}, point: point, ends: ends}
		x.orders = append(x.orders, o)
		if j, err := x.svc.SubmitJob(ctx, o.SubmitJob); err == nil {
			o.id = j.Job
		}
		return o
	}
	plain := order("", 0)
	order("expire", time.Second)
	for _, ends := range []string{"cancel", "recall"} {
		o := order(ends, 0)
		_, _ = x.svc.WaitJob(ctx, o.id, api.WaitJob{For: job.Sent})
		if ends == "cancel" {
			_, _ = x.svc.CancelJob(ctx, o.id)
		} else {
			_, _ = x.svc.RecallJob(ctx, o.id, api.Recall{Reason: "a test"})
		}
	}
	_, _ = x.svc.PauseJob(ctx, plain.id)
	_, _ = x.svc.ResumeJob(ctx, plain.id)
}

// finish starts the server for good, asks again for all that there may have been no answer
// to, and judges.
func (x *fragile) finish(ctx context.Context) {
	x.srv.Kill()
	x.run(ctx, "")
	for _, s := range x.restless {
		s.stop()
		x.connect(s, false)
	}
	for _, o := range x.orders {
		j, err := x.svc.SubmitJob(ctx, o.SubmitJob)
		x.must(err)
		if !o.id.IsZero() && j.Job != o.id {
			x.t.Fatalf("crash %s: job %s was accepted; asked for again, it is %s", o.point, o.id, j.Job)
		}
		o.id = j.Job
		switch o.ends {
		case "cancel":
			_, err = x.svc.CancelJob(ctx, o.id)
		case "recall":
			_, err = x.svc.RecallJob(ctx, o.id, api.Recall{Reason: "a test"})
		default:
			_, err = x.svc.ResumeJob(ctx, o.id)
		}
		if job.CodeOf(err) != job.CodeConflict { // it is over
			x.must(err)
		}
	}
	for _, o := range x.orders {
		x.settled(ctx, o)
		x.verdict(ctx, o)
	}
	x.must(x.srv.Stop())
	x.known()
}

// settled waits until a job has come to where nothing more happens to it.
func (x *fragile) settled(ctx context.Context, o *order) {
	var j api.Job
	defer func() {
		if x.t.Failed() {
			x.t.Logf("it is %+v", j)
		}
	}()
	x.eventually(ctx, "crash "+o.point+": "+o.ends+" job "+o.id.String()+" comes to rest", 2*time.Minute, func() bool {
		var err error
		j, err = x.svc.GetJob(ctx, o.id)
		x.must(err)
		if j.Counts.Pending+j.Counts.HandedOff+j.Counts.InDoubt > 0 {
			return false
		}
		switch o.ends {
		case "cancel", "recall", "expire":
			return j.State.Terminal() && j.Counts.Parked == 0
		}
		return j.State == job.Sent && j.Counts.Delivered == uint64(len(x.screens)+len(x.restless))
	})
}

// verdict compares what the devices showed with what the ledger says.
func (x *fragile) verdict(ctx context.Context, o *order) {
	shown, taken, unsure := uint64(0), uint64(0), uint64(0)
	for _, s := range slices.Concat(x.screens, x.restless) {
		n, back := s.got(o.id)
		if n > 1 || back > n {
			x.t.Errorf("crash %s: recipient %s showed %s job %s %d times, and took it back %d times", o.point, s.who, o.ends, o.id, n, back)
		}
		shown, taken = shown+uint64(n), taken+uint64(back)
		if n > 0 && x.unsure(ctx, o.id, s.who) {
			unsure++
		}
	}
	r, err := x.svc.ReconcileJob(ctx, o.id)
	x.must(err)
	if !r.Conserved {
		x.t.Errorf("crash %s: %s job %s is not conserved: %v", o.point, o.ends, o.id, r.Violations)
	}
	if shown != r.Delivered+unsure || o.ends == "" && unsure > 0 {
		x.t.Errorf("crash %s: %s job %s was shown to %d, to %d of whom nobody could tell; the ledger says %+v", o.point, o.ends, o.id, shown, unsure, r.Counts)
	}
	if o.ends == "recall" && taken != shown {
		x.t.Errorf("crash %s: of %d who were shown job %s, which was recalled, %d took it back", o.point, shown, o.id, taken)
	}
}

// unsure reports whether the ledger says that nobody can tell whether a recipient was
// shown a message, of a job that ended meanwhile.
func (x *fragile) unsure(ctx context.Context, id job.ID, who job.Recipient) bool {
	e, err := x.svc.ExplainJob(ctx, id, who)
	x.must(err)
	if e.Outcome == job.Delivered {
		return false
	}
	return e.Outcome == job.Failed || slices.ContainsFunc(e.Evidence, func(e api.Evidence) bool { return strings.Contains(e.Says, "may have been shown") })
}

// known compares the writes that there were with those that the test knows of.
func (x *fragile) known() {
	b, err := os.ReadFile(x.passed)
	x.must(err)
	for _, name := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		if _, write, _ := strings.Cut(name, " "); write != firstWrite && !slices.Contains(crashWrites, write) {
			x.t.Errorf("there is a write that the test does not know: %s", name)
		}
	}
}
