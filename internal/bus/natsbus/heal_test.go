package natsbus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"crier/internal/bus/natsstream"

	"github.com/nats-io/nats-server/v2/server"
	"golang.org/x/sys/unix"
)

func TestMayRestart(t *testing.T) {
	for _, c := range []struct {
		free, need uint64
		err        error
		want       bool
	}{
		{100, 64, nil, true},
		{64, 64, nil, true},
		{63, 64, nil, false},
		{100, 64, errors.New("no answer"), false},
	} {
		if got := mayRestart(c.free, c.need, c.err); got != c.want {
			t.Errorf("mayRestart(%d, %d, %v) = %v", c.free, c.need, c.err, got)
		}
	}
}

// TestCauses holds that a busy machine does not make streams ill.
func TestCauses(t *testing.T) {
	slow := server.HealthzError{Type: server.HealthzErrorConn, Error: "failed to be ready for connections after 1ms: startup did not complete"}
	full := server.HealthzError{Type: server.HealthzErrorStream, Error: "write error"}
	if got := causes([]server.HealthzError{slow}); got != "" {
		t.Errorf("a slow answer is the illness %q", got)
	}
	if got := causes([]server.HealthzError{slow, full, {Type: server.HealthzErrorJetStream, Error: "off"}}); got != "write error; off" {
		t.Errorf("the causes are %q", got)
	}
}

func TestFreeBytes(t *testing.T) {
	if n, err := freeBytes(t.TempDir()); err != nil || n == 0 {
		t.Errorf("freeBytes gives %d, %v", n, err)
	}
	if _, err := freeBytes(t.TempDir() + "/none"); err == nil {
		t.Error("freeBytes of no directory succeeds")
	}
}

// TestHeals lets the writes of a stream fail, as on a full disk, by a limit on the
// size of files, and takes the limit away: the stream must take records again by
// itself, on the same connection, and have all that it had acknowledged.
func TestHeals(t *testing.T) {
	s, err := Start(Config{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Shutdown()
	nc, err := s.Connect("test")
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	st, err := natsstream.Open(t.Context(), nc, natsstream.Config{
		Stream: "S", Subjects: []string{"s.>"}, MaxBytes: 1 << 30, Wait: time.Second, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	lift := limitFiles(t, 1<<20)
	defer lift()
	data := make([]byte, 100_000)
	var last uint64
	for {
		seq, err := st.Append(t.Context(), natsstream.Put{Subject: "s.a", Last: last, Data: data})
		if err != nil {
			break
		}
		if last = seq; last > 20 {
			t.Fatal("the limit on the size of files does not bite")
		}
	}
	// It has not healed as long as the disk is full.
	if _, err := st.Append(t.Context(), natsstream.Put{Subject: "s.a", Last: last, Data: data}); err == nil {
		t.Fatal("a record was stored on a full disk")
	}
	lift()
	end := time.Now().Add(30 * time.Second)
	for {
		r, err := st.Last(t.Context(), "s.a")
		if err == nil && r.Seq > last {
			break // an append whose answer was lost
		}
		if _, err = st.Append(t.Context(), natsstream.Put{Subject: "s.a", Last: last, Data: data}); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the stream does not take records again: %v", err)
		}
	}
	for seq := uint64(1); seq <= last+1; seq++ {
		if r, err := st.Get(t.Context(), seq); err != nil || len(r.Data) != len(data) {
			t.Fatalf("record %d is gone: %v", seq, err)
		}
	}
}

// limitFiles bounds the size of the files that this process writes.
func limitFiles(t *testing.T, bytes uint64) (lift func()) {
	t.Helper()
	signal.Ignore(syscall.SIGXFSZ)
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: bytes, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
			t.Error(err)
		}
	}
}

// TestRestartKeepsFollowers starts the streams anew under a follower.
func TestRestartKeepsFollowers(t *testing.T) {
	s, err := Start(Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Shutdown()
	nc, err := s.Connect("test")
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	st, err := natsstream.Open(t.Context(), nc, natsstream.Config{Stream: "S", Subjects: []string{"s.>"}, MaxBytes: 1 << 30,
		Wait: time.Second, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	got := make(chan uint64, 100)
	followed := make(chan error, 1)
	go func() {
		followed <- st.Follow(ctx, 1, "s.>", func(r natsstream.Record) error {
			got <- r.Seq
			return nil
		}, nil)
	}()
	var last uint64
	for want := uint64(1); want <= 6; want++ {
		if want%2 == 0 {
			if err := s.restartStreams(); err != nil {
				t.Fatal(err)
			}
		}
		last, err = st.Append(ctx, natsstream.Put{Subject: "s.a", Last: last, Data: fmt.Append(nil, want)})
		if err != nil {
			t.Fatalf("append %d: %v", want, err)
		}
		select {
		case seq := <-got:
			if seq != want {
				t.Fatalf("the follower got record %d, want %d", seq, want)
			}
		case <-ctx.Done():
			t.Fatalf("the follower did not get record %d", want)
		}
	}
	cancel()
	if err := <-followed; !errors.Is(err, context.Canceled) {
		t.Fatalf("Follow ended with %v", err)
	}
}
