package space

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"crier/job"
)

// get asks the port of a Space with a key that nobody knows.
func get(t *testing.T, s *Space, path string) (status int, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.port.Addr().String()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer crk_anybody")
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	return a.StatusCode, string(b)
}

// kept makes a Space that has its port.
func kept(t *testing.T) *Space {
	t.Helper()
	data := t.TempDir()
	s := New(Config{Data: data, Address: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler), Dirs: []Dir{{"data", data}}, Limits: Limits{70, 85}})
	t.Cleanup(s.Close)
	l, err := s.Listen()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return s
}

// While it waits for space, it tells what is free at the moment and what it waits for, to any
// key; and the metrics have the disks.
func TestWaitTellsOfTheMoment(t *testing.T) {
	s := kept(t)
	var free atomic.Int64
	s.Free = func(string) (int64, int64, error) { return free.Load(), 10 << 10, nil }
	if err := s.short(1); err == nil || !strings.Contains(err.Error(), "once 20 KiB are free") { // for the log
		t.Errorf("a full disk: %v", err)
	}
	waited := make(chan error, 1)
	go func() { waited <- s.Wait(t.Context(), nil) }()
	for _, c := range []struct {
		free int64
		says string
	}{{0, "has 0 KiB free"}, {12 << 10, "has 12 KiB free"}, {20<<10 - 1, "has 19 KiB free"}} {
		free.Store(c.free)
		for path, want := range map[string]int{"/v1/status": http.StatusInsufficientStorage, "/readyz": http.StatusServiceUnavailable} {
			status, body := get(t, s, path)
			if status != want || !strings.Contains(body, c.says) || !strings.Contains(body, "once 20 KiB are free") {
				t.Errorf("with %d B free %s is answered %d %s", c.free, path, status, body)
			}
		}
	}
	if status, body := get(t, s, "/metrics"); status != http.StatusOK || !strings.Contains(body, `crier_disk_alarm{of="data"} `) || !strings.Contains(body, `crier_disk_used_ratio{of="data"} `) {
		t.Errorf("metrics: %d %s", status, body)
	}
	free.Store(20 << 10)
	if err := <-waited; err != nil {
		t.Error(err)
	}
}

// While it is held for another reason, any key is told that.
func TestHoldTellsWhy(t *testing.T) {
	s := kept(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	held := make(chan error, 1)
	go func() {
		held <- s.Hold(ctx, job.Unavailable("n3 does not sync"), func(context.Context) error { return errors.New("not yet") })
	}()
	if status, body := get(t, s, "/v1/status"); status != http.StatusServiceUnavailable || !strings.Contains(body, "n3 does not sync") {
		t.Errorf("status: %d %s", status, body)
	}
	stop()
	if err := <-held; err != nil {
		t.Error(err)
	}
}
