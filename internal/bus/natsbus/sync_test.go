package natsbus_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"crier/internal/bus"
	"crier/internal/bus/bustest"
	"crier/internal/bus/natsbus"
	"crier/internal/servers"

	"github.com/nats-io/nats.go"
)

var quiet = slog.New(slog.DiscardHandler)

func cluster(t *testing.T, cfg servers.NATSConfig) *servers.NATS {
	t.Helper()
	cfg.Dir = t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := servers.StartNATS(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Kill)
	return c
}

func dial(t *testing.T, url, user string) *natsbus.Conn {
	t.Helper()
	nc, err := natsbus.Connect(natsbus.Dial{URL: url, Creds: natsbus.Creds{User: user, Password: servers.NATSPassword}, Name: t.Name(), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// TestCluster holds the bus of a cluster to the suite, its ends at different servers,
// and asks the servers whether they sync always while one dies.
func TestCluster(t *testing.T) {
	t.Parallel()
	c := cluster(t, servers.NATSConfig{Servers: 3, Accounts: 16})
	t.Run("bus", func(t *testing.T) {
		bustest.Run(t, func(t *testing.T) (a, b bus.Bus) {
			nca, ncb := dial(t, c.Nodes[0].URL, servers.NATSUser), dial(t, c.Nodes[1].URL, servers.NATSUser)
			return settled{natsbus.New(nca), nca, ncb}, settled{natsbus.New(ncb), ncb, nca}
		})
	})
	system := dial(t, c.URL, servers.NATSSystem)
	if err := natsbus.CheckSync(t.Context(), system); err != nil {
		t.Errorf("three that sync always: %v", err)
	}
	c.Nodes[2].Kill()
	if err := natsbus.CheckSync(t.Context(), dial(t, c.URL, servers.NATSSystem)); err != nil {
		t.Errorf("two that sync always, one dead: %v", err)
	}
	started := time.Now()
	err := natsbus.CheckSync(t.Context(), dial(t, c.URL, servers.NATSUser))
	if err == nil || !strings.Contains(err.Error(), "nats.system") {
		t.Errorf("asked by an ordinary user: %v", err)
	}
	c.Nodes[1].Kill()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second) // there is a bound of its own, too
	defer cancel()
	if err := natsbus.CheckSync(ctx, dial(t, c.URL, servers.NATSSystem)); err == nil || errors.Is(err, natsbus.ErrUnsynced) {
		t.Errorf("one of three answers: %v", err)
	}
	if took := time.Since(started); took > 10*time.Second {
		t.Errorf("two refusals took %s", took)
	}
}

// settled is a bus whose subscriptions are known at the other end's server when they
// are made. Servers tell each other of them in order and answer for themselves only,
// so what the suite wants of one server is true of a cluster a moment later.
type settled struct {
	*natsbus.Bus
	mine, other *natsbus.Conn
}

// Subscribe subscribes and waits until a later subscription is known over there.
func (s settled) Subscribe(pattern string, fn func(bus.Msg)) (bus.Subscription, error) {
	sub, err := s.Bus.Subscribe(pattern, fn)
	if err != nil {
		return nil, err
	}
	marker := s.mine.NewInbox()
	last, err := s.mine.Subscribe(marker, func(m *nats.Msg) { _ = m.Respond(nil) })
	if err != nil {
		return nil, err
	}
	defer func() { _ = last.Unsubscribe() }()
	for end := time.Now().Add(5 * time.Second); ; {
		_, err := s.other.Request(marker, nil, time.Second)
		if err == nil || time.Now().After(end) {
			return sub, err
		}
	}
}

// TestOneUnsyncedIsRefused has a cluster in which one server does not sync always.
func TestOneUnsyncedIsRefused(t *testing.T) {
	t.Parallel()
	c := cluster(t, servers.NATSConfig{Servers: 3, Unsynced: []int{2}})
	started := time.Now()
	err := natsbus.CheckSync(t.Context(), dial(t, c.Nodes[0].URL, servers.NATSSystem))
	if !errors.Is(err, natsbus.ErrUnsynced) || !strings.Contains(err.Error(), "sync_interval: always") || !strings.Contains(err.Error(), c.Nodes[1].Server) {
		t.Fatalf("CheckSync: %v", err)
	}
	if took := time.Since(started); took > 10*time.Second {
		t.Fatalf("it took %s", took)
	}
}

// TestEmbeddedServersAreTold has the processes in which servers are embedded say whether
// these sync always, to whoever connects to one of them.
func TestEmbeddedServersAreTold(t *testing.T) {
	t.Parallel()
	told := func(s *natsbus.Server) error {
		nc, err := natsbus.Connect(natsbus.Dial{URL: s.URL(), Token: "secret", Name: t.Name(), Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		return natsbus.CheckTold(t.Context(), nc)
	}
	tell := func(s *natsbus.Server) {
		nc, err := s.Connect("inside")
		if err == nil {
			t.Cleanup(nc.Close)
			err = s.TellSync(nc)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	alone := start(t, natsbus.Config{Listen: "127.0.0.1:0", Token: "secret", Logger: quiet})
	if err := told(alone); !errors.Is(err, natsbus.ErrUntold) {
		t.Errorf("nobody tells: %v", err)
	}
	if tell(alone); told(alone) != nil {
		t.Errorf("one that is alone: %v", told(alone))
	}
	lax := start(t, natsbus.Config{Listen: "127.0.0.1:0", Token: "secret", Unsynced: true, Logger: quiet})
	if tell(lax); !errors.Is(told(lax), natsbus.ErrUnsynced) {
		t.Errorf("one that does not sync: %v", told(lax))
	}

	routes := routesOfThree(t)
	var all [3]*natsbus.Server
	for i := range all {
		all[i] = start(t, natsbus.Config{Name: fmt.Sprint("told", i), Listen: "127.0.0.1:0", ClusterListen: routes[i], Routes: routes, Token: "secret", Logger: quiet})
	}
	tell(all[0])
	if err := told(all[0]); err == nil || errors.Is(err, natsbus.ErrUnsynced) || errors.Is(err, natsbus.ErrUntold) {
		t.Errorf("one of three tells: %v", err)
	}
	tell(all[1])
	until(t, "two of three are enough", func() bool { return told(all[0]) == nil && told(all[2]) == nil })
}
