package bus_test

import (
	"testing"
	"testing/synctest"

	"crier/internal/bus"
	"crier/internal/bus/bustest"
)

func TestMemory(t *testing.T) {
	bustest.Run(t, func(t *testing.T) (a, b bus.Bus) {
		m := bus.NewMemory()
		t.Cleanup(m.Close)
		return m, m
	})
}

// TestMemoryDropsBeyondItsBound fills the queue of a subscription whose handler
// does not return, and counts what is left when it does.
func TestMemoryDropsBeyondItsBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := bus.NewMemory()
		defer m.Close()
		release := make(chan struct{})
		n := 0
		if _, err := m.Subscribe("a", func(bus.Msg) { <-release; n++ }); err != nil {
			t.Fatal(err)
		}
		if err := m.Publish("a", nil); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // the handler holds the first one
		const sent, kept = 1<<16 + 500, 1 << 16
		for range sent {
			if err := m.Publish("a", nil); err != nil {
				t.Fatal(err)
			}
		}
		close(release)
		synctest.Wait()
		if n != 1+kept {
			t.Fatalf("%d messages were handled, want %d", n, 1+kept)
		}
	})
}

func TestMemoryClosed(t *testing.T) {
	m := bus.NewMemory()
	m.Close()
	if err := m.Publish("a", nil); err == nil {
		t.Error("Publish on a closed bus succeeds")
	}
	if _, err := m.Subscribe("a", func(bus.Msg) {}); err == nil {
		t.Error("Subscribe on a closed bus succeeds")
	}
}
