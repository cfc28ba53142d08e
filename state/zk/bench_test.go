package zk_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"crier/internal/bus/natsbus"
	"crier/internal/servers"
	"crier/state/coord"
	"crier/state/natskv"
	"crier/state/zk"
)

// BenchmarkClaims is conditional writes, by one client and by 16 with a connection and
// a key each.
func BenchmarkClaims(b *testing.B) {
	zooKeeper := func(nodes int) func(b *testing.B) func() coord.Store {
		return func(b *testing.B) func() coord.Store {
			e, err := servers.ZooKeeper(b.Context(), servers.ZooKeeperConfig{Dir: b.TempDir(), Nodes: nodes})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(e.Stop)
			path := root()
			return func() coord.Store { return open(b, e, zk.Config{Root: path}) }
		}
	}
	for _, c := range []struct {
		name  string
		start func(b *testing.B) func() coord.Store
	}{
		{"zk=1", zooKeeper(1)},
		{"zk=3", zooKeeper(3)},
		{"natskv", natsKV},
	} {
		b.Run(c.name, func(b *testing.B) {
			dial := c.start(b)
			stores := make([]coord.Store, 16)
			for i := range stores {
				stores[i] = dial()
			}
			b.Run("write/clients=1", func(b *testing.B) { claims(b, "one", stores[:1]) })
			b.Run("write/clients=16", func(b *testing.B) { claims(b, "many", stores) })
			b.Run("read/clients=1", func(b *testing.B) {
				for b.Loop() {
					if _, err := stores[0].Get(b.Context(), "one/0"); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "reads/s")
			})
		})
	}
}

func natsKV(b *testing.B) func() coord.Store {
	s, err := natsbus.Start(natsbus.Config{Dir: b.TempDir(), Logger: quiet})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.Shutdown)
	return func() coord.Store {
		nc, err := s.Connect("coordination")
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(nc.Close)
		st, err := natskv.Open(b.Context(), nc, natskv.Config{Bucket: "coord", Logger: quiet})
		if err != nil {
			b.Fatal(err)
		}
		return st
	}
}

func claims(b *testing.B, prefix string, stores []coord.Store) {
	keys := make([]string, len(stores))
	versions := make([]coord.Version, len(stores))
	for i, s := range stores {
		keys[i] = fmt.Sprintf("%s/%d", prefix, i)
		if e, err := s.Get(b.Context(), keys[i]); err == nil {
			versions[i] = e.Version // of a shorter run
		}
	}
	value := make([]byte, 200)
	b.ResetTimer()
	var n atomic.Int64
	var wg sync.WaitGroup
	for i, s := range stores {
		wg.Go(func() {
			var err error
			for n.Add(1) <= int64(b.N) {
				if versions[i], err = s.Put(b.Context(), keys[i], value, versions[i]); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
}

// BenchmarkMany is a store with 10,000 keys: a list of all of them, and the time from a
// write to a watcher's being told.
func BenchmarkMany(b *testing.B) {
	const keys = 10_000
	path := root()
	s := open(b, server(b), zk.Config{Root: path})
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for k := i; k < keys; k += 16 {
				if _, err := s.Put(b.Context(), fmt.Sprintf("jobs/job_%024d", k), []byte("sending"), 0); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.Run("list", func(b *testing.B) {
		for b.Loop() {
			if l, err := s.List(b.Context(), "jobs"); err != nil || len(l) != keys {
				b.Fatalf("%d entries, %v", len(l), err)
			}
		}
	})
	b.Run("told", func(b *testing.B) {
		told := make(chan coord.Version, 2*keys)
		ready := make(chan bool, 1)
		go s.Watch(b.Context(), "jobs", func(c coord.Change) error {
			told <- c.Version
			return nil
		}, func() {
			select {
			case ready <- true:
			default:
			}
		})
		<-ready
		for range keys {
			<-told
		}
		e, err := s.Get(b.Context(), fmt.Sprintf("jobs/job_%024d", 7))
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if e.Version, err = s.Put(b.Context(), e.Key, e.Value, e.Version); err != nil {
				b.Fatal(err)
			}
			for v := range told {
				if v == e.Version {
					break
				}
			}
		}
	})
}
