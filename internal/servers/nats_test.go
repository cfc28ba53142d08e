package servers

import (
	"context"
	"syscall"
	"testing"
	"time"
)

// TestNATS starts a cluster, kills a server, starts it again, and pauses one.
func TestNATS(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	started := time.Now()
	c, err := StartNATS(ctx, NATSConfig{Dir: t.TempDir(), Servers: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Kill()
	t.Logf("three servers are a cluster after %s", time.Since(started))
	n := c.Nodes[0]
	n.Kill()
	if err := n.ready(ctx, 1); err == nil {
		t.Fatal("a dead server is ready")
	}
	started = time.Now()
	if err := n.RestartOnly(ctx); err != nil { // its leader may have been itself
		t.Fatal(err)
	}
	t.Logf("a killed server is back after %s", time.Since(started))
	if err := n.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := n.ready(ctx, 1); err == nil {
		t.Fatal("a paused server answers")
	}
	if err := n.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := n.await(ctx, func(ctx context.Context) error { return n.ask(ctx, "/varz", nil) }); err != nil {
		t.Fatal(err)
	}
	if again, err := c.Node(n.Server); err != nil || again != n {
		t.Fatalf("Node(%s) is %v, %v", n.Server, again, err)
	}
	c.Stop()
	for _, n := range c.Nodes {
		<-n.Done()
	}
}

// TestOneNATS starts a single server.
func TestOneNATS(t *testing.T) {
	c, err := StartNATS(t.Context(), NATSConfig{Dir: t.TempDir(), Servers: 1})
	if err != nil {
		t.Fatal(err)
	}
	c.Kill()
	if _, err := StartNATS(t.Context(), NATSConfig{Dir: t.TempDir(), Servers: 2}); err == nil {
		t.Fatal("two servers are taken for a cluster")
	}
}
