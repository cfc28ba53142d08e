package jetstream_test

import (
	"testing"
	"time"

	"crier/internal/bus/natsbus"
	"crier/state/ledger"
	"crier/state/ledger/jetstream"
	"crier/state/ledger/ledgertest"
)

func TestLog(t *testing.T) {
	ledgertest.Run(t, func(t *testing.T, limit uint64) ledger.Log {
		return open(t, start(t, natsbus.Config{}), limit)
	})
}

func start(t testing.TB, cfg natsbus.Config) *natsbus.Server {
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

func open(t testing.TB, s *natsbus.Server, limit uint64) *jetstream.Log {
	t.Helper()
	nc, err := s.Connect("ledger")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	l, err := jetstream.Open(t.Context(), nc, jetstream.Config{Stream: "LEDGER", Subjects: []string{"led.>"}, MaxBytes: int64(limit), Wait: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	return l
}
