package natsbus_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"crier/internal/bus"
	"crier/internal/bus/bustest"
	"crier/internal/bus/natsbus"
	"crier/internal/bus/natsstream"
	"crier/internal/servers"
)

func start(t *testing.T, cfg natsbus.Config) *natsbus.Server {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	s, err := natsbus.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	return s
}

func TestInProcess(t *testing.T) {
	bustest.Run(t, func(t *testing.T) (a, b bus.Bus) {
		s := start(t, natsbus.Config{})
		return inProcess(t, s), inProcess(t, s)
	})
}

func inProcess(t *testing.T, s *natsbus.Server) bus.Bus {
	nc, err := s.Connect(t.Name())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return natsbus.New(nc)
}

func TestLoopback(t *testing.T) {
	bustest.Run(t, func(t *testing.T) (a, b bus.Bus) {
		s := start(t, natsbus.Config{Listen: "127.0.0.1:0", Token: "secret"})
		nc, err := natsbus.Connect(natsbus.Dial{URL: s.URL(), Token: "secret", Name: "child"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		return inProcess(t, s), natsbus.New(nc)
	})
}

func TestTokenIsAskedFor(t *testing.T) {
	s := start(t, natsbus.Config{Listen: "127.0.0.1:0", Token: "secret"})
	if !strings.HasPrefix(s.URL(), "nats://127.0.0.1:") {
		t.Fatalf("URL is %q", s.URL())
	}
	for _, token := range []string{"", "wrong"} {
		nc, err := natsbus.Connect(natsbus.Dial{URL: s.URL(), Token: token, Name: "stranger"})
		if err == nil {
			nc.Close()
			t.Errorf("a connection with the token %q is let in", token)
		}
	}
}

func TestDoesNotListenUnlessTold(t *testing.T) {
	if url := start(t, natsbus.Config{}).URL(); url != "" {
		t.Fatalf("URL is %q", url)
	}
}

func TestValidateNamesTheField(t *testing.T) {
	for field, cfg := range map[string]natsbus.Config{
		"Dir":       {},
		"Listen":    {Dir: "x", Listen: "nowhere", Token: "t"},
		"bad port":  {Dir: "x", Listen: "127.0.0.1:70000", Token: "t"},
		"Token":     {Dir: "x", Listen: "127.0.0.1:0"},
		"MaxMemory": {Dir: "x", MaxMemory: -1},

		"ClusterListen":   {Dir: "x", Name: "n", ClusterListen: "x", Routes: []string{"h:1"}, Token: "t"},
		"Name":            {Dir: "x", ClusterListen: "h:1", Routes: []string{"h:1"}, Token: "t"},
		"Token is empty":  {Dir: "x", Name: "n", ClusterListen: "h:1", Routes: []string{"h:1"}},
		"Routes is empty": {Dir: "x", Name: "n", ClusterListen: "h:1", Token: "t"},
		"Routes \"h\"":    {Dir: "x", Name: "n", ClusterListen: "h:1", Routes: []string{"h"}, Token: "t"},
		"Routes are":      {Dir: "x", Routes: []string{"h:1"}},
	} {
		if _, err := natsbus.Start(cfg); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("Start with a bad %s: %v", field, err)
		}
	}
}

func TestStartSaysWhyNot(t *testing.T) {
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := natsbus.Start(natsbus.Config{Dir: file}); err == nil || !strings.Contains(err.Error(), file) {
		t.Fatalf("Start in a file: %v", err)
	}
}

// TestTwoOnOneDirectoryAreNotRefused holds why the caller of Start needs a lock.
func TestTwoOnOneDirectoryAreNotRefused(t *testing.T) {
	dir := t.TempDir()
	start(t, natsbus.Config{Dir: dir})
	if s, err := natsbus.Start(natsbus.Config{Dir: dir}); err != nil {
		t.Fatalf("the server looks after its directory itself: %v", err)
	} else {
		s.Shutdown()
	}
}

// TestEmbeddedCluster starts three servers inside processes' reach of each other,
// stores in a stream that all keep, and stops one.
func TestEmbeddedCluster(t *testing.T) {
	routes := routesOfThree(t)
	var all [3]*natsbus.Server
	came := make(chan error, 1)
	for i := range all {
		all[i] = start(t, natsbus.Config{Name: fmt.Sprint("n", i), ClusterListen: routes[i], Routes: routes, Token: "secret", Logger: quiet})
		if all[i].URL() != "" || all[i].ClusterAddress() != routes[i] {
			t.Fatalf("server %d is at %q for clients, at %q for servers", i, all[i].URL(), all[i].ClusterAddress())
		}
		if i == 2 {
			break
		}
		nc := connected(t, all[i])
		go func() { came <- all[i].Await(t.Context(), nc, "S", 3) }()
		brief, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		if err := all[i].Await(brief, nc, "S", 3); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "nats.routes") {
			t.Fatalf("with %d servers it waits no longer: %v", i+1, err)
		}
	}
	for range 2 {
		if err := <-came; err != nil {
			t.Fatal(err)
		}
	}
	open := func(s *natsbus.Server) *natsstream.Stream {
		st, err := natsstream.Open(t.Context(), connected(t, s), natsstream.Config{Stream: "S", Subjects: []string{"s.>"}, MaxBytes: 1 << 30, Replicas: 3, Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	first := open(all[0])
	seq, err := first.Append(t.Context(), natsstream.Put{Subject: "s.a", Data: []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		if r, err := open(s).Last(t.Context(), "s.a"); err != nil || r.Seq != seq {
			t.Fatalf("a server gives record %d, %v; want %d", r.Seq, err, seq)
		}
	}
	all[2].Shutdown() // it hands over what it leads
	until(t, "two of three take records", func() bool {
		next, err := first.Append(t.Context(), natsstream.Put{Subject: "s.a", Last: seq, Data: []byte("y")})
		if err == nil {
			seq = next
		}
		return err == nil
	})
}

// routesOfThree are free addresses for three servers to reach each other.
func routesOfThree(t *testing.T) (routes []string) {
	t.Helper()
	ports, err := servers.Ports(3)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range ports {
		routes = append(routes, fmt.Sprintf("127.0.0.1:%d", p))
	}
	return routes
}

func connected(t *testing.T, s *natsbus.Server) *nats.Conn {
	t.Helper()
	nc, err := s.Connect("test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func TestCredentialsAreRead(t *testing.T) {
	file := func(text string) string {
		path := filepath.Join(t.TempDir(), "creds")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if c, err := natsbus.ReadCreds(file("crier:se:cret\n")); err != nil || c != (natsbus.Creds{User: "crier", Password: "se:cret"}) {
		t.Errorf("user:password is read as %+v, %v", c, err)
	}
	creds := file("-----BEGIN NATS USER JWT-----\nx\n------END NATS USER JWT------\n")
	if c, err := natsbus.ReadCreds(creds); err != nil || c != (natsbus.Creds{File: creds}) {
		t.Errorf("a file of credentials is read as %+v, %v", c, err)
	}
	for _, bad := range []string{file("word"), file(":x"), file("a:b\nc:d"), file(""), "/nowhere/x"} {
		if c, err := natsbus.ReadCreds(bad); err == nil {
			t.Errorf("%s is read as %+v", bad, c)
		}
	}
	if token, err := natsbus.ReadToken(file(" secret\n")); err != nil || token != "secret" {
		t.Errorf("a token is read as %q, %v", token, err)
	}
	for _, bad := range []string{file("two words"), file(""), "/nowhere/x"} {
		if token, err := natsbus.ReadToken(bad); err == nil {
			t.Errorf("%s is read as %q", bad, token)
		}
	}
}

func TestShutdownIsIdempotent(t *testing.T) {
	s := start(t, natsbus.Config{})
	s.Shutdown()
	s.Shutdown()
	if _, err := s.Connect("late"); err == nil {
		t.Fatal("a server that was shut down takes connections")
	}
}

// TestPublishFailsWhileCut stops the server and starts it again on the same
// address: what is sent between must fail at once and not show up later.
func TestPublishFailsWhileCut(t *testing.T) {
	dir := t.TempDir()
	first, err := natsbus.Start(natsbus.Config{Dir: dir, Listen: "127.0.0.1:0", Token: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Shutdown()
	var logs logBuffer
	nc, err := natsbus.Connect(natsbus.Dial{URL: first.URL(), Token: "secret", Name: "child",
		Logger: slog.New(slog.NewTextHandler(&logs, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	b := natsbus.New(nc)
	got := make(chan bus.Msg, 1000)
	if _, err := b.Subscribe("a", func(m bus.Msg) { got <- m }); err != nil {
		t.Fatal(err)
	}
	first.Shutdown()
	until(t, "the cut is seen", func() bool { return b.Publish("a", []byte("lost")) != nil })
	if err := b.Publish("a", []byte("lost")); !errors.Is(err, bus.ErrCut) {
		t.Errorf("Publish while cut: %v", err)
	}
	if _, err := b.Request(t.Context(), "a", nil); !errors.Is(err, bus.ErrCut) {
		t.Errorf("Request while cut: %v", err)
	}
	second, err := natsbus.Start(natsbus.Config{Dir: dir, Listen: strings.TrimPrefix(first.URL(), "nats://"), Token: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	defer second.Shutdown()
	until(t, "the connection is back", func() bool { return b.Publish("a", []byte("kept")) == nil })
	select {
	case m := <-got:
		if string(m.Data) != "kept" {
			t.Fatalf("got %q, which was refused while cut", m.Data)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("nothing arrives after the cut")
	}
	until(t, "the log tells of it", func() bool { return logs.contains("cut") && logs.contains("back") })
}

// A question that was asked over a connection that is lost ends with it, long before its
// patience does; one that is asked afterwards is answered.
func TestQuestionsEndWithTheirConnection(t *testing.T) {
	dir := t.TempDir()
	first, err := natsbus.Start(natsbus.Config{Dir: dir, Listen: "127.0.0.1:0", Token: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Shutdown()
	nc, err := natsbus.Connect(natsbus.Dial{URL: first.URL(), Token: "secret", Name: "child", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	b := natsbus.New(nc)
	var answers atomic.Bool
	if _, err := b.Subscribe("a", func(m bus.Msg) {
		if answers.Load() {
			_ = m.Respond([]byte("yes")) // who asked waits for it
		}
	}); err != nil {
		t.Fatal(err)
	}
	ended := make(chan string, 10)
	ask := func(text string) error {
		return b.Ask(bus.Question{Subject: "a", Data: []byte(text), Patience: time.Hour}, func(answer []byte, err error) {
			if err != nil && !errors.Is(err, bus.ErrNoAnswer) {
				t.Errorf("%s: %v", text, err)
			}
			ended <- text + string(answer)
		})
	}
	for i := range 3 {
		if err := ask(fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	first.Shutdown()
	second, err := natsbus.Start(natsbus.Config{Dir: dir, Listen: strings.TrimPrefix(first.URL(), "nats://"), Token: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	defer second.Shutdown()
	next := func(want string) {
		t.Helper()
		select {
		case got := <-ended:
			if got != want {
				t.Fatalf("%q ended, want %q", got, want)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%q does not end", want)
		}
	}
	for i := range 3 {
		next(fmt.Sprint(i))
	}
	answers.Store(true)
	if err := ask("later "); err != nil {
		t.Fatal(err)
	}
	next("later yes")
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	end := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("not reached: %s", what)
		}
	}
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) contains(s string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.b.String(), s)
}
