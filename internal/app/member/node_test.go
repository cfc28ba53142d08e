package member_test

import (
	"log/slog"
	"net"
	"testing"

	"crier/internal/app/member"
	"crier/scheduler/apta"
	"crier/scheduler/apta/timing"
	"crier/state/coord"
)

// A node that was made and never ran leaves its address to the next one.
func TestTheAddressIsReleased(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	cfg := member.Config{Core: apta.Config{Cluster: "a", Incarnation: 1, Nonce: 1, Timers: timing.Default()}, Listen: addr,
		Leases: member.NewLeases(coord.NewMemory(nil)), Log: slog.New(slog.DiscardHandler)}
	if _, err := member.New(cfg); err == nil {
		t.Fatal("it has no name")
	}
	cfg.Core.ID = "m1"
	for range 2 {
		n, err := member.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		n.Close()
		n.Close()
	}
}
