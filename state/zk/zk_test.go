package zk_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"crier/internal/servers"
	"crier/state/coord"
	"crier/state/coord/coordtest"
	"crier/state/zk"

	driver "github.com/go-zookeeper/zk"
)

var quiet = slog.New(slog.DiscardHandler)

// shared is a server for the tests that harm none.
var shared struct {
	once sync.Once
	e    *servers.Ensemble
	err  error
	dir  string
}

func TestMain(m *testing.M) {
	if arg := os.Getenv(holderEnv); arg != "" {
		if err := hold(arg); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	// The tests wait for leases and elections more than they work.
	flag.Parse()
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	code := m.Run()
	if shared.e != nil {
		shared.e.Stop()
	}
	os.RemoveAll(shared.dir)
	os.Exit(code)
}

// server gives the shared server.
func server(t testing.TB) *servers.Ensemble {
	t.Helper()
	shared.once.Do(func() {
		if shared.dir, shared.err = os.MkdirTemp("", "zookeeper"); shared.err == nil {
			shared.e, shared.err = servers.ZooKeeper(context.Background(), servers.ZooKeeperConfig{Dir: shared.dir})
		}
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.e
}

// start starts servers of a test's own.
func start(t testing.TB, nodes int) *servers.Ensemble {
	t.Helper()
	e, err := servers.ZooKeeper(t.Context(), servers.ZooKeeperConfig{Dir: t.TempDir(), Nodes: nodes})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Stop)
	return e
}

var roots atomic.Int64

// root is a path that no other test has.
func root() string { return fmt.Sprintf("/crier-%d", roots.Add(1)) }

// open opens a store. A server that has just started may take longer than the store is to
// wait for it: it is asked again then.
func open(t testing.TB, e *servers.Ensemble, cfg zk.Config) (s *zk.Store) {
	t.Helper()
	if cfg.Servers == nil {
		cfg.Servers = e.Addrs()
	}
	cfg.Create, cfg.Logger = true, quiet
	var err error
	until(t, "a store is open", func() bool {
		s, err = zk.Open(t.Context(), cfg)
		if errors.Is(err, zk.ErrRoot) {
			t.Fatal(err)
		}
		if err != nil {
			t.Log(err)
		}
		return err == nil
	})
	t.Cleanup(s.Close)
	return s
}

func TestStore(t *testing.T) {
	t.Parallel()
	coordtest.Run(t, func(t *testing.T) (a, b coord.Store) {
		cfg := zk.Config{Root: root()}
		return open(t, server(t), cfg), open(t, server(t), cfg)
	})
}

func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	end := time.After(30 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("not reached: %s", what)
		}
	}
}

// admin is a connection of the driver alone.
func admin(t *testing.T, e *servers.Ensemble) *driver.Conn {
	t.Helper()
	conn, _, err := driver.Connect(e.Addrs(), 4*time.Second, driver.WithLogInfo(false))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return conn
}

// empty deletes all under a node.
func empty(t *testing.T, conn *driver.Conn, path string) {
	t.Helper()
	names, _, err := conn.Children(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		empty(t, conn, path+"/"+name)
		if err := conn.Delete(path+"/"+name, -1); err != nil {
			t.Fatal(err)
		}
	}
}
