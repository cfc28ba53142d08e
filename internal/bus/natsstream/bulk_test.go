package natsstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"crier/internal/bus/natsbus"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

var quiet = slog.New(slog.DiscardHandler)

// serve starts a server and a stream S on it.
func serve(t *testing.T) (*natsbus.Server, *Stream, *nats.Conn) {
	t.Helper()
	s, err := natsbus.Start(natsbus.Config{Dir: t.TempDir(), Unsynced: true, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	nc, err := s.Connect(t.Name())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	st, err := Open(t.Context(), nc, Config{Stream: "S", Subjects: []string{"s.>"}, MaxBytes: 1 << 30, Wait: time.Second, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	return s, st, nc
}

// fill stores n records whose text is their sequence; every third is on s.b. Some
// hundreds are on their way at a time; each expects the one before it, so that
// after a cut the rest is refused and sent again.
func fill(t *testing.T, s *natsbus.Server, st *Stream, n int, size int) {
	t.Helper()
	nc, err := s.Connect("fill")
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(256), jetstream.WithPublishAsyncTimeout(5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	for stored := uint64(0); stored < uint64(n); {
		for seq := stored + 1; seq <= min(stored+4096, uint64(n)); seq++ {
			_, err := js.PublishAsync(subjectOf(seq), textOf(seq, size),
				jetstream.WithExpectLastSequence(seq-1), jetstream.WithStallWait(10*time.Second))
			if err != nil {
				break
			}
		}
		<-js.PublishAsyncComplete()
		info, err := st.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		stored = info.Last
	}
}

func subjectOf(seq uint64) string {
	if seq%3 == 0 {
		return "s.b"
	}
	return "s.a"
}

func textOf(seq uint64, size int) []byte {
	text := fmt.Appendf(make([]byte, 0, size), "%d ", seq)
	return append(text, bytes.Repeat([]byte{'.'}, size-len(text))...)
}

// expect gives a function that checks that it is called with all records that
// match, in order, and the number of calls.
func expect(from uint64, pattern string, size int) (fn func(Record) error, n *atomic.Int64) {
	next := from
	n = new(atomic.Int64)
	return func(r Record) error {
		for pattern != "s.>" && subjectOf(next) != pattern {
			next++
		}
		if r.Seq != next || r.Subject != subjectOf(next) || string(r.Data) != string(textOf(next, size)) || r.Time.IsZero() {
			return fmt.Errorf("got record %d of %s with %d bytes, want %d of %s", r.Seq, r.Subject, len(r.Data), next, subjectOf(next))
		}
		next++
		n.Add(1)
		return nil
	}, n
}

func readToEnd(ctx context.Context, st *Stream, from uint64, pattern string, fn func(Record) error) error {
	done := errors.New("caught up")
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	err := st.Follow(ctx, from, pattern, fn, func() { cancel(done) })
	if errors.Is(context.Cause(ctx), done) {
		return nil
	}
	return err
}

// TestBulk reads a stream that is long enough for pushes, of small records and of
// large ones, from several places.
func TestBulk(t *testing.T) {
	for _, c := range []struct{ records, size int }{{8_000, 8}, {20, 1 << 20}} {
		s, st, nc := serve(t)
		fill(t, s, st, c.records, c.size)
		pushes := countPushes(t, nc)
		for _, from := range []uint64{1, uint64(c.records / 10)} {
			for pattern, want := range map[string]int{"s.>": c.records - int(from) + 1, "s.b": c.records/3 - int(from-1)/3} {
				fn, n := expect(from, pattern, c.size)
				before := pushes.Load()
				if err := readToEnd(t.Context(), st, from, pattern, fn); err != nil || n.Load() != int64(want) {
					t.Fatalf("%s from %d: %d records, %v; want %d", pattern, from, n.Load(), err, want)
				}
				if pattern == "s.>" && pushes.Load() == before {
					t.Errorf("%d records of %d bytes from %d were read without a push", c.records, c.size, from)
				}
			}
		}
	}
}

// countPushes counts the consumers that are asked for.
func countPushes(t *testing.T, nc *nats.Conn) *atomic.Int64 {
	t.Helper()
	n := new(atomic.Int64)
	sub, err := nc.Subscribe("$JS.API.CONSUMER.CREATE.>", func(*nats.Msg) { n.Add(1) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sub.Unsubscribe() })
	return n
}

// TestBulkCut cuts the connection in the middle of pushes.
func TestBulkCut(t *testing.T) {
	const records = 20_000
	s, st, nc := serve(t)
	fill(t, s, st, records, 8)
	fn, n := expect(1, "s.>", 8)
	cuts := 0
	err := readToEnd(t.Context(), st, 1, "s.>", func(r Record) error {
		if r.Seq%5_000 == 4_500 {
			cuts++
			if err := nc.ForceReconnect(); err != nil {
				return err
			}
		}
		return fn(r)
	})
	if err != nil || n.Load() != records || cuts != 4 {
		t.Fatalf("%d records at %d cuts, %v; want %d", n.Load(), cuts, err, records)
	}
}

// TestBulkEnds ends a follower while records are pushed: consumers must not stay.
func TestBulkEnds(t *testing.T) {
	s, st, nc := serve(t)
	fill(t, s, st, 10_000, 8)
	stop := errors.New("enough")
	n := 0
	err := st.Follow(t.Context(), 1, "s.>", func(Record) error {
		if n++; n == 7_000 {
			return stop
		}
		return nil
	}, nil)
	if !errors.Is(err, stop) || n != 7_000 {
		t.Fatalf("Follow gave %d records, %v", n, err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	end := time.Now().Add(10 * time.Second)
	for {
		info, err := js.Stream(t.Context(), "S")
		if err != nil {
			t.Fatal(err)
		}
		if info.CachedInfo().State.Consumers == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d consumers are left", info.CachedInfo().State.Consumers)
		}
	}
}

// pushedMsg is a record as the server pushes it.
func pushedMsg(stream, consumer, pending int) *nats.Msg {
	return &nats.Msg{Subject: "s.a", Sub: &nats.Subscription{}, Data: []byte("x"),
		Reply: fmt.Sprintf("$JS.ACK.S.C.1.%d.%d.1600000000000000000.%d", stream, consumer, pending)}
}

func controlMsg(header ...string) *nats.Msg {
	m := &nats.Msg{Header: nats.Header{"Status": {statusControl}}}
	for i := 0; i < len(header); i += 2 {
		m.Header[header[i]] = []string{header[i+1]}
	}
	return m
}

func TestTakePushed(t *testing.T) {
	_, st, _ := serve(t)
	for _, c := range []struct {
		name string
		msgs []*nats.Msg
		got  int
		says string
	}{
		{"to the end", []*nats.Msg{pushedMsg(3, 1, 1), pushedMsg(7, 2, 0)}, 2, ""},
		{"until there is nothing for a while", []*nats.Msg{pushedMsg(3, 1, 5), controlMsg("Nats-Last-Consumer", "1")}, 1, ""},
		{"past a stall", []*nats.Msg{pushedMsg(3, 1, 5), controlMsg("Nats-Last-Consumer", "1", "Nats-Consumer-Stalled", "fc"), pushedMsg(4, 2, 0)}, 2, ""},
		{"one lost", []*nats.Msg{pushedMsg(3, 1, 5), pushedMsg(5, 3, 3)}, 1, "lost behind record 3"},
		{"the last one lost", []*nats.Msg{pushedMsg(3, 1, 1), controlMsg("Nats-Last-Consumer", "2")}, 1, "2 records were pushed, 1 came"},
		{"nothing comes", []*nats.Msg{pushedMsg(3, 1, 1)}, 1, "no push"},
		{"nonsense", []*nats.Msg{{Subject: "s.a", Sub: &nats.Subscription{}, Data: []byte("x"), Reply: "x.y"}}, 0, "not understood"},
	} {
		t.Run(c.name, func(t *testing.T) {
			pushed := make(chan *nats.Msg, len(c.msgs))
			for _, m := range c.msgs {
				pushed <- m
			}
			got := 0
			f := &follower{Stream: st, next: 1, fn: func(Record) error { got++; return nil }}
			err := f.takePushed(t.Context(), pushed)
			if got != c.got || (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Fatalf("%d records, %v; want %d, %q", got, err, c.got, c.says)
			}
		})
	}
}
