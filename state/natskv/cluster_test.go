package natskv_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"crier/internal/bus/natsbus"
	"crier/internal/servers"
	"crier/state/coord"
	"crier/state/coord/coordtest"
	"crier/state/natskv"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

func startServers(t testing.TB, n int) *servers.NATS {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := servers.StartNATS(ctx, servers.NATSConfig{Dir: t.TempDir(), Servers: n})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Kill)
	return c
}

func dial(t testing.TB, url string) *nats.Conn {
	t.Helper()
	nc, err := natsbus.Connect(natsbus.Dial{URL: url, Creds: natsbus.Creds{User: servers.NATSUser, Password: servers.NATSPassword}, Name: t.Name(), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func openReplicated(t testing.TB, nc *nats.Conn, bucket string, replicas int) *natskv.Store {
	t.Helper()
	st, err := natskv.Open(t.Context(), nc, natskv.Config{Bucket: bucket, Replicas: replicas, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// TestCluster holds a bucket on three servers to the suite, its two ends at two of
// them, and to what is promised when one of them dies.
func TestCluster(t *testing.T) {
	t.Parallel()
	c := startServers(t, 3)
	var bucket atomic.Int32
	t.Run("suite", func(t *testing.T) {
		coordtest.Run(t, func(t *testing.T) (a, b coord.Store) {
			name := fmt.Sprintf("b%d", bucket.Add(1))
			return openReplicated(t, dial(t, c.Nodes[0].URL), name, 3), openReplicated(t, dial(t, c.Nodes[1].URL), name, 3)
		})
	})
	nc := dial(t, c.URL)
	st := openReplicated(t, nc, "kill", 3)
	if _, err := natskv.Open(t.Context(), nc, natskv.Config{Bucket: "kill"}); err == nil || !strings.Contains(err.Error(), "replicas") {
		t.Errorf("one replica of a bucket with three: %v", err)
	}
	v, err := st.Put(t.Context(), "job/1", []byte("1"), 0)
	if err != nil {
		t.Fatal(err)
	}
	w := watch(t, st)
	until(t, "the watcher knows the key", func() bool { return w.is("job/1=1") })
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	info, err := js.Stream(t.Context(), "KV_kill")
	if err != nil {
		t.Fatal(err)
	}
	leader, err := c.Node(info.CachedInfo().Cluster.Leader)
	if err != nil {
		t.Fatal(err)
	}
	leader.Kill()
	until(t, "a write after the kill", func() bool {
		_, err := st.Put(t.Context(), "job/1", []byte("2"), v)
		if e, gerr := st.Get(t.Context(), "job/1"); err != nil && gerr == nil && string(e.Value) == "2" {
			return true // it was stored by a try whose answer did not come
		}
		return err == nil
	})
	until(t, "the watcher knows the write", func() bool { return w.is("job/1=2") })
}

// TestUpdateDropsTheTime renews a lease by the server's own client, as this store does
// not: the key stays for ever.
func TestUpdateDropsTheTime(t *testing.T) {
	t.Parallel()
	s := start(t, natsbus.Config{})
	st := open(t, s, natskv.Config{})
	nc, err := s.Connect("another's client")
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
	v, err := st.Lease(t.Context(), "updated", []byte("x"), 0, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Update(t.Context(), "updated", []byte("y"), uint64(v)); err != nil {
		t.Fatal(err)
	}
	bucket, err := js.Stream(t.Context(), "KV_coord")
	if err != nil {
		t.Fatal(err)
	}
	if m, err := bucket.GetLastMsgForSubject(t.Context(), "$KV.coord.updated"); err != nil || m.Header.Get("Nats-TTL") != "" {
		t.Fatalf("the updated record has the time %q, %v", m.Header.Get("Nats-TTL"), err)
	}
	if _, err := st.Lease(t.Context(), "left", []byte("x"), 0, 2*time.Second); err != nil {
		t.Fatal(err)
	}
	gone := func(key string) bool { _, err := st.Get(t.Context(), key); return err != nil }
	until(t, "a later lease lapses", func() bool { return gone("left") })
	if gone("updated") {
		t.Fatal("an update keeps the time to live: leases could be renewed by it")
	}
}

// TestExpiryLags measures when leases lapse: never early, a little late.
func TestExpiryLags(t *testing.T) {
	t.Parallel()
	s := start(t, natsbus.Config{})
	st := open(t, s, natskv.Config{})
	const ttl = time.Second
	stored := map[string]time.Time{}
	for i := range 20 {
		key := fmt.Sprintf("lease/%d", i)
		stored[key] = time.Now()
		if _, err := st.Lease(t.Context(), key, []byte("x"), 0, ttl); err != nil {
			t.Fatal(err)
		}
	}
	var most time.Duration
	until(t, "all leases lapse", func() bool {
		for key, at := range stored {
			asked := time.Now()
			if _, err := st.Get(t.Context(), key); err == nil {
				most = max(most, asked.Sub(at)-ttl)
				continue
			}
			if early := ttl - time.Since(at); early > 10*time.Millisecond {
				t.Fatalf("a lease lapsed %s early", early)
			}
			delete(stored, key)
		}
		return len(stored) == 0
	})
	t.Logf("leases lapse at most %s late, looked at every 50 ms", most)
	if most > 3*time.Second {
		t.Errorf("a lease was there %s after its time", most)
	}
}
