package app

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"crier/internal/app/member"
	"crier/scheduler/apta"
	"crier/scheduler/apta/timing"
	"crier/state/coord"
)

// Of two that vanish from a member's view, the one that left is not recorded any more.
func TestWhoLeavesIsNotRecorded(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	store := coord.NewMemory(nil)
	start := func(id string, nonce uint64, seeds ...string) (n *member.Node, kill func()) {
		t.Helper()
		n, err := member.New(member.Config{Core: apta.Config{Cluster: "a", ID: id, Incarnation: 1, Nonce: nonce, Timers: timing.Fast(), Seeds: seeds}, Listen: "127.0.0.1:0",
			Leases: member.NewLeases(store), Ledger: func() bool { return true }, Alive: func() bool { return true }, Owned: func() int { return 0 },
			Silenced: func(string) error { return nil }, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		life, end := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- n.Run(life) }()
		kill = func() {
			end()
			if err := <-ended; err != nil {
				t.Errorf("%s ended: %v", id, err)
			}
			ended <- nil // for a second kill
			n.Close()
		}
		t.Cleanup(kill)
		select {
		case <-n.Working():
		case <-ctx.Done():
			t.Fatalf("%s does not work", id)
		}
		return n, kill
	}
	m1, _ := start("m1", 1)
	m2, _ := start("m2", 2, m1.Address())
	_, kill := start("m3", 3, m1.Address())
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	until := func(what string, members int) {
		t.Helper()
		for len((oneOfMany{m1}).Snapshot(ctx).View.Members) != members {
			select {
			case <-look.C:
			case <-ctx.Done():
				t.Fatal(what)
			}
		}
	}
	until("they do not see each other", 3)
	s := (oneOfMany{m1}).Snapshot(ctx)
	for id, want := range map[string]bool{"m1": true, "m2": true, "m3": true, "m4": false} {
		if s.Recorded(id) != want {
			t.Errorf("while all are there, %s is recorded: %v", id, !want)
		}
	}
	m2.Leave(ctx)
	kill()
	until("who is gone is still seen", 1)
	if s.Recorded("m2") || !s.Recorded("m3") {
		t.Errorf("who has left is recorded: %v; who was killed: %v", s.Recorded("m2"), s.Recorded("m3"))
	}
}
