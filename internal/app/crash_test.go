package app_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"crier/api"
	"crier/internal/proc"
	"crier/job"
)

// crashWrites are the writes that outlive a process: the records of the ledger by what is
// in them, what is purged of it, the controls, the index of what is parked, and what the
// gateway accepted.
var crashWrites = []string{
	"open", "charge", "reserve", "drain", "done", "outcome", "seal",
	"claim job", "claim slice", "claim range", "claim role",
	"job submitted", "job queued", "job packed", "job preparing", "job prepared", "job sending", "job sent", "job completed", "job expired",
	"job cancelling", "job cancelled", "job recalling", "job recalled",
	"control", "control cancel", "control recall",
	"fold", "purge", "index", "acknowledged", "freed", "accepted",
	"claim journal", "doubt", "decide", // of what was accepted
}

// firstWrite comes once in the life of a data directory.
const firstWrite = "cluster"

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

// crashParts is how many servers share the writes: much of the time is waiting.
const crashParts = 2

// TestCrashPoints ends the server before and after each write that outlives it, once each,
// under a mixture of jobs, and goes on with what is there. Nothing that was accepted may
// be lost, and no device shown a message twice.
func TestCrashPoints(t *testing.T) {
	t.Parallel()
	for part := range slices.Chunk(crashWrites, (len(crashWrites)+crashParts-1)/crashParts) {
		t.Run(part[0], func(t *testing.T) {
			t.Parallel()
			crashPoints(t, part)
		})
	}
}

// crashPoints does a part of the writes to a server of its own.
func crashPoints(t *testing.T, writes []string) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	x := &fragile{trial: trial{t: t, cfg: proc.Config{Dir: t.TempDir()}}}
	var err error
	x.cfg.Binary, err = fragileBinary()
	x.must(err)
	x.passed = filepath.Join(x.cfg.Dir, "passed")
	x.begin(ctx)
	for _, write := range writes {
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
	x.innocent()
	x.cfg.Args = []string{"--crash", point, "--passed", x.passed}
	x.restart(ctx)
}

// innocent forgets what was in hand when the server ended: it is the test that ends it, again and
// again, and a job on which a process ends five times in a row is quarantined.
func (x *fragile) innocent() {
	if err := os.Remove(filepath.Join(x.cfg.Dir, "data", "inhand")); !errors.Is(err, os.ErrNotExist) {
		x.must(err)
	}
}

// crash works until the server has ended at a point. Some of the writes come only after a start
// that found work half done, so one that does not come is waited for again after a kill
// in the middle of work.
func (x *fragile) crash(ctx context.Context, point string) {
	for range 4 {
		if x.ended(ctx, point) {
			return
		}
	}
	x.t.Errorf("the server never came %s", point)
}

// ended starts the server anew, works, and reports whether it has ended at a point before long.
func (x *fragile) ended(ctx context.Context, point string) bool {
	x.srv.Kill()
	x.innocent()
	x.cfg.Args = []string{"--crash", point, "--passed", x.passed}
	srv, err := proc.Start(ctx, x.cfg)
	if err != nil && strings.Contains(err.Error(), "ended before it was ready") {
		x.run(ctx, "")
		return true
	}
	x.must(err)
	x.srv = srv
	x.t.Cleanup(srv.Kill)
	svc, err := srv.Client()
	x.must(err)
	defer svc.Close()
	x.svc = svc
	limit, stop := context.WithTimeout(ctx, 15*time.Second)
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
		return true
	default:
		return false
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
	order("expire", time.Millisecond) // nobody gets it
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
		if o.ends == "recall" {
			x.takenBack(ctx, o)
		}
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

// takenBack waits until a recalled job's withdrawal has come to whoever showed it: it is a job of its
// own, and who was away has much that waits.
func (x *fragile) takenBack(ctx context.Context, o *order) {
	x.eventually(ctx, "crash "+o.point+": all who were shown job "+o.id.String()+" take it back", time.Minute, func() bool {
		return !slices.ContainsFunc(slices.Concat(x.screens, x.restless), func(s *screen) bool {
			n, back := s.got(o.id)
			return back < n
		})
	})
}

// verdict compares what the devices showed with what the ledger says.
func (x *fragile) verdict(ctx context.Context, o *order) {
	shown, taken, unsure := uint64(0), uint64(0), uint64(0)
	for _, s := range slices.Concat(x.screens, x.restless) {
		n, back := s.got(o.id)
		// Who may have been shown a message that is recalled is told to take it back, shown or not.
		if n > 1 || back > 1 || back > n && !x.unsure(ctx, o.id, s.who) {
			x.t.Errorf("crash %s: recipient %s showed %s job %s %d times, and took it back %d times", o.point, s.who, o.ends, o.id, n, back)
		}
		if n > 0 {
			shown, taken = shown+uint64(n), taken+uint64(back)
			if x.unsure(ctx, o.id, s.who) {
				unsure++
			}
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
