package zk_test

import (
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"crier/internal/servers"
	"crier/state/coord"
	"crier/state/coord/coordtest"
	"crier/state/zk"
)

// TestOutage kills the only server and starts it again on its data.
func TestOutage(t *testing.T) {
	t.Parallel()
	e := start(t, 1)
	cfg := zk.Config{Root: root(), Session: 2 * time.Second, Wait: time.Second}
	coordtest.RunOutage(t, coordtest.Outage{
		A: open(t, e, cfg), B: open(t, e, cfg), Wait: time.Second,
		Down: e.Nodes[0].Process.Kill,
		Up: func() {
			if err := e.Start(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
		},
	})
}

// TestAnotherStore gives a watcher a server that has lost its data: what it knew is
// gone, and what is new is told, though it was written by as many writes.
func TestAnotherStore(t *testing.T) {
	t.Parallel()
	e, path := server(t), root()
	s := open(t, e, zk.Config{Root: path, Session: 2 * time.Second})
	old, err := s.Put(t.Context(), "a", []byte("1"), 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), "b", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	w := watch(t, s)
	until(t, "the watcher knows two keys", func() bool { return w.is("a=1 b=1") })
	conn := admin(t, e)
	empty(t, conn, path)
	other := open(t, e, zk.Config{Root: path})
	v, err := other.Put(t.Context(), "a", []byte("2"), 0)
	if err != nil {
		t.Fatal(err)
	}
	if v == old {
		t.Errorf("the version %d of the lost store came again", v)
	}
	until(t, "the watcher knows the other value", func() bool { return w.is("a=2") })
}

// TestQuorum takes nodes away from three: kills the leader and starts it again, and
// pauses the leader until another leads. The answers of clients on all of them must
// have one order, also of one that the paused leader serves when it goes on.
func TestQuorum(t *testing.T) {
	t.Parallel()
	e := start(t, 3)
	path := root()
	cfg := zk.Config{Root: path, Session: 2 * time.Second, Wait: 2 * time.Second}
	one, two := open(t, e, cfg), open(t, e, cfg)
	w := watch(t, one)
	t.Run("a follower lags", func(t *testing.T) { lagging(t, e, path) })
	t.Run("a follower is paused", func(t *testing.T) { pausedFollower(t, e, path) })
	t.Run("the leader is killed", func(t *testing.T) {
		coordtest.RunLinear(t, coordtest.Linear{
			Key: "claim/killed", Stores: []coord.Store{one, two}, MinKnown: 200, Pace: 2 * time.Millisecond,
			Fault: func() {
				old := leader(t, e, -1)
				e.Nodes[old].Process.Kill()
				killed := time.Now()
				leader(t, e, old)
				key := fmt.Sprintf("after/%d", old)
				until(t, "a write goes through", func() bool {
					_, err := two.Put(t.Context(), key, []byte("x"), 0)
					return err == nil || errors.Is(err, coord.ErrConflict)
				})
				until(t, "a watcher sees it", func() bool { return w.has(key) })
				t.Logf("written and seen %s after the leader was killed", time.Since(killed).Round(time.Millisecond))
				if err := e.Start(t.Context(), old); err != nil {
					t.Error(err)
				}
			},
		})
	})
	t.Run("the leader is paused", func(t *testing.T) {
		old := leader(t, e, -1)
		// This one stays on its connection, and what it asks meanwhile is read by the
		// old leader before that knows that it is one.
		loyal := open(t, e, zk.Config{Servers: []string{e.Nodes[old].Addr}, Root: path, Session: 40 * time.Second, Wait: time.Second})
		coordtest.RunLinear(t, coordtest.Linear{
			Key: "claim/paused", Stores: []coord.Store{one, two, loyal}, MinKnown: 200, Pace: 2 * time.Millisecond,
			Fault: func() {
				signal(t, e.Nodes[old], syscall.SIGSTOP)
				paused := time.Now()
				next := leader(t, e, old)
				until(t, "a write goes through", func() bool {
					_, err := two.Put(t.Context(), "paused", []byte("x"), 0)
					return err == nil || errors.Is(err, coord.ErrConflict)
				})
				t.Logf("node %d leads instead of %d; written %s after the pause began", next, old, time.Since(paused).Round(time.Millisecond))
				for range 2 {
					if _, err := loyal.Get(t.Context(), "paused"); err == nil {
						t.Error("a paused server answers")
					}
				}
				signal(t, e.Nodes[old], syscall.SIGCONT)
				until(t, "a client of the deposed one is served", func() bool {
					_, err := loyal.Get(t.Context(), "paused")
					return err == nil
				})
			},
		})
	})
}

// lagging pauses a follower while another client writes: what its own client asks
// after that write was answered is read when the follower goes on, before or after it
// has learnt of the write. It must show.
func lagging(t *testing.T, e *servers.Ensemble, path string) {
	lead := leader(t, e, -1)
	follower := (lead + 1) % len(e.Nodes)
	cfg := zk.Config{Servers: []string{e.Nodes[lead].Addr}, Root: path}
	writer := open(t, e, cfg)
	cfg.Servers = []string{e.Nodes[follower].Addr}
	reader := open(t, e, cfg)
	var v coord.Version
	for round := range 30 {
		signal(t, e.Nodes[follower], syscall.SIGSTOP)
		next, err := writer.Put(t.Context(), "lag/1", fmt.Append(nil, round), v)
		if err != nil {
			t.Fatal(err)
		}
		v = next
		got := make(chan coord.Version, 1)
		go func() {
			e, err := reader.Get(t.Context(), "lag/1")
			if err != nil {
				t.Error(err)
			}
			got <- e.Version
		}()
		select {
		case <-got:
			t.Fatal("a paused server answers")
		case <-time.After(20 * time.Millisecond):
		}
		signal(t, e.Nodes[follower], syscall.SIGCONT)
		if have := <-got; have != v {
			t.Fatalf("round %d: a read after the write of version %d gives %d", round, v, have)
		}
	}
}

// pausedFollower opens clients that may meet a server first which takes connections
// and says nothing: they must come to the other one in time.
func pausedFollower(t *testing.T, e *servers.Ensemble, path string) {
	lead := leader(t, e, -1)
	mute := e.Nodes[(lead+1)%len(e.Nodes)]
	signal(t, mute, syscall.SIGSTOP)
	defer signal(t, mute, syscall.SIGCONT)
	for range 5 { // the driver takes them in any order
		s, err := zk.Open(t.Context(), zk.Config{Servers: []string{mute.Addr, e.Nodes[lead].Addr}, Root: path, Session: time.Second, Wait: 4 * time.Second, Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
	}
}

func signal(t *testing.T, n *servers.ZooKeeperNode, s syscall.Signal) {
	t.Helper()
	if err := n.Process.Signal(s); err != nil {
		t.Error(err)
	}
}

// leader waits until a node other than one leads.
func leader(t *testing.T, e *servers.Ensemble, not int) (is int) {
	t.Helper()
	until(t, "a node leads", func() bool {
		for i, n := range e.Nodes {
			if i == not {
				continue
			}
			if mode, err := n.Mode(t.Context()); err == nil && mode == "leader" {
				is = i
				return true
			}
		}
		return false
	})
	return is
}
