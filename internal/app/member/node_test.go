package member_test

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"crier/internal/app/member"
	"crier/scheduler/apta"
	"crier/scheduler/apta/link"
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

// A core that does not answer is waited for once, and not for each of many claims.
func TestACoreThatDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, err := member.New(member.Config{Core: apta.Config{Cluster: "a", ID: "m1", Incarnation: 1, Nonce: 1, Timers: timing.Default()}, Listen: "127.0.0.1:0",
			Leases: member.NewLeases(coord.NewMemory(nil)), Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		began := time.Now()
		for range 100 {
			if n.Lapsed("m2", 1) {
				t.Fatal("it is not known")
			}
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("it was waited for %s", took)
		}
	})
}

// A member that owns nothing is gone at once when it is asked to leave, and its lease with
// it.
func TestLeave(t *testing.T) {
	store := coord.NewMemory(nil)
	able := make(chan struct{})
	n, err := member.New(member.Config{Core: apta.Config{Cluster: "a", ID: "m1", Incarnation: 1, Nonce: 1, Timers: timing.Fast()}, Listen: "127.0.0.1:0",
		Ready:  func() <-chan struct{} { return able },
		Leases: member.NewLeases(store), Ledger: func() bool { return true }, Alive: func() bool { return true }, Owned: func() int { return 0 },
		Silenced: func(string) error { return nil }, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for n.Snapshot().State != link.Online && ctx.Err() == nil { // it would work by now
		<-tick.C
	}
	brief := time.After(time.Second) // alone it is at work in half of it
	select {
	case <-n.Working():
		t.Fatal("it works, and is not able to yet")
	case <-brief:
	}
	close(able)
	select {
	case <-n.Working():
	case err := <-ended:
		t.Fatalf("it ended: %v", err)
	}
	if list, err := store.List(ctx, "members"); err != nil || len(list) != 1 {
		t.Fatalf("leases: %v, %v", list, err)
	}
	n.Leave(ctx)
	if ctx.Err() != nil {
		t.Fatal("it waited as long as it may")
	}
	if list, err := store.List(ctx, "members"); err != nil || len(list) != 0 {
		t.Errorf("leases: %v, %v", list, err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
