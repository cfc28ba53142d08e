package app_test

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"crier/api"
	"crier/api/client"
	"crier/internal/app"
	"crier/job"
	device "crier/presence/client"
	"crier/state/parked/kv"
)

// A parked index of which a table is damaged, or gone, is built again when a server
// starts; whoever waits gets each message once.
func TestDamagedTables(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(b []byte) []byte{
		"cut off": func(b []byte) []byte { return b[:len(b)/2] },
		"changed": flipped,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			damagedTables(t, damage)
		})
	}
}

// flipped changes all blocks, but not where they are.
func flipped(b []byte) []byte {
	for i := 10; i < len(b)-200; i += 50 {
		b[i] ^= 1
	}
	return b
}

func damagedTables(t *testing.T, damage func([]byte) []byte) {
	x := &trial{t: t, cfg: newTrialConfig(t)}
	ctx := t.Context()
	x.restart(ctx)
	x.cfg.Listen = mustHost(t, x.srv.API)
	_, err := x.svc.CreateAccount(ctx, api.CreateAccount{Name: "damaged"})
	x.must(err)
	var ids []job.Recipient
	for n := range job.Recipient(50) {
		ids = append(ids, 1+n*70_001)
	}
	_, err = x.svc.AddFollowers(ctx, "damaged", ids)
	x.must(err)
	const jobs = 5
	for range jobs {
		j, err := x.svc.SubmitJob(ctx, api.SubmitJob{Account: "damaged", Audience: api.AudienceFollowers, Body: "message"})
		x.must(err)
		_, err = x.svc.WaitJob(ctx, j.Job, api.WaitJob{For: job.Sent, Timeout: time.Minute})
		x.must(err)
	}
	x.srv.Kill()
	x.restart(ctx) // which makes a table of the journal
	x.srv.Kill()
	tables, err := filepath.Glob(filepath.Join(x.cfg.Dir, "data", "parked", "*.ldb"))
	x.must(err)
	if len(tables) == 0 {
		t.Fatal("there is no table to damage")
	}
	for _, f := range tables {
		b, err := os.ReadFile(f)
		x.must(err)
		x.must(os.WriteFile(f, damage(b), 0o600))
	}
	x.restart(ctx)
	shown := loggedIn(t, x.svc, x.srv.Gateway, ids[7], jobs)
	for id, n := range shown {
		if n != 1 {
			t.Errorf("%s was shown %d times", id, n)
		}
	}
	if len(shown) != jobs {
		t.Errorf("%d of %d messages were shown", len(shown), jobs)
	}
	if log, err := os.ReadFile(filepath.Join(x.cfg.Dir, "server.log")); err != nil || !strings.Contains(string(log), "the parked index is damaged") {
		t.Errorf("void: it did not find the damage, %v", err)
	}
}

// rotten is a store that is damaged from some moment on, wherever it is read.
type rotten struct {
	kv.Store
	is *atomic.Bool
}

func (s rotten) bad() error {
	if s.is.Load() {
		return fmt.Errorf("rotten: %w", kv.ErrDamaged)
	}
	return nil
}

func (s rotten) Get(key []byte) ([]byte, error) {
	if err := s.bad(); err != nil {
		return nil, err
	}
	return s.Store.Get(key)
}

func (s rotten) Scan(start, end []byte, fn func(key, value []byte) error) error {
	if err := s.bad(); err != nil {
		return err
	}
	return s.Store.Scan(start, end, fn)
}

// A server that finds while it runs that its index is damaged builds it again and goes on.
func TestDamagedWhileItRuns(t *testing.T) {
	t.Parallel()
	var is atomic.Bool
	opened := 0
	ready, log := startHouse(t, func(cfg *app.Config) {
		cfg.Edge.Index = func(s kv.Store) kv.Store {
			if opened++; opened == 1 {
				return rotten{s, &is}
			}
			return s
		}
		cfg.Listen = freeAddress(t)
	})
	svc, err := client.New(client.Config{Server: ready.API, Key: ready.Token})
	if err != nil {
		t.Fatal(err)
	}
	defer svc.Close()
	ctx := t.Context()
	_, err = svc.CreateAccount(ctx, api.CreateAccount{Name: "damaged"})
	if err == nil {
		_, err = svc.AddFollowers(ctx, "damaged", []job.Recipient{1, 70_001, 3_000_000})
	}
	if err != nil {
		t.Fatal(err)
	}
	j, err := svc.SubmitJob(ctx, api.SubmitJob{Account: "damaged", Audience: api.AudienceFollowers, Body: "message"})
	if err == nil {
		_, err = svc.WaitJob(ctx, j.Job, api.WaitJob{For: job.Sent, Timeout: time.Minute})
	}
	if err != nil {
		t.Fatal(err)
	}
	is.Store(true)
	shown := loggedIn(t, svc, ready.Gateway, 70_001, 1)
	if shown[j.Job.String()] != 1 || len(shown) != 1 {
		t.Errorf("shown are %v, want %s once", shown, j.Job)
	}
	if !log.has("the parked index is damaged") {
		t.Error("void: it did not find the damage")
	}
}

func freeAddress(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// loggedIn lets a recipient come until it was shown so many messages, and some time more, or half a
// minute.
func loggedIn(t *testing.T, svc api.Service, gateway string, r job.Recipient, most int) map[string]int {
	t.Helper()
	var token api.Token
	var err error
	for try := 0; ; try++ { // the server may be beginning again
		if token, err = svc.MintToken(t.Context(), api.MintToken{Recipient: &r}); err == nil {
			break
		}
		if try == 100 {
			t.Fatal(err)
		}
		<-time.After(100 * time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var mu sync.Mutex
	shown := map[string]int{}
	c, err := device.New(device.Config{URL: gateway, Token: device.StaticToken(token.Token), Backoff: device.Backoff{Min: 100 * time.Millisecond, Max: time.Second, Denied: time.Second},
		OnMessage: func(_ context.Context, m device.Message) error {
			mu.Lock()
			defer mu.Unlock()
			if shown[m.ID]++; len(shown) == most {
				time.AfterFunc(2*time.Second, cancel)
			}
			return nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Run(ctx); ctx.Err() == nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	return maps.Clone(shown)
}
