package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"time"

	"crier/internal/bus/natsbus"
	"crier/state/ledger"
	"crier/state/ledger/jetstream"

	"github.com/nats-io/nats.go"
)

// writer appends numbered records as rule 2 says: after any answer but OK it reads
// the last record.
type writer struct {
	log    ledger.Log
	last   uint64
	n      int
	doubts int
}

func (w *writer) write(ctx context.Context) error {
	text := fmt.Sprint(w.n)
	for ctx.Err() == nil {
		seq, err := w.log.Append(ctx, journal, w.last, []byte(text))
		if err != nil {
			w.doubts++
			r, lerr := w.log.Last(ctx, journal)
			switch {
			case lerr == nil && string(r.Data) == text:
				seq = r.Seq
			case lerr == nil && r.Seq != w.last:
				return fmt.Errorf("the last record is %d %q, want %d or %q", r.Seq, r.Data, w.last, text)
			default:
				runtime.Gosched() // as likely as not the connection is cut
				continue
			}
		}
		w.last = seq
		w.n++
		return nil
	}
	return ctx.Err()
}

// numbered follows the journal and checks that the records are 0, 1, 2, …
func numbered(ctx context.Context, l ledger.Log, until int) error {
	n, seq := 0, uint64(0)
	done := errors.New("all are there")
	err := l.Follow(ctx, 1, "led.>", func(r ledger.Stored) error {
		if string(r.Data) != fmt.Sprint(n) || r.Seq <= seq {
			return fmt.Errorf("got %q with sequence %d after %d, want %d", r.Data, r.Seq, seq, n)
		}
		seq = r.Seq
		if n++; n == until {
			return done
		}
		return nil
	}, nil)
	if errors.Is(err, done) {
		return nil
	}
	return fmt.Errorf("after %d records: %w", n, err)
}

func connect(t *testing.T, s *natsbus.Server, name string) *nats.Conn {
	t.Helper()
	nc, err := s.Connect(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func openOn(t *testing.T, nc *nats.Conn) *jetstream.Log {
	t.Helper()
	l, err := jetstream.Open(t.Context(), nc, jetstream.Config{Stream: "LEDGER", Subjects: []string{"led.>"}, MaxBytes: 1 << 30,
		Wait: 500 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestCutConnections cuts the writer's and the follower's connection again and
// again: each record must be stored once and be followed once, in order.
func TestCutConnections(t *testing.T) {
	s := start(t, natsbus.Config{Logger: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	writing, following := connect(t, s, "writer"), connect(t, s, "follower")
	w, l := &writer{log: openOn(t, writing)}, openOn(t, following)
	const n, cutEvery = 600, 60
	followed := make(chan error, 1)
	go func() { followed <- numbered(ctx, l, n) }()
	cuts := 0
	for w.n < n {
		if w.n >= cuts*cutEvery {
			cuts++
			for _, nc := range []*nats.Conn{writing, following} {
				if err := nc.ForceReconnect(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := w.write(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-followed; err != nil {
		t.Fatal(err)
	}
	if w.doubts == 0 {
		t.Error("no append met a cut")
	}
	t.Logf("%d appends in doubt at %d cuts", w.doubts, cuts)
}

// TestServerRestarts stops the server and starts it again on its directory and
// address, twice, under a writer and a follower of other processes.
func TestServerRestarts(t *testing.T) {
	quiet := slog.New(slog.DiscardHandler)
	cfg := natsbus.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0", Token: "secret", Logger: quiet}
	s, err := natsbus.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { s.Shutdown() }()
	cfg.Listen = strings.TrimPrefix(s.URL(), "nats://")
	outside := func(name string) *jetstream.Log {
		nc, err := natsbus.Connect(natsbus.Dial{URL: s.URL(), Token: "secret", Name: name, Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		return openOn(t, nc)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	w, l := &writer{log: outside("writer")}, outside("follower")
	const n = 300
	followed, written := make(chan error, 1), make(chan error, 1)
	go func() { followed <- numbered(ctx, l, n) }()
	progress := make(chan int, n)
	go func() {
		for w.n < n {
			if err := w.write(ctx); err != nil {
				written <- err
				return
			}
			progress <- w.n
		}
		written <- nil
	}()
	for _, at := range []int{100, 200} {
		for i := 0; i < at; {
			select {
			case i = <-progress:
			case err := <-written:
				t.Fatalf("the writer stopped: %v", err)
			}
		}
		s.Shutdown()
		if s, err = natsbus.Start(cfg); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	if err := <-followed; err != nil {
		t.Fatal(err)
	}
	if w.doubts == 0 {
		t.Error("no append met a restart")
	}
}

// TestAnOlderCopyIsNoticed puts an older state of the stream back under a
// follower: it must say so instead of waiting for ever.
func TestAnOlderCopyIsNoticed(t *testing.T) {
	quiet := slog.New(slog.DiscardHandler)
	a, b := start(t, natsbus.Config{Listen: "127.0.0.1:0", Token: "x", Logger: quiet}), natsbus.Config{Token: "x", Dir: t.TempDir(), Logger: quiet}
	nc, err := natsbus.Connect(natsbus.Dial{URL: a.URL(), Token: "x", Name: "follower", Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	w := &writer{log: openOn(t, nc)}
	for w.n < 5 {
		if err := w.write(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	five := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		ended <- w.log.Follow(t.Context(), 1, "led.>", func(r ledger.Stored) error {
			if r.Seq == 5 {
				close(five)
			}
			return nil
		}, nil)
	}()
	<-five
	a.Shutdown()
	b.Listen = strings.TrimPrefix(a.URL(), "nats://")
	other := start(t, b)
	openOn(t, connect(t, other, "other")) // an empty stream of the same name
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "ends before") {
			t.Fatalf("Follow ended with %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the follower does not notice")
	}
}
