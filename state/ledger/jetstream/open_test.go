package jetstream_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"crier/internal/bus/natsbus"
	"crier/state/ledger"
	"crier/state/ledger/jetstream"

	natsjs "github.com/nats-io/nats.go/jetstream"
)

func TestOpenAgain(t *testing.T) {
	s := start(t, natsbus.Config{})
	nc := connect(t, s, "ledger")
	cfg := jetstream.Config{Stream: "LEDGER", Subjects: []string{"led.>"}, MaxBytes: 1 << 20}
	reopen := func(change func(*jetstream.Config)) (*jetstream.Log, error) {
		c := cfg
		change(&c)
		return jetstream.Open(t.Context(), nc, c)
	}
	l, err := reopen(func(*jetstream.Config) {})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(t.Context(), "led.a", 0, make([]byte, 100_000)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*jetstream.Config)
		says   string // of the error; empty: none
		limit  uint64
	}{
		"the same":          {func(*jetstream.Config) {}, "", 1 << 20},
		"a larger limit":    {func(c *jetstream.Config) { c.MaxBytes = 2 << 20 }, "", 2 << 20},
		"a smaller limit":   {func(c *jetstream.Config) { c.MaxBytes = 200_000 }, "", 200_000},
		"kept, be it less":  {func(c *jetstream.Config) { c.Keep, c.MaxBytes = true, 50_000 }, "", 1 << 20},
		"kept, be it more":  {func(c *jetstream.Config) { c.Keep, c.MaxBytes = true, 4<<20 }, "", 1 << 20},
		"below what it has": {func(c *jetstream.Config) { c.MaxBytes = 50_000 }, "it holds", 0},
		"other subjects":    {func(c *jetstream.Config) { c.Subjects = []string{"led.>", "x.>"} }, "subjects", 0},
		"not synced":        {func(c *jetstream.Config) { c.Unsynced = true }, "persist mode", 0},
		"no name":           {func(c *jetstream.Config) { c.Stream = "" }, "Stream", 0},
		"no subjects":       {func(c *jetstream.Config) { c.Subjects = nil }, "Subjects", 0},
		"no limit":          {func(c *jetstream.Config) { c.MaxBytes = 0 }, "MaxBytes", 0},
		"a negative wait":   {func(c *jetstream.Config) { c.Wait = -1 }, "Wait", 0},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := reopen(func(*jetstream.Config) {}); err != nil {
				t.Fatal(err)
			}
			l, err := reopen(c.change)
			if c.says != "" {
				if err == nil || !strings.Contains(err.Error(), c.says) {
					t.Fatalf("Open: %v, want an error about %q", err, c.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			u, err := l.Usage(t.Context())
			if err != nil || u.Limit != c.limit || u.Last != 1 {
				t.Fatalf("the stream says %+v, %v", u, err)
			}
		})
	}
}

// TestSettingsOfTheStream looks at the stream with the server's own client.
func TestSettingsOfTheStream(t *testing.T) {
	s := start(t, natsbus.Config{})
	open(t, s, 1<<20)
	js, err := natsjs.New(connect(t, s, "outside"))
	if err != nil {
		t.Fatal(err)
	}
	st, err := js.Stream(t.Context(), "LEDGER")
	if err != nil {
		t.Fatal(err)
	}
	c := st.CachedInfo().Config
	if c.Storage != natsjs.FileStorage || c.Retention != natsjs.LimitsPolicy || c.Discard != natsjs.DiscardNew || c.MaxBytes != 1<<20 ||
		c.MaxAge != 0 || c.MaxMsgs != -1 || c.MaxMsgsPerSubject != -1 || !c.AllowDirect || c.DenyPurge || c.DenyDelete || c.Replicas != 1 {
		t.Fatalf("the stream is configured so: %+v", c)
	}
}

func TestRecordTooLarge(t *testing.T) {
	l := open(t, start(t, natsbus.Config{}), 1<<30)
	if _, err := l.Append(t.Context(), "led.a", 0, make([]byte, jetstream.MaxRecord+1)); err == nil || !strings.Contains(err.Error(), "too large") {
		t.Fatalf("a record over MaxRecord: %v", err)
	}
	seq, err := l.Append(t.Context(), "led.a", 0, make([]byte, jetstream.MaxRecord))
	if err != nil {
		t.Fatalf("a record of MaxRecord: %v", err)
	}
	for what, read := range map[string]func() (ledger.Stored, error){
		"Last": func() (ledger.Stored, error) { return l.Last(t.Context(), "led.a") },
		"Get":  func() (ledger.Stored, error) { return l.Get(t.Context(), seq) },
	} {
		if r, err := read(); err != nil || len(r.Data) != jetstream.MaxRecord {
			t.Errorf("%s of a record of MaxRecord gives %d bytes, %v", what, len(r.Data), err)
		}
	}
}

func TestManySubjects(t *testing.T) {
	s := start(t, natsbus.Config{Unsynced: true})
	nc := connect(t, s, "outside")
	l := open(t, s, 1<<30)
	js, err := natsjs.New(nc, natsjs.WithPublishAsyncMaxPending(1000))
	if err != nil {
		t.Fatal(err)
	}
	const n = 20_000
	for i := range n {
		if _, err := js.PublishAsync(fmt.Sprintf("led.job.%d", i), nil, natsjs.WithStallWait(10*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
	if _, err := l.Append(t.Context(), "led.job.7", 8, nil); err != nil {
		t.Fatal(err)
	}
	got, err := l.Subjects(t.Context(), "led.job.*")
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != n {
		t.Fatalf("%d subjects are listed, want %d", len(got), n)
	}
	for i := range n {
		want := uint64(1)
		if i == 7 {
			want = 2
		}
		if s := fmt.Sprintf("led.job.%d", i); got[s] != want {
			t.Fatalf("%s has %d records, want %d", s, got[s], want)
		}
	}
}

func TestClosedConnectionEndsAFollower(t *testing.T) {
	s := start(t, natsbus.Config{})
	nc := connect(t, s, "ledger")
	l := openOn(t, nc)
	caught := make(chan struct{}, 100)
	ended := make(chan error, 1)
	go func() {
		ended <- l.Follow(t.Context(), 1, "led.>", func(ledger.Stored) error { return nil }, func() { caught <- struct{}{} })
	}()
	<-caught
	nc.Close()
	select {
	case err := <-ended:
		if err == nil {
			t.Fatal("Follow on a closed connection ends without an error")
		}
	case <-time.After(20 * time.Second):
		t.Fatal("Follow on a closed connection does not end")
	}
	if _, err := l.Append(t.Context(), "led.a", 0, nil); err == nil || errors.Is(err, ledger.ErrConflict) || errors.Is(err, ledger.ErrFull) {
		t.Fatalf("Append on a closed connection: %v", err)
	}
}
