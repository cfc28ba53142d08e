package app_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"crier/api"
	"crier/job"
)

// TestFoldsUnderLoad sends jobs until the ledger was folded some times, with kills
// in between; then the parked index is deleted. Every job reconciles to what set
// algebra done here says, before and after, and evidence names the reports.
func TestFoldsUnderLoad(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	x := &trial{t: t, cfg: newTrialConfig(t, "--limit-fold", "1MiB", "--limit-ledger", "64MiB")}
	x.restart(ctx)
	rng := rand.New(rand.NewPCG(7, 7))
	_, err := x.svc.CreateAccount(ctx, api.CreateAccount{Name: "folded"})
	x.must(err)
	// Half of the package follows: the ledger gets a dense set of who does not.
	var everyone, followers bytes.Buffer
	related, size := uint64(0), uint64(600_000)
	var one job.Recipient
	for id := range size {
		fmt.Fprintln(&everyone, id)
		if rng.IntN(2) == 0 {
			fmt.Fprintln(&followers, id)
			related, one = related+1, job.Recipient(id)
		}
	}
	_, err = x.svc.ImportFollowers(ctx, api.ImportFollowers{Format: api.FormatIDs, Account: "folded"}, &followers)
	x.must(err)
	p := x.imported("folded", &everyone)

	var jobs []job.ID
	reconcile := func(id job.ID) {
		t.Helper()
		got, err := x.svc.ReconcileJob(ctx, id)
		x.must(err)
		if !got.Conserved || got.Parked != related || got.Dropped[job.ReasonRelation] != size-related || got.Package != size {
			t.Fatalf("job %s reconciles to %+v, want %d parked of %d", id, got, related, size)
		}
	}
	for folds := 0; folds < 5; folds = x.folds() {
		if len(jobs) > 400 {
			t.Fatalf("after %d jobs the ledger was folded %d times", len(jobs), folds)
		}
		j, err := x.svc.SubmitJob(ctx, api.SubmitJob{Account: "folded", Package: p, Body: fmt.Sprint("number ", len(jobs))})
		x.must(err)
		jobs = append(jobs, j.Job)
		if len(jobs)%40 == 39 { // also while it folds
			x.srv.Kill()
			x.restart(ctx)
		}
		_, err = x.svc.WaitJob(ctx, j.Job, api.WaitJob{For: job.Sent})
		x.must(err)
		reconcile(jobs[rng.IntN(len(jobs))])
	}
	check := func() {
		t.Helper()
		for _, id := range jobs[:10] {
			reconcile(id)
		}
		e, err := x.svc.ExplainJob(ctx, jobs[0], one)
		x.must(err)
		if e.Outcome != job.Parked || len(e.Evidence) != 1 || e.Evidence[0].Report.IsZero() || e.Evidence[0].Seq == 0 {
			t.Fatalf("explained by %+v, want one record in a report", e)
		}
		rep, err := x.svc.VerifyLedger(ctx)
		x.must(err)
		if !rep.Valid {
			t.Fatalf("the ledger is not valid: %v", rep.Problems)
		}
	}
	check()
	before, err := x.svc.GetJob(ctx, jobs[0])
	x.must(err)
	x.srv.Kill()
	x.must(os.RemoveAll(filepath.Join(x.cfg.Dir, "data", "parked")))
	x.restart(ctx)
	check()
	after, err := x.svc.GetJob(ctx, jobs[0])
	x.must(err)
	if fmt.Sprint(after.Counts) != fmt.Sprint(before.Counts) {
		t.Fatalf("with an index from the checkpoint the counts are %+v, before %+v", after.Counts, before.Counts)
	}
	x.must(x.srv.Stop())
}

// imported makes a package of ids and hands it in.
func (x *trial) imported(account string, ids *bytes.Buffer) job.Digest {
	x.t.Helper()
	dir := x.t.TempDir()
	list := filepath.Join(dir, "everyone.txt")
	x.must(os.WriteFile(list, ids.Bytes(), 0o600))
	x.cli(nil, "package", "build", "--from", "ids", list, "--out", dir)
	var p struct{ ID job.Digest }
	x.cli(&p, "package", "import", filepath.Join(dir, "everyone.crpk"), "--account", account)
	return p.ID
}

// folds counts the folds that the ledger records.
func (x *trial) folds() (n int) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err := x.svc.TailLedger(ctx, api.TailLedger{Filter: "led.fold"}, func(api.LedgerEntry) error { n++; return nil })
	x.must(err)
	return n
}
