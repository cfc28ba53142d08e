package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"crier/api"
	"crier/api/problem"
	"crier/internal/crowd"
	"crier/internal/proc"
	"crier/job"
)

// Times of the promise; what must never be is held whatever they are.
const (
	refusesWithin  = time.Second
	recoversWithin = 30 * time.Second
	// slack is for a machine that is busy with other tests.
	slack = 10
)

// smallDisk mounts a file system of some MiB, which ends with the test. Where none can be
// mounted, TestFullDisk has a disk that only says that it is full.
func smallDisk(t *testing.T, dir string, mib int) bool {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("crier-test", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", mib)); err != nil {
		t.Logf("no small file system (%v): a real full disk is tested where one can be mounted", err)
		return false
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return true
}

// fillUp writes a file until its disk has no more than so many bytes free.
func fillUp(t *testing.T, path string, leave int64) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for part := int64(1 << 20); ; {
		var fs syscall.Statfs_t
		if err := syscall.Statfs(filepath.Dir(path), &fs); err != nil {
			t.Fatal(err)
		}
		free := int64(fs.Bavail) * fs.Bsize
		if free <= leave {
			return
		}
		_, err := f.Write(make([]byte, min(part, free-leave)))
		if errors.Is(err, syscall.ENOSPC) {
			return // others took the rest
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// post submits a job with a body of its own, once, without a client that tries again.
func (x *trial) post(ctx context.Context, account, body string) (status int, p problem.Problem, took time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, slack*refusesWithin)
	defer cancel()
	b, err := json.Marshal(map[string]string{"account": account, "audience": api.AudienceFollowers, "body": body})
	x.must(err)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, x.srv.API+"/v1/jobs", bytes.NewReader(b))
	x.must(err)
	r.Header.Set("Authorization", "Bearer "+x.srv.Token)
	r.Header.Set("Content-Type", "application/json")
	began := time.Now()
	a, err := http.DefaultClient.Do(r)
	took = time.Since(began)
	if err != nil { // its parts ended under it
		return 0, p, took
	}
	defer a.Body.Close()
	b, err = io.ReadAll(a.Body)
	if err != nil {
		return 0, p, took
	}
	if a.StatusCode >= 400 {
		x.must(json.Unmarshal(b, &p))
		if a.Header.Get("Content-Type") != "application/problem+json" || a.StatusCode == http.StatusInsufficientStorage && a.Header.Get("Retry-After") == "" {
			x.t.Errorf("a refusal with the headers %v", a.Header)
		}
	}
	return a.StatusCode, p, took
}

// refusedSoon submits until a job is refused because the disk is full.
func (x *trial) refusedSoon(ctx context.Context, account string) {
	x.t.Helper()
	for began := time.Now(); ; {
		status, p, took := x.post(ctx, account, "to a full disk")
		if status == http.StatusInsufficientStorage {
			x.t.Logf("refused %s after the disk was full, within %s: %s", time.Since(began).Round(time.Millisecond), took.Round(time.Millisecond), p.Detail)
			if p.Code != string(job.CodeFull) || !strings.Contains(p.Detail, "disk") || !strings.Contains(p.Detail, "free") {
				x.t.Errorf("the refusal is %+v", p)
			}
			return
		}
		if time.Since(began) > slack*refusesWithin {
			x.t.Fatalf("the last submit on a full disk was answered %d (%+v) within %s", status, p, took)
		}
	}
}

// hurried submits jobs to an account's followers, each until it is answered, and keeps
// these. It ends with ctx.
func (x *trial) hurried(ctx context.Context, account string) (jobs func() []job.ID) {
	var mu sync.Mutex
	var all []job.ID
	done := make(chan struct{})
	svc := x.svc
	go func() {
		defer close(done)
		for i := 0; ctx.Err() == nil; {
			j, err := svc.SubmitJob(ctx, api.SubmitJob{Account: account, Audience: api.AudienceFollowers, Body: fmt.Sprint("number ", i), IdempotencyKey: fmt.Sprint("key-", i)})
			if err == nil {
				mu.Lock()
				all = append(all, j.Job)
				mu.Unlock()
				i++
			}
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}()
	return func() []job.ID {
		if ctx.Err() != nil {
			<-done
		}
		mu.Lock()
		defer mu.Unlock()
		return append([]job.ID{}, all...)
	}
}

// TestRealFullDisk fills the disk of a server that sends, to its very end and to what it
// must have, and frees it: it refuses, nothing is sent, and all goes on by itself.
func TestRealFullDisk(t *testing.T) {
	t.Parallel()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute) // without building
	defer cancel()
	x := &trial{t: t, cfg: proc.Config{Binary: path, Dir: t.TempDir(), Args: []string{"--limit-ledger", "64MiB"}}}
	data := filepath.Join(x.cfg.Dir, "data")
	if !smallDisk(t, data, 96) {
		return
	}
	x.restart(ctx)
	x.cfg.Listen = mustHost(t, x.srv.API)
	x.child, err = proc.StartChild(path, "demo", "crowd")
	x.must(err)
	t.Cleanup(func() { x.child.Stop() })
	var rep crowd.Report
	x.must(x.child.Ask(crowd.Request{Gateway: x.srv.Gateway}, &rep))
	_, err = x.svc.CreateAccount(ctx, api.CreateAccount{Name: "full"})
	x.must(err)
	const followers, online = 2000, 20
	var ids bytes.Buffer
	var members []crowd.Member
	for i := range followers {
		id := job.Recipient(i * 3001) // in 92 containers
		fmt.Fprintln(&ids, id)
		if i%(followers/online) == 0 {
			token, err := x.svc.MintToken(ctx, api.MintToken{Recipient: &id})
			x.must(err)
			members = append(members, crowd.Member{Recipient: id, Token: token.Token, Kind: crowd.Speaks})
		}
	}
	_, err = x.svc.ImportFollowers(ctx, api.ImportFollowers{Format: api.FormatIDs, Account: "full"}, &ids)
	x.must(err)
	x.must(x.child.Ask(crowd.Request{Connect: members}, &rep))

	loading, stop := context.WithCancel(ctx)
	defer stop()
	answered := x.hurried(loading, "full")
	ballast := filepath.Join(data, "ballast")
	for _, leave := range []int64{0, 1 << 20} {
		before := len(answered())
		x.eventually(ctx, "jobs are answered", recoversWithin, func() bool { return len(answered()) >= before+3 })
		fillUp(t, ballast, leave)
		x.refusedSoon(ctx, "full")
		full := len(answered())
		for range 5 { // it stays so
			if status, _, _ := x.post(ctx, "full", "still"); status == http.StatusAccepted {
				t.Error("a job is taken on a full disk")
			}
		}
		if n := len(answered()); n > full+1 { // one may have been on its way
			t.Errorf("%d jobs were taken on a full disk", n-full)
		}
		x.must(os.Remove(ballast))
		freed := time.Now()
		x.eventually(ctx, "jobs are answered again", slack*recoversWithin, func() bool { return len(answered()) > full+1 })
		last := answered()[len(answered())-1]
		j, err := x.svc.WaitJob(ctx, last, api.WaitJob{For: job.Sent})
		x.must(err)
		took := time.Since(freed)
		t.Logf("%s after space was freed a new job is %s", took.Round(10*time.Millisecond), j.State)
		if took > recoversWithin {
			t.Errorf("it took %s to go on", took)
		}
	}
	stop()
	x.nothingLostOrTwice(ctx, answered(), members, followers)
	x.disksTold(ctx)
	x.must(x.srv.Stop())
}

// nothingLostOrTwice holds what clients were shown, the ledger and SQL against what was
// answered.
func (x *trial) nothingLostOrTwice(ctx context.Context, jobs []job.ID, members []crowd.Member, followers uint64) {
	t := x.t
	t.Helper()
	zero, rep := 0, crowd.Report{}
	shown := func() map[crowd.Receipt]int {
		x.must(x.child.Ask(crowd.Request{Since: &zero}, &rep))
		times := map[crowd.Receipt]int{}
		for _, r := range rep.Receipts {
			times[crowd.Receipt{Job: r.Job, Recipient: r.Recipient}]++
		}
		return times
	}
	x.eventually(ctx, "every client is shown every job", slack*recoversWithin, func() bool {
		times := shown()
		for _, id := range jobs {
			for _, m := range members {
				if times[crowd.Receipt{Job: id, Recipient: m.Recipient}] == 0 {
					return false
				}
			}
		}
		return true
	})
	listed := map[job.ID]bool{}
	for page := (api.ListJobs{}); ; {
		list, err := x.svc.ListJobs(ctx, page)
		x.must(err)
		for _, j := range list.Jobs {
			listed[j.Job] = true
		}
		if page.Cursor = list.Next; page.Cursor == "" {
			break
		}
	}
	for _, id := range jobs {
		j, err := x.svc.WaitJob(ctx, id, api.WaitJob{For: job.Sent})
		x.must(err)
		x.eventually(ctx, fmt.Sprintf("job %s comes to rest", id), slack*recoversWithin, func() bool {
			rec, err := x.svc.ReconcileJob(ctx, id)
			x.must(err)
			counted, err := x.svc.GetJob(ctx, id) // by the index, which was written on the full disk, too
			x.must(err)
			return rec.Conserved && rec.Package == followers && rec.Delivered == uint64(len(members)) && rec.Parked == followers-uint64(len(members)) &&
				counted.Counts.Delivered == rec.Delivered && counted.Counts.Parked == rec.Parked
		})
		if !listed[id] || j.State != job.Sent {
			t.Errorf("job %s is %s, listed: %v", id, j.State, listed[id])
		}
	}
	for what, n := range shown() {
		if n != 1 {
			t.Errorf("job %s was shown %d times to recipient %s", what.Job, n, what.Recipient)
		}
	}
	t.Logf("%d jobs for %d clients, each shown once", len(jobs), len(members))
}

// disksTold looks for the disk in status and metrics.
func (x *trial) disksTold(ctx context.Context) {
	x.t.Helper()
	st, err := x.svc.Status(ctx)
	x.must(err)
	if len(st.Disks) != 1 || strings.Join(st.Disks[0].Of, " ") != "data ledger parked accepted blobs" || st.Disks[0].Size != 96<<20 || st.Disks[0].Level != "ok" || st.Disks[0].Member == "" {
		x.t.Errorf("the disks in status are %+v", st.Disks)
	}
	a, err := http.Get(x.srv.API + "/metrics")
	x.must(err)
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	x.must(err)
	for line := range strings.Lines(string(b)) {
		if ratio, ok := strings.CutPrefix(line, `crier_disk_used_ratio{of="data"} `); ok {
			if r, err := strconv.ParseFloat(strings.TrimSpace(ratio), 64); err != nil || r <= 0 || r >= 0.7 {
				x.t.Errorf("the disk is used to %s, %v", ratio, err)
			}
			return
		}
	}
	x.t.Error("the metrics do not tell of the disk")
}

// eventually asks again and again until something is so.
func (x *trial) eventually(ctx context.Context, what string, within time.Duration, is func() bool) {
	x.t.Helper()
	for end := time.Now().Add(within); !is(); {
		select {
		case <-ctx.Done():
			x.t.Fatalf("it did not come to it that %s", what)
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(end) {
			x.t.Fatalf("it did not come to it within %s that %s", within, what)
		}
	}
}

// startWithJob starts the server and sends one job of the account full to three recipients.
func (x *trial) startWithJob(ctx context.Context) api.Job {
	x.restart(ctx)
	_, err := x.svc.CreateAccount(ctx, api.CreateAccount{Name: "full"})
	x.must(err)
	_, err = x.svc.AddFollowers(ctx, "full", []job.Recipient{1, 2, 3})
	x.must(err)
	j, err := x.svc.SubmitJob(ctx, api.SubmitJob{Account: "full", Audience: api.AudienceFollowers, Body: "before"})
	x.must(err)
	return j
}

// TestFullStores fills the disk of one store alone, which an operator has put elsewhere.
func TestFullStores(t *testing.T) {
	t.Parallel()
	for _, store := range []string{"nats", "parked"} {
		t.Run(store, func(t *testing.T) {
			t.Parallel()
			x := &trial{t: t, cfg: newTrialConfig(t, "--limit-ledger", "64MiB")}
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute) // without building
			defer cancel()
			dir := filepath.Join(x.cfg.Dir, "data", store)
			if !smallDisk(t, dir, 96) {
				return
			}
			before := x.startWithJob(ctx)
			ballast := filepath.Join(dir, "ballast")
			fillUp(t, ballast, 0)
			x.refusedSoon(ctx, "full")
			if status, p, _ := x.post(ctx, "full", "still"); status != http.StatusInsufficientStorage || !strings.Contains(p.Detail, store) {
				t.Errorf("the next submit is answered %d, %+v", status, p)
			}
			x.must(os.Remove(ballast))
			x.eventually(ctx, "jobs are taken again", recoversWithin, func() bool {
				status, _, _ := x.post(ctx, "full", "after")
				return status == http.StatusAccepted
			})
			list, err := x.svc.ListJobs(ctx, api.ListJobs{})
			x.must(err)
			for _, j := range list.Jobs {
				j, err := x.svc.WaitJob(ctx, j.Job, api.WaitJob{For: job.Sent})
				x.must(err)
				rec, err := x.svc.ReconcileJob(ctx, j.Job)
				x.must(err)
				if j.State != job.Sent || !rec.Conserved || rec.Parked != 3 {
					t.Errorf("job %s is %s and reconciles to %+v", j.Job, j.State, rec)
				}
			}
			if !slices.ContainsFunc(list.Jobs, func(j api.Job) bool { return j.Job == before.Job }) {
				t.Error("the job from before is not listed")
			}
			x.must(x.srv.Stop())
		})
	}
}

// TestFullBlobs fills the disk of the blobs alone: what needs a new one is refused, what is
// under way goes on, and jobs are taken as soon as there is space.
func TestFullBlobs(t *testing.T) {
	t.Parallel()
	blobs := filepath.Join(t.TempDir(), "blobs")
	if !smallDisk(t, blobs, 4) {
		return
	}
	x := &trial{t: t, cfg: newTrialConfig(t, "--blobs", blobs)}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute) // without building
	defer cancel()
	before := x.startWithJob(ctx)
	ballast := filepath.Join(blobs, "ballast")
	fillUp(t, ballast, 0)
	x.refusedSoon(ctx, "full")
	j, err := x.svc.WaitJob(ctx, before.Job, api.WaitJob{For: job.Sent})
	if err != nil || j.State != job.Sent {
		t.Errorf("the job from before is %s, %v", j.State, err)
	}
	_, err = x.svc.SubmitJob(ctx, api.SubmitJob{Account: "full", Audience: api.AudienceFollowers, Body: strings.Repeat("large ", 10_000)})
	if job.CodeOf(err) != job.CodeFull {
		t.Errorf("a large body on a full disk: %v", err)
	}
	x.must(os.Remove(ballast))
	if status, p, _ := x.post(ctx, "full", "after"); status != http.StatusAccepted {
		t.Errorf("after space was freed a submit is answered %d, %+v", status, p)
	}
	x.must(x.srv.Stop())
}
