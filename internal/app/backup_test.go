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

// connected connects a recipient's client, which speaks the protocol.
func (x *trial) connected(ctx context.Context, r job.Recipient) {
	x.t.Helper()
	token, err := x.svc.MintToken(ctx, api.MintToken{Recipient: &r})
	x.must(err)
	var rep crowd.Report
	x.must(x.child.Ask(crowd.Request{Connect: []crowd.Member{{Recipient: r, Token: token.Token, Kind: crowd.Speaks}}}, &rep))
}

// shownTo counts how often a recipient was shown each job so far.
func (x *trial) shownTo(r job.Recipient) map[job.ID]int {
	x.t.Helper()
	zero, rep := 0, crowd.Report{}
	x.must(x.child.Ask(crowd.Request{Since: &zero}, &rep))
	shown := map[job.ID]int{}
	for _, got := range rep.Receipts {
		if got.Recipient == r {
			shown[got.Job]++
		}
	}
	return shown
}

// TestBackupUnderLoad takes a backup of a server that sends and folds, kills the server,
// and goes on elsewhere with what the backup has: each job that was answered before is
// there and reconciles, nothing of it is sent before it is resumed, and then all of it is.
// Who was shown a job before the backup is not shown it again.
func TestBackupUnderLoad(t *testing.T) {
	t.Parallel()
	x := &trial{t: t, cfg: newTrialConfig(t, "--limit-fold", "1MiB", "--limit-ledger", "64MiB")}
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute) // without building
	defer cancel()
	x.restart(ctx)
	x.cfg.Listen = mustHost(t, x.srv.API)
	const size = 300_000
	p, following := x.halfFollowing(ctx, "kept", size)
	late, early := following[0], following[1] // who connects after the restore, and before
	var err error
	x.child, err = proc.StartChild(x.cfg.Binary, "demo", "crowd")
	x.must(err)
	t.Cleanup(func() { x.child.Stop() })
	x.must(x.child.Ask(crowd.Request{Gateway: x.srv.Gateway}, new(crowd.Report)))
	x.connected(ctx, early)
	load := x.submits(ctx, "kept", p)
	goesOn := func(until func() bool) {
		t.Helper()
		for !until() {
			select {
			case <-load.done:
				t.Fatalf("submitting ended: %v", load.err)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	goesOn(func() bool { return x.folds() >= 1 }) // it has a checkpoint, and purged records
	var delivered []job.ID                        // to who was there early, for all that the ledger knows
	for _, id := range load.answered() {
		e, err := x.svc.ExplainJob(ctx, id, early)
		x.must(err)
		if e.Outcome == job.Delivered {
			delivered = append(delivered, id)
		}
	}
	before := load.answered()
	to := filepath.Join(t.TempDir(), "backup")
	x.cli(nil, "backup", "--to", to)
	if acts, err := x.svc.ListAudit(ctx, api.ListAudit{Operation: "backup", Result: "done"}); err != nil || len(acts.Acts) != 1 {
		t.Errorf("of the backup the audit log has %+v, %v", acts.Acts, err)
	}
	during := len(load.answered()) - len(before)
	goesOn(func() bool { return len(load.answered()) >= len(before)+during+3 })
	load.stop()
	<-load.done
	x.srv.Kill()
	t.Logf("%d jobs were answered before the backup, %d during it, %d after it", len(before), during, len(load.answered())-len(before)-during)

	restored := x.restored(ctx, to)
	for _, id := range before {
		if !slices.Contains(restored, id) {
			t.Fatalf("job %s, which was answered before the backup, is not in it", id)
		}
	}
	if len(delivered) < 10 || len(delivered) > len(before) {
		t.Fatalf("void: %d of %d jobs were delivered to the early one before the backup", len(delivered), len(before))
	}
	for _, id := range []job.ID{before[0], before[len(before)/2], before[len(before)-1]} {
		rec, err := x.svc.ReconcileJob(ctx, id)
		x.must(err)
		if !rec.Conserved || rec.Package != size || rec.Delivered > 1 {
			t.Errorf("restored, job %s reconciles to %+v", id, rec)
		}
	}
	verified, err := x.svc.VerifyLedger(ctx)
	x.must(err)
	if !verified.Valid {
		t.Errorf("the restored ledger: %v", verified.Problems)
	}

	// The last job is resumed first: those before it would come before it.
	seen := x.shownTo(early)
	x.connected(ctx, late)
	last := before[len(before)-1]
	_, err = x.svc.ResumeJob(ctx, last)
	x.must(err)
	x.eventually(ctx, "the late one is shown the job that is resumed", time.Minute, func() bool { return x.shownTo(late)[last] == 1 })
	if got := x.shownTo(late); len(got) != 1 {
		t.Errorf("%d jobs were sent to the late one, and one is resumed", len(got))
	}
	for id, n := range x.shownTo(early) {
		if n != seen[id] && id != last {
			t.Errorf("job %s was sent to the early one although it is paused", id)
		}
	}
	for _, id := range restored {
		_, err := x.svc.ResumeJob(ctx, id)
		x.must(err)
	}
	x.endsWell(ctx, restored, size, following)
	for id, n := range x.shownTo(late) {
		if n != 1 {
			t.Errorf("job %s was shown %d times to the late one", id, n)
		}
	}
	again := 0
	for id, n := range x.shownTo(early) {
		if n > 1 && slices.Contains(delivered, id) {
			t.Errorf("job %s, delivered before the backup, was shown %d times", id, n)
		}
		if n > 1 {
			again++
		}
	}
	t.Logf("the early one was shown %d jobs, %d of them again, none of the %d that were delivered before the backup", len(x.shownTo(early)), again, len(delivered))
	x.must(x.srv.Stop())
}

// restored starts a server at the old address on what a backup has, and gives the jobs that
// are not over.
func (x *trial) restored(ctx context.Context, from string) []job.ID {
	x.t.Helper()
	dir := x.t.TempDir()
	var made struct {
		Paused bool
		Open   []job.ID
	}
	x.cli(&made, "restore", "--from", from, "--data", filepath.Join(dir, "data"))
	if !made.Paused {
		x.t.Error("nothing is paused")
	}
	x.cfg = proc.Config{Binary: x.cfg.Binary, Dir: dir, Listen: x.cfg.Listen}
	x.restart(ctx)
	return made.Open
}

// endsWell waits until all jobs are sent, and delivered to the first two of the followers,
// and holds the ledger and SQL against the sets.
func (x *trial) endsWell(ctx context.Context, jobs []job.ID, size uint64, following []job.Recipient) {
	t := x.t
	t.Helper()
	for _, id := range jobs {
		j, err := x.svc.WaitJob(ctx, id, api.WaitJob{For: job.Sent})
		x.must(err)
		if j.State != job.Sent {
			t.Fatalf("resumed, job %s is %s: %s", id, j.State, j.Reason)
		}
	}
	related := uint64(len(following))
	for _, id := range jobs {
		x.eventually(ctx, fmt.Sprintf("job %s is delivered to two, and parked for the others", id), time.Minute, func() bool {
			rec, err := x.svc.ReconcileJob(ctx, id)
			x.must(err)
			return rec.Conserved && rec.Parked == related-2 && rec.Delivered == 2 && rec.Dropped[job.ReasonRelation] == size-related
		})
		for _, r := range following[:2] {
			if e, err := x.svc.ExplainJob(ctx, id, r); err != nil || e.Outcome != job.Delivered {
				t.Errorf("job %s is %s for recipient %s, %v", id, e.Outcome, r, err)
			}
		}
	}
	x.eventually(ctx, "SQL lists all jobs as sent", time.Minute, func() bool {
		list, err := x.svc.ListJobs(ctx, api.ListJobs{State: job.Sent.String(), Page: api.Page{Limit: api.MaxPage}})
		x.must(err)
		return len(list.Jobs) == len(jobs)
	})
}
