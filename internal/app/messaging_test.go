package app_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"crier/api"
	"crier/internal/app"
	"crier/internal/crowd"
	"crier/internal/proc"
	"crier/internal/servers"
	"crier/job"
)

func natsServers(t *testing.T, cfg servers.NATSConfig) *servers.NATS {
	t.Helper()
	cfg.Dir = t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := servers.StartNATS(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Kill)
	return c
}

// credsFile writes a file that says who connects.
func credsFile(t *testing.T, user string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), user)
	if err := os.WriteFile(path, []byte(user+":"+servers.NATSPassword+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestServersElsewhere sends a job by way of three NATS servers, kills one in the
// middle, and starts the process again without it.
func TestServersElsewhere(t *testing.T) {
	t.Parallel()
	const clients = 300
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	c := natsServers(t, servers.NATSConfig{Servers: 3})
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	x := &trial{t: t, cfg: proc.Config{Binary: path, Dir: t.TempDir(), Args: []string{"--nats-servers", c.URL,
		"--nats-creds", credsFile(t, servers.NATSUser), "--nats-system", credsFile(t, servers.NATSSystem)}}}
	x.restart(ctx)
	if x.srv.NATS != "" || x.srv.NATSToken != "" {
		t.Errorf("a process without a server of its own gives %s, %s", x.srv.NATS, x.srv.NATSToken)
	}
	x.child, err = proc.StartChild(path, "demo", "crowd")
	x.must(err)
	t.Cleanup(func() { x.child.Stop() })
	var rep crowd.Report
	x.must(x.child.Ask(crowd.Request{Gateway: x.srv.Gateway}, &rep))
	_, err = x.svc.CreateAccount(ctx, api.CreateAccount{Name: "elsewhere"})
	x.must(err)
	var all []job.Recipient
	var members []crowd.Member
	for id := range job.Recipient(2 * clients) {
		all = append(all, id)
		if id%2 == 0 {
			tok, err := x.svc.MintToken(ctx, api.MintToken{Recipient: &id})
			x.must(err)
			members = append(members, crowd.Member{Recipient: id, Token: tok.Token, Kind: crowd.Speaks})
		}
	}
	x.must(x.child.Ask(crowd.Request{Connect: members}, &rep))
	_, err = x.svc.AddFollowers(ctx, "elsewhere", all)
	x.must(err)
	j, err := x.svc.SubmitJob(ctx, api.SubmitJob{Account: "elsewhere", Audience: api.AudienceFollowers, Body: "from elsewhere", Rate: 100})
	x.must(err)
	x.watchTo(ctx, j.Job, 0.3)
	c.Nodes[0].Kill()
	started := time.Now()
	j, err = x.svc.WaitJob(ctx, j.Job, api.WaitJob{For: job.Sent, Timeout: 2 * time.Minute})
	x.must(err)
	if j.State != job.Sent {
		t.Fatalf("the job is %s: %s", j.State, j.Reason)
	}
	t.Logf("sent %s after the kill of a server", time.Since(started))
	x.must(x.srv.Stop())
	x.cfg.Listen = mustHost(t, x.srv.API)
	x.restart(ctx)
	t.Logf("started again after %s", time.Since(started))
	x.judgeElsewhere(ctx, j.Job, clients)
	t.Logf("judged after %s", time.Since(started))
	x.must(x.srv.Stop())
}

// judgeElsewhere waits for the clients and compares them with the ledger.
func (x *trial) judgeElsewhere(ctx context.Context, id job.ID, clients int) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var rep crowd.Report
	var rec api.Reconciliation
	for end := time.Now().Add(time.Minute); time.Now().Before(end); <-tick.C {
		var err error
		rec, err = x.svc.ReconcileJob(ctx, id)
		x.must(err)
		x.must(x.child.Ask(crowd.Request{Report: &id}, &rep))
		if len(rep.Shown) == clients && rec.Delivered == uint64(clients) {
			break
		}
	}
	if !rec.Conserved || rec.Delivered != uint64(clients) || rec.Parked != uint64(clients) || len(rep.Shown) != clients {
		x.t.Errorf("%d clients showed it; the ledger says %+v", len(rep.Shown), rec)
	}
	for r, n := range rep.Shown {
		if n != 1 || r%2 != 0 {
			x.t.Errorf("recipient %s showed it %d times", r, n)
		}
	}
}

// TestServersThatDoNotSyncAreRefused has one of three acknowledge what its disk may
// not have.
func TestServersThatDoNotSyncAreRefused(t *testing.T) {
	t.Parallel()
	c := natsServers(t, servers.NATSConfig{Servers: 3, Unsynced: []int{3}})
	m := app.Messaging{Servers: []string{c.Nodes[0].URL}, Creds: credsFile(t, servers.NATSUser), Replicas: 3}
	refused := func(says string) {
		t.Helper()
		started := time.Now()
		err := app.Run(t.Context(), app.Config{Data: t.TempDir(), Listen: "127.0.0.1:0", Messaging: m})
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("it ends with %v, which does not say %q", err, says)
		}
		if took := time.Since(started); took > 10*time.Second {
			t.Errorf("it took %s", took)
		}
	}
	refused("nats.sync_attested")
	m.System = credsFile(t, servers.NATSUser)
	refused("not of the system account")
	m.System = credsFile(t, servers.NATSSystem)
	refused(fmt.Sprintf("nats.system: a server acknowledges records before its disk has them: %s", c.Nodes[2].Server))
}
