package app_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"crier/api"
	"crier/internal/proc"
	"crier/job"
)

// tracer is a program that runs crier and writes down what it syncs.
func tracer(t *testing.T, dir, out string) string {
	crier, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	if said, err := exec.Command("strace", "-f", "-e", "trace=fsync", "-o", os.DevNull, "true").CombinedOutput(); err != nil {
		t.Fatalf("what is synced is counted by strace, which must be there and allowed to trace: %v\n%s", err, said)
	}
	path := filepath.Join(dir, "traced")
	script := fmt.Sprintf("#!/bin/sh\nexec strace -f -y --seccomp-bpf -e trace=fsync,fdatasync -o %s %s \"$@\"\n", out, crier)
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// syncs counts the files' syncs so far, by what the files are.
func syncs(t *testing.T, trace string) map[string]int {
	b, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	n := map[string]int{}
	for line := range strings.Lines(string(b)) {
		for what, part := range map[string]string{"ledger": "/streams/LEDGER/msgs/", "controls": "/streams/CTL/msgs/", "blobs": "/data/blobs/", "sql": "/crier.db-wal"} {
			if strings.Contains(line, "sync(") && strings.Contains(line, part) {
				n[what]++
			}
		}
	}
	return n
}

// TestSyncedBeforeItCounts counts what a server syncs against what it acknowledges: a kill
// of the process never tells, for what the kernel has survives it.
func TestSyncedBeforeItCounts(t *testing.T) {
	t.Parallel()
	x := &trial{t: t, cfg: proc.Config{Dir: t.TempDir()}}
	trace := filepath.Join(x.cfg.Dir, "trace")
	x.cfg.Binary = tracer(t, x.cfg.Dir, trace)
	ctx := t.Context()
	x.restart(ctx)
	stored := func() (ledger int) {
		x.must(x.svc.TailLedger(ctx, api.TailLedger{}, func(api.LedgerEntry) error { ledger++; return nil }))
		return ledger
	}

	before, records := syncs(t, trace), stored()
	const accounts, jobs = 10, 20
	for i := range accounts {
		_, err := x.svc.CreateAccount(ctx, api.CreateAccount{Name: fmt.Sprint("a", i)})
		x.must(err)
	}
	_, err := x.svc.AddFollowers(ctx, "a0", []job.Recipient{1, 1 << 20, 2 << 20})
	x.must(err)
	for i := range jobs {
		j, err := x.svc.SubmitJob(ctx, api.SubmitJob{Account: "a0", Audience: api.AudienceFollowers, Body: fmt.Sprint("job ", i)})
		x.must(err)
		_, err = x.svc.PauseJob(ctx, j.Job)
		x.must(err)
		_, err = x.svc.ResumeJob(ctx, j.Job)
		x.must(err)
		_, err = x.svc.WaitJob(ctx, j.Job, api.WaitJob{For: job.Sent, Timeout: 20 * time.Second})
		x.must(err)
	}
	after, records := syncs(t, trace), stored()-records
	for what, least := range map[string]int{"ledger": records, "controls": 2 * jobs, "blobs": jobs, "sql": accounts} {
		if n := after[what] - before[what]; n < least {
			t.Errorf("%s: %d syncs for %d writes that were acknowledged one after the other", what, n, least)
		} else {
			t.Logf("%s: %d syncs for %d writes that were acknowledged", what, n, least)
		}
	}
	if records < 10*jobs {
		t.Errorf("%d jobs left only %d records", jobs, records)
	}
}
