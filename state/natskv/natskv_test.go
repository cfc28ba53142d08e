package natskv_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"crier/internal/bus/natsbus"
	"crier/state/coord"
	"crier/state/coord/coordtest"
	"crier/state/natskv"

	natsjs "github.com/nats-io/nats.go/jetstream"
)

var quiet = slog.New(slog.DiscardHandler)

func TestStore(t *testing.T) {
	coordtest.Run(t, func(t *testing.T) (a, b coord.Store) {
		s := start(t, natsbus.Config{})
		return open(t, s, natskv.Config{}), open(t, s, natskv.Config{})
	})
}

func start(t testing.TB, cfg natsbus.Config) *natsbus.Server {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	cfg.Logger = quiet
	s, err := natsbus.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	return s
}

func open(t testing.TB, s *natsbus.Server, cfg natskv.Config) *natskv.Store {
	t.Helper()
	nc, err := s.Connect("coordination")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	cfg.Bucket, cfg.Logger = "coord", quiet
	st, err := natskv.Open(t.Context(), nc, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func TestOpenRefuses(t *testing.T) {
	nc, err := start(t, natsbus.Config{}).Connect("coordination")
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	for says, cfg := range map[string]natskv.Config{
		"Bucket":   {},
		"Markers":  {Bucket: "b", Markers: time.Second},
		"MaxBytes": {Bucket: "b", MaxBytes: -1},
	} {
		if _, err := natskv.Open(t.Context(), nc, cfg); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("Open with a bad %s: %v", says, err)
		}
	}
}

// TestReadByTheServersOwnClient looks at the bucket as an operator does.
func TestReadByTheServersOwnClient(t *testing.T) {
	s := start(t, natsbus.Config{})
	st := open(t, s, natskv.Config{})
	if _, err := st.Put(t.Context(), "job/1", []byte("sending"), 0); err != nil {
		t.Fatal(err)
	}
	v, err := st.Put(t.Context(), "job/2", []byte("sent"), 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Delete(t.Context(), "job/2", v); err != nil {
		t.Fatal(err)
	}
	nc, err := s.Connect("operator")
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(t.Context(), "coord")
	if err != nil {
		t.Fatal(err)
	}
	if e, err := kv.Get(t.Context(), "job.1"); err != nil || string(e.Value()) != "sending" {
		t.Errorf("job.1 is %v, %v", e, err)
	}
	if _, err := kv.Get(t.Context(), "job.2"); !errors.Is(err, natsjs.ErrKeyNotFound) {
		t.Errorf("job.2, which was deleted: %v", err)
	}
}

// TestMarkersGo waits until nothing is left of keys that lapsed or were deleted.
func TestMarkersGo(t *testing.T) {
	t.Parallel()
	s := start(t, natsbus.Config{})
	st := open(t, s, natskv.Config{Markers: 2 * time.Second})
	v, err := st.Put(t.Context(), "deleted", []byte("x"), 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Delete(t.Context(), "deleted", v); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Lease(t.Context(), "lapsing", []byte("x"), 0, time.Second); err != nil {
		t.Fatal(err)
	}
	nc, err := s.Connect("operator")
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	left := func() uint64 {
		bucket, err := js.Stream(t.Context(), "KV_coord")
		if err != nil {
			t.Fatal(err)
		}
		return bucket.CachedInfo().State.Msgs
	}
	if n := left(); n != 2 {
		t.Fatalf("the bucket has %d records, want the lease and a marker", n)
	}
	until(t, "nothing is left", func() bool { return left() == 0 })
	for _, key := range []string{"deleted", "lapsing"} {
		if _, err := st.Put(t.Context(), key, []byte("y"), 0); err != nil {
			t.Errorf("creating %s again: %v", key, err)
		}
	}
}

// TestWatchOutOfTouch cuts a watcher off for longer than markers stay: what was
// deleted meanwhile must be told all the same, by comparing.
func TestWatchOutOfTouch(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := natsbus.Config{Dir: dir, Listen: "127.0.0.1:0", Token: "x"}
	s, err := natsbus.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { s.Shutdown() }()
	cfg.Listen = strings.TrimPrefix(s.URL(), "nats://")
	cfg.Logger = quiet
	nc, err := natsbus.Connect(natsbus.Dial{URL: s.URL(), Token: "x", Name: "watcher", Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	kv := natskv.Config{Bucket: "coord", Markers: 2 * time.Second, Wait: time.Second, Logger: quiet}
	st, err := natskv.Open(t.Context(), nc, kv)
	if err != nil {
		t.Fatal(err)
	}
	versions := map[string]coord.Version{}
	for _, key := range []string{"a", "b", "c"} {
		if versions[key], err = st.Put(t.Context(), key, []byte("1"), 0); err != nil {
			t.Fatal(err)
		}
	}
	w := watch(t, st)
	until(t, "the watcher knows three keys", func() bool { return w.is("a=1 b=1 c=1") })
	s.Shutdown()
	// Meanwhile, on a server that the watcher does not reach:
	hidden, err := natsbus.Start(natsbus.Config{Dir: dir, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	other := open(t, hidden, natskv.Config{Markers: 2 * time.Second})
	if err := other.Delete(t.Context(), "a", versions["a"]); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Put(t.Context(), "b", []byte("2"), versions["b"]); err != nil {
		t.Fatal(err)
	}
	until(t, "the marker is gone", func() bool {
		nc, err := hidden.Connect("operator")
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		js, err := natsjs.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		bucket, err := js.Stream(t.Context(), "KV_coord")
		if err != nil {
			t.Fatal(err)
		}
		return bucket.CachedInfo().State.Msgs == 2
	})
	hidden.Shutdown()
	if s, err = natsbus.Start(cfg); err != nil {
		t.Fatal(err)
	}
	until(t, "the watcher knows what changed", func() bool { return w.is("b=2 c=1") })
}

// TestWatchOverAnotherBucket gives the watcher a store that has lost its last
// writes and given their versions to other values.
func TestWatchOverAnotherBucket(t *testing.T) {
	t.Parallel()
	one := natsbus.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0", Token: "x", Logger: quiet}
	s, err := natsbus.Start(one)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { s.Shutdown() }()
	nc, err := natsbus.Connect(natsbus.Dial{URL: s.URL(), Token: "x", Name: "watcher", Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	st, err := natskv.Open(t.Context(), nc, natskv.Config{Bucket: "coord", Wait: time.Second, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"a", "b", "c"} {
		if _, err := st.Put(t.Context(), key, []byte("1"), 0); err != nil {
			t.Fatal(err)
		}
	}
	w := watch(t, st)
	until(t, "the watcher knows three keys", func() bool { return w.is("a=1 b=1 c=1") })
	listen := strings.TrimPrefix(s.URL(), "nats://")
	s.Shutdown()
	another := t.TempDir()
	hidden, err := natsbus.Start(natsbus.Config{Dir: another, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	other := open(t, hidden, natskv.Config{})
	for _, key := range []string{"a", "d"} {
		if _, err := other.Put(t.Context(), key, []byte("2"), 0); err != nil {
			t.Fatal(err)
		}
	}
	hidden.Shutdown()
	if s, err = natsbus.Start(natsbus.Config{Dir: another, Listen: listen, Token: "x", Logger: quiet}); err != nil {
		t.Fatal(err)
	}
	until(t, "the watcher knows the other values", func() bool { return w.is("a=2 d=2") })
}

type watched struct {
	mu    sync.Mutex
	state map[string]string
}

func watch(t *testing.T, s coord.Store) *watched {
	w := &watched{state: map[string]string{}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := s.Watch(ctx, "", func(c coord.Change) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			if c.Gone {
				delete(w.state, c.Key)
			} else {
				w.state[c.Key] = string(c.Value)
			}
			return nil
		}, nil)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Watch ended with %v", err)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return w
}

func (w *watched) is(want string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	pairs := strings.Fields(want)
	for _, pair := range pairs {
		key, value, _ := strings.Cut(pair, "=")
		if w.state[key] != value {
			return false
		}
	}
	return len(pairs) == len(w.state)
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
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

func BenchmarkLease(b *testing.B) {
	st := open(b, start(b, natsbus.Config{}), natskv.Config{})
	var v coord.Version
	var err error
	for b.Loop() {
		if v, err = st.Lease(b.Context(), "member/1", []byte("w1"), v, time.Minute); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkList1000(b *testing.B) {
	st := open(b, start(b, natsbus.Config{}), natskv.Config{})
	for i := range 1000 {
		if _, err := st.Put(b.Context(), fmt.Sprintf("job/%d", i), []byte("sending"), 0); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if l, err := st.List(b.Context(), "job"); err != nil || len(l) != 1000 {
			b.Fatalf("%d entries, %v", len(l), err)
		}
	}
}
