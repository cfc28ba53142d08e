package events_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"crier/internal/bus/natsbus"
	"crier/state/events"
	"crier/state/events/eventstest"
)

func start(t *testing.T, maxBytes int64) (*events.Stream, *nats.Conn) {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	s, err := natsbus.Start(natsbus.Config{Dir: t.TempDir(), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	nc, err := s.Connect("events")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	st, err := events.Open(t.Context(), nc, events.Config{MaxBytes: maxBytes, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	return st, nc
}

func TestStream(t *testing.T) {
	eventstest.Run(t, func(t *testing.T) eventstest.Log { st, _ := start(t, 1<<20); return st })
}

func TestMemory(t *testing.T) {
	eventstest.Run(t, func(*testing.T) eventstest.Log { return events.NewMemory(time.Now) })
}

// TestFullStreamDropsTheOldest publishes more than the stream holds; none is refused.
func TestFullStreamDropsTheOldest(t *testing.T) {
	const n = 400
	st, _ := start(t, 32<<10)
	for v := uint64(1); v <= n; v++ {
		if err := st.Publish(t.Context(), eventstest.Event(1, -1, v)); err != nil {
			t.Fatal(err)
		}
	}
	all, err := eventstest.Read(t.Context(), st, events.Query{After: 1})
	if err != nil || len(all) < 20 || len(all) > n-20 || all[len(all)-1].Version != n {
		t.Fatalf("%d events are left, %v", len(all), err)
	}
	for i, s := range all {
		if want := uint64(n - len(all) + i + 1); s.Version != want || s.Cursor != want {
			t.Fatalf("event %d is version %d at %d, want %d", i, s.Version, s.Cursor, want)
		}
	}
}

// TestStrangersAreSkipped has somebody else publish among the events.
func TestStrangersAreSkipped(t *testing.T) {
	st, nc := start(t, 1<<20)
	for i, text := range []string{"{", `{"job":"job_x"}`, "{}", strings.Repeat("x", 100)} {
		if _, err := nc.Request(fmt.Sprint("evt.job.", i), []byte(text), time.Second); err != nil {
			t.Fatal(err)
		}
	}
	if err := st.Publish(t.Context(), eventstest.Event(1, -1, 1)); err != nil {
		t.Fatal(err)
	}
	if all, err := eventstest.Read(t.Context(), st, events.Query{}); err != nil || len(all) != 1 || all[0].Cursor != 5 {
		t.Errorf("%+v, %v", all, err)
	}
}
