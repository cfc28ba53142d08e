package servers_test

import (
	"context"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"crier/internal/servers"
)

// TestZooKeeper starts three nodes, kills the leader, and starts it again on its
// data.
func TestZooKeeper(t *testing.T) {
	start := time.Now()
	e, err := servers.ZooKeeper(t.Context(), servers.ZooKeeperConfig{Dir: t.TempDir(), Nodes: 3})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Stop)
	t.Logf("three nodes serve after %s", time.Since(start))
	if n := len(e.Addrs()); n != 3 {
		t.Fatalf("there are %d addresses", n)
	}
	old := leader(t, e)
	e.Nodes[old].Process.Kill()
	if _, err := e.Nodes[old].Mode(t.Context()); err == nil {
		t.Fatal("a killed node serves")
	}
	if next := leader(t, e); next == old {
		t.Fatal("a killed node leads")
	}
	if err := e.Start(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	if mode, err := e.Nodes[old].Mode(t.Context()); err != nil || mode != "follower" {
		t.Fatalf("the node that came back is %q, %v", mode, err)
	}
	p := e.Nodes[old].Process
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Nodes[old].Mode(t.Context()); err == nil {
		t.Fatal("a paused node answers")
	}
	e.Stop()
	if err := syscall.Kill(p.PID(), 0); err == nil {
		t.Fatal("a paused node is there after Stop")
	}
}

// leader waits until there is one.
func leader(t *testing.T, e *servers.Ensemble) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		i, err := e.Leader(ctx)
		if err == nil {
			return i
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal(err)
		}
	}
}

func TestZooKeeperRefuses(t *testing.T) {
	if _, err := servers.ZooKeeper(t.Context(), servers.ZooKeeperConfig{Dir: t.TempDir(), Nodes: 2}); err == nil || !strings.Contains(err.Error(), "Nodes") {
		t.Errorf("two nodes: %v", err)
	}
	t.Setenv("PATH", os.DevNull)
	if _, err := servers.ZooKeeper(t.Context(), servers.ZooKeeperConfig{Dir: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "default-jre-headless") {
		t.Errorf("without java: %v", err)
	}
}
