package app_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"crier/api"
	"crier/internal/crowd"
	"crier/internal/proc"
	"crier/job"
)

// submitting submits jobs one after the other until it is stopped, and keeps those that
// were answered.
type submitting struct {
	mu   sync.Mutex
	jobs []job.ID
	err  error
	stop context.CancelFunc
	done chan struct{}
}

func (s *submitting) answered() []job.ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.jobs)
}

// submitters is how many submit at the same time.
const submitters = 4

// submits begins to submit jobs to a package.
func (x *trial) submits(ctx context.Context, account string, p job.Digest) *submitting {
	ctx, stop := context.WithCancel(ctx)
	s := &submitting{stop: stop, done: make(chan struct{})}
	svc := x.svc
	var all sync.WaitGroup
	submit := func(i int) {
		for ; ; i += submitters {
			j, err := svc.SubmitJob(ctx, api.SubmitJob{Account: account, Package: p, Body: fmt.Sprint("number ", i), IdempotencyKey: fmt.Sprint("key-", i)})
			s.mu.Lock()
			if err == nil {
				s.jobs = append(s.jobs, j.Job)
			} else if ctx.Err() == nil {
				s.err = err
			}
			s.mu.Unlock()
			if err == nil {
				_, err = svc.WaitJob(ctx, j.Job, api.WaitJob{For: job.Sent})
			}
			if err != nil {
				return
			}
		}
	}
	for i := range submitters {
		all.Go(func() { submit(i) })
	}
	go func() { all.Wait(); close(s.done) }()
	return s
}

// halfFollowing makes an account and a package of size ids, half of which follow it.
func (x *trial) halfFollowing(ctx context.Context, account string, size uint64) (p job.Digest, following []job.Recipient) {
	_, err := x.svc.CreateAccount(ctx, api.CreateAccount{Name: account})
	x.must(err)
	rng := rand.New(rand.NewPCG(5, 6))
	var everyone, followers bytes.Buffer
	for id := range size {
		fmt.Fprintln(&everyone, id)
		if rng.IntN(2) == 0 {
			fmt.Fprintln(&followers, id)
			following = append(following, job.Recipient(id))
		}
	}
	_, err = x.svc.ImportFollowers(ctx, api.ImportFollowers{Format: api.FormatIDs, Account: account}, &followers)
	x.must(err)
	return x.imported(account, &everyone), following
}

// TestBackupUnderLoad takes a backup of a server that sends and folds, kills the server,
// and goes on elsewhere with what the backup has: each job that was answered before is
// there and reconciles, nothing of it is sent before it is resumed, and then all of it is.
func TestBackupUnderLoad(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	x := &trial{t: t, cfg: newTrialConfig(t, "--limit-fold", "1MiB", "--limit-ledger", "64MiB")}
	x.restart(ctx)
	const size = 300_000
	p, following := x.halfFollowing(ctx, "kept", size)
	one := following[0]
	load := x.submits(ctx, "kept", p)
	for x.folds() < 1 { // it has a checkpoint, and purged records
		select {
		case <-load.done:
			t.Fatalf("submitting ended: %v", load.err)
		case <-time.After(100 * time.Millisecond):
		}
	}
	before := load.answered()
	to := filepath.Join(t.TempDir(), "backup")
	x.cli(nil, "backup", "--to", to)
	during := len(load.answered()) - len(before)
	for len(load.answered()) < len(before)+during+3 { // it goes on afterwards
		select {
		case <-load.done:
			t.Fatalf("submitting ended: %v", load.err)
		case <-time.After(20 * time.Millisecond):
		}
	}
	load.stop()
	<-load.done
	x.srv.Kill()
	t.Logf("%d jobs were answered before the backup, %d during it, %d after it", len(before), during, len(load.answered())-len(before)-during)

	dir := t.TempDir()
	var restored struct {
		Paused bool
		Open   []job.ID
	}
	x.cli(&restored, "restore", "--from", to, "--data", filepath.Join(dir, "data"))
	for _, id := range before {
		if !slices.Contains(restored.Open, id) {
			t.Fatalf("job %s, which was answered before the backup, is not in it", id)
		}
	}
	x.cfg = proc.Config{Binary: x.cfg.Binary, Dir: dir}
	x.restart(ctx)
	for _, id := range []job.ID{before[0], before[len(before)/2], before[len(before)-1]} {
		rec, err := x.svc.ReconcileJob(ctx, id)
		x.must(err)
		if !rec.Conserved || rec.Package != size || rec.Delivered+rec.InDoubt+rec.HandedOff != 0 {
			t.Errorf("restored, job %s reconciles to %+v", id, rec)
		}
	}
	verified, err := x.svc.VerifyLedger(ctx)
	x.must(err)
	if !verified.Valid {
		t.Errorf("the restored ledger: %v", verified.Problems)
	}

	// The last job is resumed first: those before it would come before it.
	x.child, err = proc.StartChild(x.cfg.Binary, "demo", "crowd")
	x.must(err)
	t.Cleanup(func() { x.child.Stop() })
	token, err := x.svc.MintToken(ctx, api.MintToken{Recipient: &one})
	x.must(err)
	var rep crowd.Report
	x.must(x.child.Ask(crowd.Request{Gateway: x.srv.Gateway}, &rep))
	x.must(x.child.Ask(crowd.Request{Connect: []crowd.Member{{Recipient: one, Token: token.Token, Kind: crowd.Speaks}}}, &rep))
	last, zero := before[len(before)-1], 0
	_, err = x.svc.ResumeJob(ctx, last)
	x.must(err)
	for shown := 0; shown == 0; {
		x.must(x.child.Ask(crowd.Request{Since: &zero}, &rep))
		for _, r := range rep.Receipts {
			if r.Job != last {
				t.Fatalf("job %s was sent although it is paused", r.Job)
			}
			shown++
		}
		select {
		case <-ctx.Done():
			t.Fatal("nobody is shown the job that was resumed")
		case <-time.After(50 * time.Millisecond):
		}
	}
	for _, id := range restored.Open {
		_, err := x.svc.ResumeJob(ctx, id)
		x.must(err)
	}
	for _, id := range restored.Open {
		j, err := x.svc.WaitJob(ctx, id, api.WaitJob{For: job.Sent})
		x.must(err)
		if j.State != job.Sent {
			t.Fatalf("resumed, job %s is %s: %s", id, j.State, j.Reason)
		}
	}
	x.shownAll(ctx, restored.Open, one)
	x.eventually(ctx, "SQL lists all jobs as sent", time.Minute, func() bool {
		list, err := x.svc.ListJobs(ctx, api.ListJobs{State: job.Sent.String(), Page: api.Page{Limit: api.MaxPage}})
		x.must(err)
		return len(list.Jobs) == len(restored.Open)
	})
	for _, id := range restored.Open {
		rec, err := x.svc.ReconcileJob(ctx, id)
		x.must(err)
		related := uint64(len(following))
		if !rec.Conserved || rec.Parked != related-1 || rec.Delivered != 1 || rec.Dropped[job.ReasonRelation] != size-related {
			t.Fatalf("at the end job %s reconciles to %+v, want %d parked", id, rec, related-1)
		}
	}
	x.must(x.srv.Stop())
}

// shownAll waits until a recipient was shown each job and it is settled, and finds none
// shown twice.
func (x *trial) shownAll(ctx context.Context, jobs []job.ID, to job.Recipient) {
	x.t.Helper()
	zero, rep := 0, crowd.Report{}
	for _, id := range jobs {
		for {
			e, err := x.svc.ExplainJob(ctx, id, to)
			x.must(err)
			if e.Outcome == job.Delivered {
				break
			}
			select {
			case <-ctx.Done():
				x.t.Fatalf("job %s is %s for recipient %s", id, e.Outcome, to)
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	x.must(x.child.Ask(crowd.Request{Since: &zero}, &rep))
	shown := map[job.ID]int{}
	for _, r := range rep.Receipts {
		shown[r.Job]++
	}
	for _, id := range jobs {
		if shown[id] != 1 {
			x.t.Errorf("job %s was shown %d times", id, shown[id])
		}
	}
}
