package natsbus_test

import (
	"bytes"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"crier/internal/bus"
	"crier/internal/bus/bustest"
	"crier/internal/bus/natsbus"
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
