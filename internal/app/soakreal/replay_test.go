package soakreal

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"crier/api"
	"crier/internal/testdata"
	"crier/job"
)

const (
	// pace is the time that the replay takes for each package.
	pace = 400 * time.Millisecond
	// burst is how many jobs are submitted at once.
	burst = 5
	// wave is how many devices are connected at once in the end.
	wave = 400
	// asked is how many proofs are asked for at once.
	asked = 2
	// everybody is the account that all ids follow.
	everybody = "everybody"
)

// TestReplay sends each package as a job of its own while recipients come and go as the log
// says, then lets come whom something waits for, and judges. The ledger is folded as soon as
// it may be, which many packages bring about. CRIER_PACKAGES is the number
// of packages, and the part of the log with it; 20 by default.
func TestReplay(t *testing.T) {
	n := 20
	if s := os.Getenv("CRIER_PACKAGES"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil || n < 1 {
			t.Fatalf("CRIER_PACKAGES is %q, want how many packages are to be sent", s)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute+time.Duration(n)*5*time.Second)
	defer cancel()
	began := time.Now()
	step := func(format string, a ...any) {
		t.Logf("%6.1f s: %s", time.Since(began).Seconds(), fmt.Sprintf(format, a...))
	}
	east := 12 - time.Now().UTC().Hour() // where it is about noon, so that no day ends meanwhile
	w := &world{cap: 3 + n/50, accountCap: 2 + n/60, zone: time.FixedZone("noon", east*3600)}
	s := open(ctx, t, fmt.Sprintf("--frequency-cap=%d", w.cap), fmt.Sprintf("--frequency-account-cap=%d", w.accountCap),
		fmt.Sprintf("--frequency-zone=Etc/GMT%+d", -east), "--limit-fold=1MiB") // POSIX: the sign is the other way round
	step("the server is there")
	lists, packages, of := s.set(ctx, w, n)
	step("%d of %d packages are built, %d accounts have followers", len(lists), of, len(w.followers))
	events, read := readLogs(t, logs(t), float64(n)/float64(of))
	jobs, cuts := s.replay(ctx, w, packages, cast{events, byFrequency(lists)})
	live := len(s.receipts())
	step("%d logs with %d events are replayed: %d devices, %d connections cut, %d messages shown", read, len(events), len(s.players), cuts, live)
	s.settle(ctx, jobs)
	w.players = bitsOf(slices.Collect(maps.Keys(s.players)))
	folds := 0
	s.must(s.svc.TailLedger(ctx, api.TailLedger{Filter: "led.fold"}, func(api.LedgerEntry) error { folds++; return nil }))
	step("all who came were there again: %d messages shown; the ledger was folded %d times", len(s.receipts()), folds)
	all := s.told(ctx, jobs)
	v := w.judge(all, s.receipts())
	for _, bad := range v.wrong {
		t.Error(bad)
	}
	total := job.Counts{Dropped: map[job.Reason]uint64{}}
	for _, a := range all {
		total.Package += a.Package
		total.Delivered += a.Delivered
		total.Parked += a.Parked
		for r, n := range a.Dropped {
			total.Dropped[r] += n
		}
	}
	step("judged: %+v; the cap held back %d recipients, an account's %d; the last trouble of a device: %v", total, v.capped, v.accountCapped, s.mu.trouble)
	for _, r := range []job.Reason{job.ReasonRelation, job.ReasonSuppressed, job.ReasonFrequency} {
		if total.Dropped[r] == 0 {
			t.Errorf("void: nobody was dropped for %s", r)
		}
	}
	if v.capped == 0 || v.accountCapped == 0 {
		t.Error("void: a cap held nobody back")
	}
	if live == 0 || cuts == 0 || total.Parked == 0 || len(s.receipts()) == live {
		t.Error("void: messages have to be shown in the replay and after it, connections to be cut, and recipients parked")
	}
}

// set makes the accounts, their followers and who is suppressed, and hands in the packages.
func (s *stage) set(ctx context.Context, w *world, n int) (lists []list, packages []job.Digest, of int) {
	dir := s.t.TempDir()
	lists, small, of := choose(s.t, n, dir)
	for _, path := range small {
		if out, err := exec.CommandContext(ctx, s.binary, "package", "build", "--from", "zip", path, "--out", dir).CombinedOutput(); err != nil {
			s.t.Fatalf("building the packages of %s: %v\n%s", path, err, out)
		}
	}
	path := testdata.Graph(s.t)
	graph, edges := readGraph(s.t, path)
	f, err := os.Open(path)
	s.must(err)
	defer f.Close()
	imp, err := s.svc.ImportFollowers(ctx, api.ImportFollowers{Format: api.FormatEdges, Skip: 1}, f)
	s.must(err)
	if imp.Added != uint64(edges) {
		s.t.Fatalf("%d followers were imported, the graph has %d", imp.Added, edges)
	}
	var sets [][]uint32
	for _, l := range lists {
		sets = append(sets, l.set)
	}
	union := bitsOf(sets...)
	ids := union.list()
	_, err = s.svc.CreateAccount(ctx, api.CreateAccount{Name: everybody})
	s.must(err)
	_, err = s.svc.ImportFollowers(ctx, api.ImportFollowers{Format: api.FormatIDs, Account: everybody}, asText(ids))
	s.must(err)
	w.followers, w.suppressed = map[string]bits{everybody: union}, map[string]bits{}
	for account, some := range map[string][]uint32{"": every(ids, 41), everybody: every(ids, 101)} {
		_, err = s.svc.ImportSuppressed(ctx, account, api.ImportIDs{}, asText(some))
		s.must(err)
		w.suppressed[account] = bitsOf(some)
	}
	bodies, accounts := texts(s.t, len(lists)), senders(graph, 2+len(lists)/30)
	for i, l := range lists {
		a := everybody
		if i%2 == 1 {
			number := accounts[i/2%len(accounts)]
			a = strconv.Itoa(int(number))
			w.followers[a] = bitsOf(graph[number])
		}
		w.sends = append(w.sends, send{name: l.name, account: a, body: bodies[i], set: l.set})
		file, err := os.Open(filepath.Join(dir, l.name+".crpk"))
		s.must(err)
		p, err := s.svc.ImportPackage(ctx, api.ImportPackage{Account: a}, file)
		file.Close()
		s.must(err)
		packages = append(packages, p.ID)
	}
	return lists, packages, of
}

// senders chooses the accounts of the graph that send something: some of those with most
// followers, so that their caps are reached.
func senders(graph map[uint32][]uint32, n int) []uint32 {
	all := slices.Sorted(maps.Keys(graph))
	slices.SortStableFunc(all, func(a, b uint32) int { return cmp.Compare(len(graph[b]), len(graph[a])) })
	return all[:min(len(all), n)]
}

// cast is the events of the logs, and the ids in the order of the nicks who play them.
type cast struct {
	events []event
	ids    []uint32
}

// replay submits the jobs, evenly in bursts, while devices come and go as the log says, and
// waits until all jobs are sent. All devices are away then.
func (s *stage) replay(ctx context.Context, w *world, packages []job.Digest, c cast) (jobs []job.ID, cuts int) {
	span := pace * time.Duration(len(packages))
	begin := time.Now()
	jobs = make([]job.ID, len(packages))
	g, gctx := errgroup.WithContext(ctx)
	for i, p := range packages {
		g.Go(func() error {
			if err := until(gctx, begin.Add(pace*time.Duration(i/burst*burst))); err != nil {
				return err
			}
			j, err := s.svc.SubmitJob(gctx, api.SubmitJob{Account: w.sends[i].account, Package: p, Body: w.sends[i].body, IdempotencyKey: fmt.Sprint("send-", i)})
			jobs[i] = j.Job
			return err
		})
	}
	var there stays
	minute := span / time.Duration(1+c.events[len(c.events)-1].at)
	for _, e := range c.events {
		m, who := there.step(e)
		if len(who) == 0 {
			continue
		}
		s.must(until(ctx, begin.Add(time.Duration(e.at*float64(minute)))))
		for _, n := range who {
			if n >= len(c.ids) {
				continue // more nicks than recipients
			}
			switch p := s.player(c.ids[n]); m {
			case comes:
				p.comes(ctx)
			case goes:
				p.goes()
			case cut:
				p.cut()
				cuts++
			}
		}
	}
	s.must(g.Wait())
	for i, id := range jobs {
		j, err := s.svc.WaitJob(ctx, id, api.WaitJob{For: job.Sent, Timeout: 2 * time.Minute})
		s.must(err)
		if j.State != job.Sent && j.State != job.Completed {
			s.t.Errorf("the job to package %s is %s: %s", w.sends[i].name, j.State, j.Reason)
		}
	}
	return jobs, cuts
}

// settle lets everybody come again for whom anything waits or is open, in waves, until
// there is nobody, or it has taken too long: the verdict comes later.
func (s *stage) settle(ctx context.Context, jobs []job.ID) {
	for limit := time.Now().Add(time.Minute + time.Duration(len(jobs))*time.Second); time.Now().Before(limit); {
		for _, p := range s.players {
			<-p.ended
		}
		waits := s.waiting(ctx, jobs)
		if len(waits) == 0 {
			return
		}
		for some := range slices.Chunk(slices.Sorted(maps.Keys(waits)), wave) {
			s.come(ctx, some, waits)
		}
	}
}

// waiting gives by player the jobs of which something waits for him or is open.
func (s *stage) waiting(ctx context.Context, jobs []job.ID) map[uint32][]string {
	waits := map[uint32][]string{}
	for _, id := range jobs {
		j, err := s.svc.GetJob(ctx, id)
		s.must(err)
		if j.Counts.HandedOff+j.Counts.InDoubt == 0 {
			continue
		}
		open, err := s.export(ctx, id, job.Standing{Outcome: job.HandedOff}, job.Standing{Outcome: job.InDoubt})
		s.must(err)
		for _, who := range open {
			if s.players[who] != nil { // nobody else can be: the judge will tell
				waits[who] = append(waits[who], id.String())
			}
		}
	}
	for who := range s.players {
		r, err := s.svc.GetRecipient(ctx, job.Recipient(who))
		s.must(err)
		for _, p := range r.Parked {
			waits[who] = append(waits[who], p.Job.String())
		}
	}
	return waits
}

// come connects some until they have shown what waits for them and nothing does any more,
// or half a minute has passed.
func (s *stage) come(ctx context.Context, some []uint32, waits map[uint32][]string) {
	before := map[uint32]int{}
	for _, id := range some {
		before[id] = s.players[id].hellos()
		s.players[id].comes(ctx)
	}
	limit := time.Now().Add(30 * time.Second)
	for left := some; len(left) > 0 && time.Now().Before(limit); {
		s.must(until(ctx, time.Now().Add(20*time.Millisecond)))
		left = slices.DeleteFunc(slices.Clone(left), func(id uint32) bool {
			if !s.players[id].has(before[id], waits[id]) {
				return false
			}
			r, err := s.svc.GetRecipient(ctx, job.Recipient(id))
			s.must(err)
			return r.ParkedTotal == 0
		})
	}
	for _, id := range some {
		s.players[id].goes()
	}
}

// told asks for what became of the jobs.
func (s *stage) told(ctx context.Context, jobs []job.ID) []told {
	all := make([]told, len(jobs))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(asked)
	for i, id := range jobs {
		g.Go(func() (err error) {
			t := &all[i]
			if t.Reconciliation, err = s.svc.ReconcileJob(gctx, id); err != nil {
				return err
			}
			for _, x := range []struct {
				to *[]uint32
				at job.Standing
			}{{&t.delivered, job.Standing{Outcome: job.Delivered}}, {&t.parked, job.Standing{Outcome: job.Parked}},
				{&t.capped, job.Standing{Outcome: job.Dropped, Reason: job.ReasonFrequency}}} {
				if *x.to, err = s.export(gctx, id, x.at); err != nil {
					return err
				}
			}
			return nil
		})
	}
	s.must(g.Wait())
	return all
}
