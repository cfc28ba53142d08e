package zk_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"crier/state/coord"
	"crier/state/zk"

	driver "github.com/go-zookeeper/zk"
)

// TestWriteWithoutAnswer swallows the answer of a write: it is stored, and its writer
// is told neither that it is nor that it is not.
func TestWriteWithoutAnswer(t *testing.T) {
	t.Parallel()
	e, path := server(t), root()
	p := newProxy(t, e.Addrs()[0])
	far := open(t, e, zk.Config{Servers: []string{p.l.Addr().String()}, Root: path, Session: 10 * time.Second, Wait: 2 * time.Second})
	near := open(t, e, zk.Config{Root: path})
	v, err := far.Put(t.Context(), "claim/x", []byte("one"), 0)
	if err != nil {
		t.Fatal(err)
	}
	p.swallow(true)
	start := time.Now()
	_, err = far.Put(t.Context(), "claim/x", []byte("two"), v)
	if err == nil || errors.Is(err, coord.ErrConflict) {
		t.Fatalf("a write without an answer: %v", err)
	}
	// It does not wait until the connection counts as dead, by which two thirds of the session pass.
	if took := time.Since(start); took > 5*time.Second {
		t.Fatalf("a write without an answer took %s", took)
	}
	e2, err := near.Get(t.Context(), "claim/x")
	if err != nil || string(e2.Value) != "two" || e2.Version == v {
		t.Fatalf("the write is not stored: %q %d, %v", e2.Value, e2.Version, err)
	}
	p.swallow(false)
	p.cut()
	until(t, "the client reads it back", func() bool {
		got, err := far.Get(t.Context(), "claim/x")
		return err == nil && got.Version == e2.Version
	})
	_, err = far.Put(t.Context(), "claim/x", []byte("two"), v)
	if !errors.Is(err, coord.ErrConflict) {
		t.Fatalf("the same write again: %v", err)
	}
}

// holderEnv makes a process of the test binary hold a lease: servers, then root.
const holderEnv = "CRIER_ZK_HOLDER"

// hold is a process that renews a lease until it may not.
func hold(arg string) error {
	addrs, path, _ := strings.Cut(arg, " ")
	s, err := zk.Open(context.Background(), zk.Config{Servers: strings.Split(addrs, ","), Root: path, Session: 2 * time.Second, Logger: quiet})
	if err != nil {
		return err
	}
	var v coord.Version
	t := time.NewTicker(250 * time.Millisecond)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		next, err := s.Lease(ctx, "member/1", []byte("holder"), v, time.Second)
		cancel()
		switch {
		case err == nil:
			if v == 0 {
				fmt.Println("holds")
			}
			v = next
		case errors.Is(err, coord.ErrConflict):
			fmt.Println("conflict")
			return nil
		}
		<-t.C
	}
}

// TestPausedHolder stops the process that holds a lease, for longer than its lease and
// its session last. The lease lapses for everybody, and what the process does when it
// goes on has no effect, whether somebody has seen it lapse or not.
func TestPausedHolder(t *testing.T) {
	t.Parallel()
	for _, seen := range []bool{true, false} {
		t.Run(fmt.Sprintf("seen=%v", seen), func(t *testing.T) {
			t.Parallel()
			e, path := server(t), root()
			s := open(t, e, zk.Config{Root: path})
			w := watch(t, s)
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), holderEnv+"="+strings.Join(e.Addrs(), ",")+" "+path)
			cmd.Stderr = os.Stderr
			cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Wait()
			defer cmd.Process.Kill()
			lines := bufio.NewScanner(out)
			if !lines.Scan() || lines.Text() != "holds" {
				t.Fatalf("the holder says %q", lines.Text())
			}
			until(t, "the lease is seen", func() bool { return w.is("member/1=holder") })
			if !seen {
				w.end()
			}
			if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			stopped := time.Now()
			if seen {
				until(t, "the lease is gone", func() bool { return w.is("") })
				if took := time.Since(stopped); took > 4*time.Second+500*time.Millisecond {
					t.Errorf("a lease of 1 s was told to be gone after %s", took)
				}
			}
			<-time.After(5*time.Second - time.Since(stopped)) // the server forgets the session
			if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
			if !lines.Scan() || lines.Text() != "conflict" {
				t.Fatalf("the holder, when it goes on, says %q", lines.Text())
			}
			if e, err := s.Get(t.Context(), "member/1"); !errors.Is(err, coord.ErrNotFound) {
				t.Fatalf("the lease is %q, %v", e.Value, err)
			}
			if seen && w.changes() != "member/1=holder -member/1" {
				t.Fatalf("the watcher was told %s", w.changes())
			}
		})
	}
}

// TestDriver shows what this package is built around, with the driver alone.
func TestDriver(t *testing.T) {
	t.Parallel()
	var events atomic.Int64
	conn, ch, err := driver.Connect(server(t).Addrs(), 4*time.Second, driver.WithLogInfo(false),
		driver.WithEventCallback(func(ev driver.Event) {
			if ev.Type == driver.EventNodeDataChanged {
				events.Add(1)
			}
		}))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	path, acl := root(), driver.WorldACL(driver.PermAll)
	if _, err := conn.Create(path, nil, 0, acl); err != nil {
		t.Fatal(err)
	}
	// Nobody reads the channel: it keeps six events and drops the others; the callback
	// sees all.
	const n = 20
	for range n {
		if _, _, _, err := conn.GetW(path); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Set(path, []byte("x"), -1); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "the callback has seen all events", func() bool { return events.Load() == n })
	if kept := len(ch); kept >= n {
		t.Errorf("the channel kept %d events: it drops none any more", kept)
	}
	// A node's version starts again when it is created again: a late write hits it.
	if _, err := conn.Create(path+"/x", []byte("one"), 0, acl); err != nil {
		t.Fatal(err)
	}
	_, before, err := conn.Get(path + "/x")
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Delete(path+"/x", before.Version); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Create(path+"/x", []byte("another life"), 0, acl); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Set(path+"/x", []byte("late"), before.Version); err != nil {
		t.Errorf("a late write over a node's next life is refused (%v): versions do not start again", err)
	}
	// A server as it comes has no nodes with a time to live.
	if _, err := conn.CreateTTL(path+"/ttl", nil, driver.FlagTTL, acl, time.Second); err == nil {
		t.Error("the server makes a node with a time to live, which needs extended types")
	}
}

// TestOpenHalfway has the servers fall silent after ever more of what an Open asks: the root that
// it leaves can be opened.
func TestOpenHalfway(t *testing.T) {
	t.Parallel()
	e := server(t)
	for answers := 1; ; answers++ {
		p, path := newProxy(t, e.Addrs()[0]), root()
		p.mu.until = answers
		s, err := zk.Open(t.Context(), zk.Config{Servers: []string{p.l.Addr().String()}, Root: path, Create: true, Wait: 500 * time.Millisecond, Logger: quiet})
		if err == nil {
			s.Close()
		}
		open(t, e, zk.Config{Root: path})
		if err == nil {
			t.Logf("it takes %d answers", answers)
			return
		}
	}
}

// TestOpenRefuses gives wrong roots, servers and keys.
func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	e := server(t)
	conn := admin(t, e)
	foreign, locked, plain := root(), root(), root()
	anybody := driver.WorldACL(driver.PermAll)
	for _, n := range []struct {
		path string
		acl  []driver.ACL
	}{{foreign, anybody}, {foreign + "/jobs", anybody}, {plain, anybody}, {locked, driver.DigestACL(driver.PermAll, "crier", "right")}} {
		if _, err := conn.Create(n.path, nil, 0, n.acl); err != nil {
			t.Fatal(err)
		}
	}
	absent := root()
	for _, c := range []struct {
		says string
		cfg  zk.Config
	}{
		{"Servers", zk.Config{Root: plain}},
		{"host:port", zk.Config{Servers: []string{"localhost"}, Root: plain}},
		{"Root", zk.Config{Servers: e.Addrs()}},
		{"Root", zk.Config{Servers: e.Addrs(), Root: "/"}},
		{"Root", zk.Config{Servers: e.Addrs(), Root: "crier"}},
		{"Root", zk.Config{Servers: e.Addrs(), Root: "/crier/"}},
		{"Session", zk.Config{Servers: e.Addrs(), Root: plain, Session: time.Millisecond}},
		{"Wait", zk.Config{Servers: e.Addrs(), Root: plain, Wait: -1}},
		{"Digest", zk.Config{Servers: e.Addrs(), Root: plain, Digest: "secret"}},
		{absent, zk.Config{Servers: e.Addrs(), Root: absent}},
		{absent + "/below", zk.Config{Servers: e.Addrs(), Root: absent + "/below", Create: true}},
		{foreign, zk.Config{Servers: e.Addrs(), Root: foreign, Create: true}},
		{locked, zk.Config{Servers: e.Addrs(), Root: locked}},
		{locked, zk.Config{Servers: e.Addrs(), Root: locked, Digest: "crier:wrong"}},
		{"does not answer", zk.Config{Servers: []string{"127.0.0.1:1"}, Root: plain, Wait: time.Second}},
	} {
		c.cfg.Logger = quiet
		s, err := zk.Open(t.Context(), c.cfg)
		if err == nil {
			s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "wrong") {
			t.Errorf("Open(%+v): %v, want an error that says %q", c.cfg, err, c.says)
		}
	}
	for _, cfg := range []zk.Config{{Root: plain}, {Root: locked, Digest: "crier:right"}} {
		s := open(t, e, cfg)
		if _, err := s.Put(t.Context(), "a/b", []byte("x"), 0); err != nil {
			t.Errorf("%s: %v", cfg.Root, err)
		}
	}
	if _, _, err := conn.Get(locked + "/a.d/b"); !errors.Is(err, driver.ErrNoAuth) {
		t.Errorf("anybody reads what was stored with a digest: %v", err)
	}
}
