package app_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"crier/api"
	"crier/internal/crowd"
	"crier/internal/proc"
	"crier/job"
)

// binary and fragileBinary build their command once for all tests of this package.
var (
	binary        = built("crier/cmd/crier")
	fragileBinary = built("crier/internal/app/fragile")
)

// builtIn is the directory of what is built.
var builtIn string

func built(command string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		path := filepath.Join(builtIn, filepath.Base(command))
		cmd := exec.Command("go", "build", "-o", path, command)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("building %s: %w\n%s", command, err, out)
		}
		return path, nil
	})
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "crier-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	builtIn = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// trial is a server, its clients in another process, and one job.
type trial struct {
	t       *testing.T
	cfg     proc.Config
	srv     *proc.Server
	svc     api.Service
	child   *proc.Child
	members map[job.Recipient]crowd.Kind
	due     map[job.Recipient]bool
	tokens  map[job.Recipient]string
	refused map[job.Recipient]job.Reason // who is not due, and why, but for the control group
}

const (
	killPackage = 2_000_000
	killClients = 500
	killCap     = 2
	killControl = 10 // percent
)

// TestKill kills the server with SIGKILL when a seeded part of a job is done, which goes through
// every filter, starts it again, and compares what the clients saw with what the ledger says.
// CRIER_KILLS is the number of kills; 3 by default.
func TestKill(t *testing.T) {
	t.Parallel()
	kills := 3
	if s := os.Getenv("CRIER_KILLS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("CRIER_KILLS: %v", err)
		}
		kills = n
	}
	for seed := range kills {
		t.Run(fmt.Sprintf("seed%d", seed), func(t *testing.T) {
			t.Parallel()
			kill(t, rand.New(rand.NewPCG(uint64(seed), 99)))
		})
	}
}

func kill(t *testing.T, rng *rand.Rand) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	x := &trial{t: t, members: map[job.Recipient]crowd.Kind{}, due: map[job.Recipient]bool{}, refused: map[job.Recipient]job.Reason{}}
	x.start(ctx)
	x.populate(ctx, rng)
	submit := api.SubmitJob{Account: "killed", Audience: api.AudienceFollowers, Body: "once", Rate: killClients / 12, ExcludeSegments: []string{"out"},
		ControlGroup: killControl, SendOnce: &api.SendOnce{Key: "once"}, IdempotencyKey: "kill"}
	j, err := x.svc.SubmitJob(ctx, submit)
	x.must(err)
	at := 0.05 + 0.9*rng.Float64()
	done := x.watchTo(ctx, j.Job, at)
	x.srv.Kill()
	if done == 0 || done >= 1 {
		t.Fatalf("void: %.0f %% of the job was done when the server was killed", 100*done)
	}
	t.Logf("killed with %.1f %% of the blocks done", 100*done)
	x.cfg.Listen = mustHost(t, x.srv.API)
	x.restart(ctx)
	again, err := x.svc.SubmitJob(ctx, submit)
	x.must(err)
	if again.Job != j.Job {
		t.Fatalf("the same submit after the crash made another job: %s, not %s", again.Job, j.Job)
	}
	j, err = x.svc.WaitJob(ctx, j.Job, api.WaitJob{For: job.Sent})
	x.must(err)
	if j.State != job.Sent {
		t.Fatalf("after the restart the job is %s: %s", j.State, j.Reason)
	}
	x.holdOut(ctx, j.Job)
	x.quiet(ctx, j.Job)
	x.judge(ctx, j.Job)
}

func (x *trial) must(err error) {
	x.t.Helper()
	if err != nil {
		x.t.Fatal(err)
	}
}

func mustHost(t *testing.T, s string) string {
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}

func (x *trial) start(ctx context.Context) {
	path, err := binary()
	x.must(err)
	x.cfg = proc.Config{Binary: path, Dir: x.t.TempDir(), Args: []string{fmt.Sprintf("--frequency-cap=%d", killCap), "--frequency-zone=" + noonZone()}}
	x.restart(ctx)
	x.child, err = proc.StartChild(path, "demo", "crowd")
	x.must(err)
	x.t.Cleanup(func() { x.child.Stop() })
	var rep crowd.Report
	x.must(x.child.Ask(crowd.Request{Gateway: x.srv.Gateway}, &rep))
}

func (x *trial) restart(ctx context.Context) {
	srv, err := proc.Start(ctx, x.cfg)
	x.must(err)
	x.srv = srv
	x.t.Cleanup(srv.Kill)
	svc, err := srv.Client()
	x.must(err)
	x.t.Cleanup(svc.Close)
	x.svc = svc
}

// populate makes the account and connects clients of every kind.
func (x *trial) populate(ctx context.Context, rng *rand.Rand) {
	_, err := x.svc.CreateAccount(ctx, api.CreateAccount{Name: "killed"})
	x.must(err)
	pr, pw := io.Pipe()
	var online []job.Recipient
	go func() {
		w := bufio.NewWriter(pw)
		id := uint32(0)
		for i := range killPackage {
			id += 1 + rng.Uint32N(3)
			if i%(killPackage/killClients) == 0 {
				online = append(online, job.Recipient(id))
			}
			fmt.Fprintln(w, id)
		}
		pw.CloseWithError(w.Flush())
	}()
	_, err = x.svc.ImportFollowers(ctx, api.ImportFollowers{Format: api.FormatIDs, Account: "killed"}, pr)
	x.must(err)
	kinds := []crowd.Kind{crowd.Speaks, crowd.Speaks, crowd.Speaks, crowd.Speaks, crowd.Speaks, crowd.Speaks, crowd.Slow, crowd.Restless, crowd.Mute, crowd.Deaf}
	var members []crowd.Member
	why := map[job.Reason][]job.Recipient{}
	for i, id := range online {
		token, err := x.svc.MintToken(ctx, api.MintToken{Recipient: &id})
		x.must(err)
		m := crowd.Member{Recipient: id, Token: token.Token, Kind: kinds[rng.IntN(len(kinds))]}
		members = append(members, m)
		x.members[id] = m.Kind
		reason := []job.Reason{job.ReasonSuppressed, job.ReasonTargeting, job.ReasonSendOnce, job.ReasonFrequency, job.NoReason}[min(i%25, 4)]
		if reason == job.NoReason || reason >= job.ReasonSendOnce && m.Kind != crowd.Speaks {
			x.due[id] = true // the latter have to acknowledge what comes before
			continue
		}
		x.refused[id] = reason
		why[reason] = append(why[reason], id)
	}
	_, err = x.svc.AddSuppressed(ctx, api.SuppressionChange{IDs: why[job.ReasonSuppressed]})
	x.must(err)
	for name, ids := range map[string][]job.Recipient{"out": why[job.ReasonTargeting], "got it": why[job.ReasonSendOnce], "got much": why[job.ReasonFrequency]} {
		_, err := x.svc.CreateSegment(ctx, api.CreateSegment{Name: name})
		x.must(err)
		_, err = x.svc.AddToSegment(ctx, name, ids)
		x.must(err)
	}
	var rep crowd.Report
	x.must(x.child.Ask(crowd.Request{Connect: members}, &rep))
	x.before(ctx, "got it", len(why[job.ReasonSendOnce]), &api.SendOnce{Key: "once"})
	for range killCap {
		x.before(ctx, "got much", len(why[job.ReasonFrequency]), nil)
	}
}

// before sends to a segment, whose n clients acknowledge.
func (x *trial) before(ctx context.Context, segment string, n int, once *api.SendOnce) {
	j, err := x.svc.SubmitJob(ctx, api.SubmitJob{Account: "killed", Audience: api.AudienceFollowers, Body: "before", IncludeSegments: []string{segment}, SendOnce: once})
	x.must(err)
	for j.Counts.Delivered < uint64(n) {
		select {
		case <-ctx.Done():
			x.t.Fatalf("before the kill %d of the %d clients of %q have acknowledged", j.Counts.Delivered, n, segment)
		case <-time.After(50 * time.Millisecond):
		}
		j, err = x.svc.GetJob(ctx, j.Job)
		x.must(err)
	}
}

// watchTo follows the job until a part of its blocks is done and gives that part.
func (x *trial) watchTo(ctx context.Context, id job.ID, part float64) float64 {
	var done float64
	err := x.svc.WatchJob(ctx, id, func(j api.Job) error {
		done = float64(j.Done()) / float64(j.Recipients)
		if done >= part {
			return io.EOF
		}
		return nil
	})
	if err != nil && err != io.EOF {
		x.t.Fatal(err)
	}
	return done
}

// holdOut takes the control group out of who is due.
func (x *trial) holdOut(ctx context.Context, id job.ID) {
	for r := range x.due {
		e, err := x.svc.ExplainJob(ctx, id, r)
		x.must(err)
		if e.Reason == job.ReasonControl {
			delete(x.due, r)
		}
	}
}

// quiet waits until nobody is handed off and every client that speaks and is due
// has been delivered, or a minute has passed: the verdict comes later.
func (x *trial) quiet(ctx context.Context, id job.ID) {
	limit := time.Now().Add(time.Minute)
	for time.Now().Before(limit) {
		var rep crowd.Report
		x.must(x.child.Ask(crowd.Request{Report: &id}, &rep))
		missing := 0
		for r := range x.due {
			if rep.Shown[r] == 0 && x.speaks(r) {
				missing++
			}
		}
		j, err := x.svc.GetJob(ctx, id)
		x.must(err)
		if missing == 0 && j.Counts.HandedOff == 0 {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (x *trial) speaks(r job.Recipient) bool {
	k := x.members[r]
	return k != crowd.Mute && k != crowd.Deaf
}

// judge compares the clients' records with the ledger.
func (x *trial) judge(ctx context.Context, id job.ID) {
	t := x.t
	rec, err := x.svc.ReconcileJob(ctx, id)
	x.must(err)
	if !rec.Conserved {
		t.Errorf("not conserved: %v", rec.Violations)
	}
	var rep crowd.Report
	x.must(x.child.Ask(crowd.Request{Report: &id}, &rep))
	doubt, delivered, dropped := uint64(0), uint64(0), map[job.Reason]uint64{}
	for r := range x.members {
		shown := rep.Shown[r]
		e, err := x.svc.ExplainJob(ctx, id, r)
		x.must(err)
		switch e.Outcome {
		case job.InDoubt:
			doubt++
		case job.Delivered:
			delivered++
		case job.Dropped:
			dropped[e.Reason]++
		}
		why := x.refused[r]
		switch {
		case e.Outcome == job.Dropped && shown > 0:
			t.Errorf("recipient %s is dropped for %s and showed it", r, e.Reason)
		case e.Outcome == job.Dropped && e.Reason == job.ReasonControl && why != job.ReasonSuppressed && why != job.ReasonTargeting:
		case why != job.NoReason && (e.Outcome != job.Dropped || e.Reason != why):
			t.Errorf("recipient %s is %s (%s), want it dropped for %s", r, e.Outcome, e.Reason, why)
		case why != job.NoReason:
		case x.speaks(r) && (shown != 1 || e.Outcome != job.Delivered):
			t.Errorf("recipient %s (%s) showed it %d times and is %s: %+v", r, x.members[r], shown, e.Outcome, e.Evidence)
		case shown > 1:
			t.Errorf("recipient %s (%s) showed it %d times under hold", r, x.members[r], shown)
		case shown == 0 && e.Outcome != job.InDoubt && e.Outcome != job.Parked:
			t.Errorf("recipient %s (%s) never showed it and is %s", r, x.members[r], e.Outcome)
		}
	}
	if rec.InDoubt != doubt || rec.Delivered != delivered {
		t.Errorf("reconcile says %d in doubt and %d delivered; explained one by one they are %d and %d", rec.InDoubt, rec.Delivered, doubt, delivered)
	}
	if rec.InDoubt == 0 {
		t.Error("nobody is in doubt although some clients never acknowledge")
	}
	for _, reason := range []job.Reason{job.ReasonSuppressed, job.ReasonTargeting, job.ReasonSendOnce, job.ReasonFrequency} {
		if n := rec.Dropped[reason]; n != dropped[reason] || n == 0 { // nobody else has cause for it
			t.Errorf("reconcile says %d are dropped for %s; explained one by one they are %d", n, reason, dropped[reason])
		}
	}
	if share := 100 * float64(rec.Dropped[job.ReasonControl]) / killPackage; share < killControl-0.2 || share > killControl+0.2 {
		t.Errorf("%.2f %% are in the control group, want %d", share, killControl)
	}
	t.Logf("delivered %d, in doubt %d, parked %d, dropped %v; clients' last errors %v", rec.Delivered, rec.InDoubt, rec.Parked, rec.Dropped, rep.Errors)
	x.must(x.srv.Stop())
}
