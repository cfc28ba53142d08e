package jetstream_test

import (
	"context"
	"errors"
	"strconv"
	"syscall"
	"testing"
	"time"

	"crier/internal/bus/natsbus"
	"crier/internal/servers"
	"crier/state/ledger"
	"crier/state/ledger/jetstream"

	"github.com/nats-io/nats.go"
)

// The tests of this file hold the facts about the real server on which rule 2 of
// the protocol rests: any answer but a first OK means, read the last record.

const journal = "led.j.w.1"

func mustAppend(t *testing.T, l *ledgerLog, last uint64, text string) uint64 {
	t.Helper()
	seq, err := l.Append(t.Context(), journal, last, []byte(text))
	if err != nil {
		t.Fatalf("append %q after %d: %v", text, last, err)
	}
	return seq
}

func mustConflict(t *testing.T, l *ledgerLog, last uint64, text string) {
	t.Helper()
	if _, err := l.Append(t.Context(), journal, last, []byte(text)); !errors.Is(err, ledger.ErrConflict) {
		t.Fatalf("append %q after %d: %v, want ErrConflict", text, last, err)
	}
}

func lastIs(t *testing.T, l *ledgerLog, want string) {
	t.Helper()
	r, err := l.Last(t.Context(), journal)
	if err != nil || string(r.Data) != want {
		t.Fatalf("the last record is %q (%v), want %q", r.Data, err, want)
	}
}

type ledgerLog struct{ ledger.Log }

func openJournal(t *testing.T) *ledgerLog {
	return &ledgerLog{open(t, start(t, natsbus.Config{}), 1<<30)}
}

// A retry of a stored append is answered like another owner's append: only the
// last record tells them apart.
func TestRetryOfAStoredAppendIsAConflict(t *testing.T) {
	l := openJournal(t)
	open := mustAppend(t, l, 0, "open")
	mustAppend(t, l, open, "nonce 1")
	mustConflict(t, l, open, "nonce 1")
	lastIs(t, l, "nonce 1")
}

// A seal that lands first makes the owner's append fail, and the last record is
// the seal: stop.
func TestSealBetween(t *testing.T) {
	l := openJournal(t)
	open := mustAppend(t, l, 0, "open")
	mustAppend(t, l, open, "seal")
	mustConflict(t, l, open, "nonce 1")
	lastIs(t, l, "seal")
}

// An append whose answer nobody awaits is stored all the same, so a caller that
// gave up and tries again conflicts with itself; its nonce in the last record
// tells it so.
func TestAppendGivenUpIsStored(t *testing.T) {
	s := start(t, natsbus.Config{})
	l := &ledgerLog{open(t, s, 1<<30)}
	open := mustAppend(t, l, 0, "open")
	nc := connect(t, s, "given up")
	m := nats.NewMsg(journal)
	m.Header.Set("Nats-Expected-Last-Subject-Sequence", strconv.FormatUint(open, 10))
	m.Data = []byte("nonce 1")
	if err := nc.PublishMsg(m); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil { // the server has taken it in, though not stored it perhaps
		t.Fatal(err)
	}
	mustConflict(t, l, open, "nonce 1")
	lastIs(t, l, "nonce 1")
}

// An append that ended without an answer is stored when the server gets to it.
func TestAppendThatTimedOutIsStored(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := servers.StartNATS(ctx, servers.NATSConfig{Dir: t.TempDir(), Servers: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Kill()
	log, err := jetstream.Open(ctx, dialAs(t, c, servers.NATSUser), jetstream.Config{Stream: "LEDGER", Subjects: []string{"led.>"}, MaxBytes: 1 << 30, Wait: 500 * time.Millisecond, Logger: discard})
	if err != nil {
		t.Fatal(err)
	}
	l := &ledgerLog{log}
	open := mustAppend(t, l, 0, "open")
	if err := c.Nodes[0].Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(ctx, journal, open, []byte("nonce 1")); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("an append to a paused server: %v", err)
	}
	if err := c.Nodes[0].Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	mustConflict(t, l, open, "nonce 1") // it comes second; a read may come before the first
	lastIs(t, l, "nonce 1")
}

// An owner that sends n + 1 with the sequence that n would get, while a seal lands
// as n, has n + 1 accepted behind the seal. Hence one append in flight, and replay
// voids what follows a seal.
func TestPipeliningIsAcceptedAfterASeal(t *testing.T) {
	l := openJournal(t)
	open := mustAppend(t, l, 0, "open")
	predicted := open + 1
	seal := mustAppend(t, l, open, "seal")
	if seal != predicted {
		t.Fatalf("the seal has sequence %d, the prediction was %d", seal, predicted)
	}
	mustConflict(t, l, open, "record n")
	mustAppend(t, l, predicted, "record n + 1")
	lastIs(t, l, "record n + 1")
}
