package app_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"crier/api"
	"crier/internal/crowd"
	"crier/internal/proc"
	"crier/job"
)

// noonZone is the zone in which it is about noon, so that no day ends meanwhile.
func noonZone() string {
	if east := 12 - time.Now().UTC().Hour(); east < 0 {
		return fmt.Sprintf("Etc/GMT+%d", -east) // POSIX: the sign is the other way round
	} else {
		return fmt.Sprintf("Etc/GMT-%d", east)
	}
}

// TestCapsOfADay sends jobs of three accounts to recipients of whom some are online, with
// a cap over all accounts and one for each, a job of a key that was sent before, and one
// that is cancelled; the server is killed between them, and its index taken away. Each
// recipient gets what counting by hand allows.
func TestCapsOfADay(t *testing.T) {
	t.Parallel()
	x := &trial{t: t, cfg: newTrialConfig(t, "--frequency-cap=3", "--frequency-account-cap=2", "--frequency-zone="+noonZone(), "--frequency-exempt=realtime")}
	ctx := context.Background()
	x.restart(ctx)
	x.cfg.Listen = mustHost(t, x.srv.API)
	const everybody = 60
	var who []job.Recipient
	for i := range job.Recipient(everybody) {
		who = append(who, i*70_001)
	}
	follows := func(i, account int) bool { return account == 0 || i%(account+1) == 0 }
	for account := range 3 {
		x.cli(nil, "account", "create", fmt.Sprint("caps", account))
		_, err := x.svc.AddFollowers(ctx, fmt.Sprint("caps", account), slices.Collect(func(yield func(job.Recipient) bool) {
			for i, r := range who {
				if follows(i, account) && !yield(r) {
					return
				}
			}
		}))
		x.must(err)
	}
	var members []crowd.Member
	for _, r := range who {
		tok, err := x.svc.MintToken(ctx, api.MintToken{Recipient: &r})
		x.must(err)
		members = append(members, crowd.Member{Recipient: r, Token: tok.Token, Kind: crowd.Speaks})
	}
	var err error
	x.child, err = proc.StartChild(x.cfg.Binary, "demo", "crowd")
	x.must(err)
	t.Cleanup(func() { x.child.Stop() })
	var rep crowd.Report
	x.must(x.child.Ask(crowd.Request{Gateway: x.srv.Gateway}, &rep))
	x.must(x.child.Ask(crowd.Request{Connect: members[:everybody/2]}, &rep))

	type sent struct {
		id   job.ID
		want []int // who gets it, by the place in who
	}
	var jobs []sent
	all, of := make([]int, everybody), [3][everybody]int{}
	got := map[string]map[int]bool{}
	for n, s := range []struct {
		account int
		once    string
		class   job.Class
		cancel  bool
	}{{account: 0}, {account: 0, cancel: true}, {account: 1, once: "k"}, {account: 0, once: "k"}, {account: 0}, {account: 1, class: job.Realtime}, {account: 2}, {account: 2, once: "k"}} {
		req := api.SubmitJob{Account: fmt.Sprint("caps", s.account), Audience: api.AudienceFollowers, Body: fmt.Sprint("message ", n), Class: s.class}
		if s.once != "" {
			req.SendOnce = &api.SendOnce{Key: s.once, Scope: api.ScopeAll}
		}
		j, err := x.svc.SubmitJob(ctx, req)
		x.must(err)
		_, err = x.svc.WaitJob(ctx, j.Job, api.WaitJob{For: job.Sent, Timeout: time.Minute})
		x.must(err)
		x.quiet(ctx, j.Job)
		mine := sent{id: j.Job}
		refused := map[string]uint64{}
		for i := range who {
			switch {
			case !follows(i, s.account):
			case s.once != "" && got[s.once][i]:
				refused["send_once"]++
			case s.class != job.Realtime && (all[i] >= 3 || of[s.account][i] >= 2):
				refused["frequency_cap"]++
			default:
				if s.class != job.Realtime {
					all[i]++
					of[s.account][i]++
				}
				if got[s.once] == nil {
					got[s.once] = map[int]bool{}
				}
				got[s.once][i] = true
				mine.want = append(mine.want, i)
			}
		}
		var have counts
		x.cli(&have, "job", "reconcile", j.Job.String())
		if !have.Conserved || have.Delivered+have.Parked != uint64(len(mine.want)) || have.Dropped["send_once"] != refused["send_once"] || have.Dropped["frequency_cap"] != refused["frequency_cap"] {
			t.Errorf("job %d has %+v; want %d to get it, and %v to be refused", n, have, len(mine.want), refused)
		}
		if s.cancel {
			_, err := x.svc.CancelJob(ctx, j.Job)
			x.must(err)
			_, err = x.svc.WaitJob(ctx, j.Job, api.WaitJob{For: job.Completed, Timeout: time.Minute})
			x.must(err)
			mine.want = slices.DeleteFunc(mine.want, func(i int) bool {
				if i >= everybody/2 { // parked: nobody can have seen it
					all[i]--
					of[s.account][i]--
					return true
				}
				return false
			})
		}
		jobs = append(jobs, mine)
		if n%2 == 1 {
			x.srv.Kill()
			if n == 3 { // what was charged is made again from the ledger
				x.must(os.RemoveAll(filepath.Join(x.cfg.Dir, "data", "parked")))
			}
			x.restart(ctx)
		}
	}
	x.must(x.child.Ask(crowd.Request{Connect: members[everybody/2:]}, &rep))
	for n, j := range jobs {
		limit := time.Now().Add(30 * time.Second)
		shown := x.shown(j.id, who)
		for ; !slices.Equal(shown, j.want) && time.Now().Before(limit); shown = x.shown(j.id, who) {
			<-time.After(100 * time.Millisecond)
		}
		if !slices.Equal(shown, j.want) {
			t.Errorf("job %d was shown to %v, want %v", n, shown, j.want)
		}
	}
}

// shown is to whom the clients showed a job, by the place in who; as often as they did.
func (x *trial) shown(id job.ID, who []job.Recipient) (places []int) {
	var rep crowd.Report
	x.must(x.child.Ask(crowd.Request{Report: &id}, &rep))
	for i, r := range who {
		for range rep.Shown[r] {
			places = append(places, i)
		}
	}
	return places
}
