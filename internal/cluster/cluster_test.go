package cluster_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"crier/api"
	"crier/api/client"
	"crier/internal/auth"
	"crier/internal/cluster"
)

// one is a cluster with one process of each kind.
var one = cluster.Topology{ZooKeeper: 1, MariaDB: 1, NATS: 1, Scheduler: 1, Worker: 1, Gateway: 1, API: 1, Relay: 1, Proxy: true}

const deploy = "../../deploy/cluster"

// TestCluster starts a cluster, treats its processes badly, and ends it.
func TestCluster(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	binary := crier(ctx, t)
	dir, err := os.MkdirTemp("", "crier-cluster-") // short: there is a socket in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	cfg := cluster.Config{Dir: dir, Deploy: deploy, Binary: binary, Topology: one}
	t.Cleanup(func() {
		if c, err := cluster.Load(dir); err == nil {
			if _, err := c.Down(); err != nil {
				t.Error(err)
			}
		}
		if left := mentioning(dir); len(left) > 0 {
			t.Errorf("left behind: %s", left)
		}
	})
	began := time.Now()
	c, started, err := cluster.Up(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d processes in %s", len(started), time.Since(began))
	if len(started) != 9 {
		t.Fatalf("it started %v", started)
	}
	serves(t, c)
	if _, again, err := cluster.Up(ctx, cfg); err != nil || len(again) != 0 {
		t.Fatalf("up of what is up started %v, %v", again, err)
	}
	more := cfg
	more.Topology.Worker = 2
	if _, _, err := cluster.Up(ctx, more); err == nil || !strings.Contains(err.Error(), "counts") {
		t.Errorf("up with another topology: %v", err)
	}
	killed(ctx, t, c, cfg)
	paused(ctx, t, c, cfg)
	cut(ctx, t, c)
	down(ctx, t, c, cfg)
}

// crier builds the program.
func crier(ctx context.Context, t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "crier")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "crier/cmd/crier")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building crier: %v\n%s", err, out)
	}
	return binary
}

// serves asks the API.
func serves(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	p := find(t, c, "api-1")
	key, err := auth.ReadAdminKey(c.Keys())
	if err != nil {
		t.Fatal(err)
	}
	svc, err := client.New(client.Config{Server: p.Addresses[cluster.AddrAPI], Key: key})
	if err != nil {
		t.Fatal(err)
	}
	defer svc.Close()
	if _, err := svc.CreateAccount(t.Context(), api.CreateAccount{Name: "news"}); err != nil {
		t.Fatal(err)
	}
}

// killed: what was killed is started again by itself, and by Up.
func killed(ctx context.Context, t *testing.T, c *cluster.Cluster, cfg cluster.Config) {
	for _, name := range []string{"relay-1", "mariadb"} {
		p := find(t, c, name)
		if err := p.Kill(); err != nil || p.Life() != cluster.Gone {
			t.Fatalf("%s after a kill: %s, %v", name, p.Life(), err)
		}
		old := p.PID
		if err := p.Start(ctx); err != nil || p.Life() != cluster.Running || p.PID == old {
			t.Fatalf("%s started again: %s, %v", name, p.Life(), err)
		}
		if got := find(t, c, name); got.PID != p.PID || got.Life() != cluster.Running {
			t.Errorf("%s is written down as %+v", name, got.Record)
		}
	}
	for _, name := range []string{"relay-1", "zookeeper-1"} {
		if err := find(t, c, name).Kill(); err != nil {
			t.Fatal(err)
		}
	}
	_, started, err := cluster.Up(ctx, cfg)
	slices.Sort(started)
	if err != nil || !slices.Equal(started, []string{"relay-1", "zookeeper-1"}) {
		t.Fatalf("up started %v, %v", started, err)
	}
}

// paused: what is paused stays so, also when Up starts another, until it is let go on.
func paused(ctx context.Context, t *testing.T, c *cluster.Cluster, cfg cluster.Config) {
	p := find(t, c, "scheduler-1")
	if err := p.Pause(); err != nil || p.Life() != cluster.Paused {
		t.Fatalf("paused: %s, %v", p.Life(), err)
	}
	if err := find(t, c, "relay-1").Kill(); err != nil {
		t.Fatal(err)
	}
	if _, started, err := cluster.Up(ctx, cfg); err != nil || !slices.Equal(started, []string{"relay-1"}) || p.Life() != cluster.Paused {
		t.Fatalf("up started %v, %v; what was paused is %s", started, err, p.Life())
	}
	if err := p.Continue(); err != nil {
		t.Fatal(err)
	}
	until(t, func() error {
		if l := p.Life(); l != cluster.Running {
			return fmt.Errorf("it goes on, and is %s", l)
		}
		return nil
	})
	// A record of a process whose number another has now is of one that is gone.
	other := *p
	other.PID = os.Getpid()
	if err := other.Signal(syscall.SIGKILL); err != nil || other.Life() != cluster.Gone {
		t.Errorf("another's number: %s, %v", other.Life(), err)
	}
}

// cut: the proxy knows who connects, and holds just what it should.
func cut(ctx context.Context, t *testing.T, c *cluster.Cluster) {
	way := cluster.Cut{From: "worker-1", To: "nats-1", Mode: cluster.Hold}
	idle := cluster.Cut{From: "proxy", To: "nats-1", Mode: cluster.Hold}
	if err := c.Cut(ctx, way, idle); err != nil {
		t.Fatal(err)
	}
	until(t, func() error {
		cuts, err := c.Cuts(ctx)
		if err != nil {
			return err
		}
		for _, x := range cuts {
			if x.Bit() != (x.From == "worker-1") {
				return fmt.Errorf("the cuts are %+v", cuts)
			}
		}
		return nil
	})
	if err := c.Cut(ctx, cluster.BothWays("worker-1", "mariadb", cluster.Refuse)...); err != nil {
		t.Fatal(err)
	}
	if err := c.Heal(ctx); err != nil {
		t.Fatal(err)
	}
	if err := c.Cut(ctx, cluster.Cut{From: "nobody", To: "nats-1", Mode: cluster.Hold}); err == nil {
		t.Error("a cut from nobody is taken")
	}
}

func down(ctx context.Context, t *testing.T, c *cluster.Cluster, cfg cluster.Config) {
	if err := c.Remove(); err == nil {
		t.Fatal("a cluster that runs is removed")
	}
	began := time.Now()
	stopped, err := c.Down()
	if took := time.Since(began); err != nil || len(stopped) != 9 || took > 30*time.Second {
		t.Fatalf("down ended %v in %s, %v", stopped, took, err)
	}
	all, err := c.Processes()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		if p.Life() != cluster.Gone {
			t.Errorf("%s is %s", p.Name, p.Life())
		}
	} // its ports may be another test's by now

	if again, err := c.Down(); err != nil || len(again) != 0 {
		t.Errorf("down of what is down: %v, %v", again, err)
	}
	if err := c.Remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := cluster.Load(cfg.Dir); !errors.Is(err, cluster.ErrNone) {
		t.Errorf("a removed cluster: %v", err)
	}
}

func find(t *testing.T, c *cluster.Cluster, name string) *cluster.Process {
	t.Helper()
	p, err := c.Process(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// until asks until there is no error.
func until(t *testing.T, ask func() error) {
	t.Helper()
	limit := time.After(20 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask()
		if err == nil {
			return
		}
		select {
		case <-limit:
			t.Fatal(err)
		case <-tick.C:
		}
	}
}

// mentioning lists the command lines with a word in them.
func mentioning(word string) (lines []string) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline") // the pattern is good
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && bytes.Contains(b, []byte(word)) {
			lines = append(lines, string(bytes.ReplaceAll(b, []byte{0}, []byte{' '})))
		}
	}
	return lines
}

func TestTopology(t *testing.T) {
	if got, err := cluster.ReadTopology(deploy); err != nil || got.Worker < 2 || !got.Proxy {
		t.Errorf("the topology of deploy is %+v, %v", got, err)
	}
	for text, want := range map[string]string{
		"zookeeper: 2": "zookeeper", "zookeeper: 1\nnats: 3\nmariadb: 2": "mariadb", "wokrer: 3": "wokrer", "zookeeper: 1\nnats: 1\nmariadb: 1\napi: 21": "api",
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "topology.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := cluster.ReadTopology(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
