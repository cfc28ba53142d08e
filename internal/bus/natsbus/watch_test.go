package natsbus

import (
	"context"
	"errors"
	"log/slog"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"crier/internal/bus/natsstream"

	"github.com/nats-io/nats-server/v2/server"
	"golang.org/x/sys/unix"
)

// TestIllness holds that a busy machine does not make streams ill.
func TestIllness(t *testing.T) {
	slow := server.HealthzError{Type: server.HealthzErrorConn, Error: "failed to be ready for connections after 1ms: startup did not complete"}
	young := server.HealthzError{Type: server.HealthzErrorStream, Error: "JetStream stream '$G > CTL' could not be recovered"}
	full := server.HealthzError{Type: server.HealthzErrorStream, Error: "JetStream stream '$G > CTL' write error: no space left"}
	if got := illness([]server.HealthzError{slow, young}); got != "" {
		t.Errorf("a busy machine is the illness %q", got)
	}
	if got := illness([]server.HealthzError{slow, full, young}); got != full.Error {
		t.Errorf("the illness is %q", got)
	}
}

// TestWatch lets the writes of a stream fail, as on a full disk, by a limit on the
// size of files: it is told, and a server that is started when the limit is gone has
// all that was acknowledged and takes records.
func TestWatch(t *testing.T) {
	dir := t.TempDir()
	s, st := watched(t, dir)
	told := make(chan error, 1)
	go func() { told <- s.Watch(t.Context()) }()
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
	select {
	case err := <-told:
		if !errors.Is(err, ErrWrite) {
			t.Fatalf("Watch ended with %v, want ErrWrite", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("Watch does not tell that the stream has stopped")
	}
	s.Shutdown()
	lift()
	s, st = watched(t, dir)
	for seq := uint64(1); seq <= last; seq++ {
		if r, err := st.Get(t.Context(), seq); err != nil || len(r.Data) != len(data) {
			t.Fatalf("record %d is gone: %v", seq, err)
		}
	}
	r, err := st.Last(t.Context(), "s.a")
	if err != nil || r.Seq < last {
		t.Fatalf("the last record is %d, %v; %d was acknowledged", r.Seq, err, last)
	}
	if _, err := st.Append(t.Context(), natsstream.Put{Subject: "s.a", Last: r.Seq, Data: data}); err != nil {
		t.Fatalf("it does not take records again: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Watch(ctx); err != nil {
		t.Fatalf("Watch of a stream that is well: %v", err)
	}
}

// watched starts a server with one stream.
func watched(t *testing.T, dir string) (*Server, *natsstream.Stream) {
	t.Helper()
	s, err := Start(Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	nc, err := s.Connect("test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	st, err := natsstream.Open(t.Context(), nc, natsstream.Config{
		Stream: "S", Subjects: []string{"s.>"}, MaxBytes: 1 << 30, Wait: time.Second, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return s, st
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
