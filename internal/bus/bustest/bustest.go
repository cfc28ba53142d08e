// Package bustest holds every bus.Bus to what its comments promise.
package bustest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"crier/internal/bus"
)

// patience bounds a wait for something that must happen.
const patience = 10 * time.Second

// Open makes two ends of one bus, as two processes have them; they may be the
// same. It registers their tear-down with t.
type Open func(t *testing.T) (a, b bus.Bus)

// Run runs the suite.
func Run(t *testing.T, open Open) {
	for _, c := range []struct {
		name string
		run  func(t *testing.T, a, b bus.Bus)
	}{
		{"a message arrives whole, at each subscription that matches", testDelivery},
		{"a subscription gets one sender's messages in order, one at a time", testOrder},
		{"receiver and sender own their bytes", testOwnership},
		{"a request is answered", testRequest},
		{"a request nobody listens to fails at once", testNoResponders},
		{"questions and answers keep their order", testAskOrder},
		{"a question without an answer ends", testAskInVain},
		{"a request ends with its context", testRequestContext},
		{"a published message wants no reply", testNoReply},
		{"nothing arrives after Unsubscribe", testUnsubscribe},
		{"bad subjects and large messages are refused", testRefused},
		{"a handler may use the bus", testNested},
		{"many ask at once", testConcurrent},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := open(t)
			c.run(t, a, b)
		})
	}
}

// collect subscribes and gives a channel of what arrives.
func collect(t *testing.T, b bus.Bus, pattern string) <-chan bus.Msg {
	t.Helper()
	got := make(chan bus.Msg, 1<<16)
	subscribe(t, b, pattern, func(m bus.Msg) { got <- m })
	return got
}

func subscribe(t *testing.T, b bus.Bus, pattern string, fn func(bus.Msg)) bus.Subscription {
	t.Helper()
	s, err := b.Subscribe(pattern, fn)
	if err != nil {
		t.Fatalf("Subscribe(%q): %v", pattern, err)
	}
	t.Cleanup(func() {
		if err := s.Unsubscribe(); err != nil {
			t.Errorf("Unsubscribe(%q): %v", pattern, err)
		}
	})
	return s
}

func receive(t *testing.T, from <-chan bus.Msg) bus.Msg {
	t.Helper()
	select {
	case m := <-from:
		return m
	case <-time.After(patience):
		t.Fatal("no message arrived")
		panic("unreachable")
	}
}

func publish(t *testing.T, b bus.Bus, subject string, data []byte) {
	t.Helper()
	if err := b.Publish(subject, data); err != nil {
		t.Fatalf("Publish(%q): %v", subject, err)
	}
}

func testDelivery(t *testing.T, a, b bus.Bus) {
	exact, one, all := collect(t, b, "crier.x.1"), collect(t, b, "crier.*.1"), collect(t, b, "crier.>")
	other := collect(t, b, "crier.x.2")
	large := bytes.Repeat([]byte{1, 2, 3, 4}, bus.MaxData/4)
	for _, data := range [][]byte{{}, []byte("hello"), large} {
		publish(t, a, "crier.x.1", data)
		for _, from := range []<-chan bus.Msg{exact, one, all} {
			if m := receive(t, from); m.Subject != "crier.x.1" || !bytes.Equal(m.Data, data) {
				t.Fatalf("got %d bytes at %q, want %d at crier.x.1", len(m.Data), m.Subject, len(data))
			}
		}
	}
	publish(t, a, "crier.x.2", []byte("end"))
	if m := receive(t, other); string(m.Data) != "end" {
		t.Fatalf("crier.x.2 got %q first: it is another subject's", m.Data)
	}
}

func testOrder(t *testing.T, a, b bus.Bus) {
	const n = 5000
	var mu sync.Mutex
	busy, overlaps := false, 0
	got := make(chan uint32, n)
	subscribe(t, b, "crier.>", func(m bus.Msg) {
		mu.Lock()
		if busy {
			overlaps++
		}
		busy = true
		mu.Unlock()
		got <- binary.BigEndian.Uint32(m.Data)
		mu.Lock()
		busy = false
		mu.Unlock()
	})
	for i := range uint32(n) {
		publish(t, a, fmt.Sprintf("crier.%d", i%7), binary.BigEndian.AppendUint32(nil, i))
	}
	for want := range uint32(n) {
		select {
		case i := <-got:
			if i != want {
				t.Fatalf("got message %d, want %d", i, want)
			}
		case <-time.After(patience):
			t.Fatalf("message %d did not arrive", want)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if overlaps > 0 {
		t.Fatalf("%d calls began while another ran", overlaps)
	}
}

func testOwnership(t *testing.T, a, b bus.Bus) {
	one, two := collect(t, b, "crier.own"), collect(t, b, "crier.*")
	data := []byte("first")
	publish(t, a, "crier.own", data)
	copy(data, "XXXXX")
	m := receive(t, one)
	if string(m.Data) != "first" {
		t.Fatalf("got %q: the sender's later writing shows", m.Data)
	}
	copy(m.Data, "YYYYY")
	if m := receive(t, two); string(m.Data) != "first" {
		t.Fatalf("got %q: another receiver's writing shows", m.Data)
	}
}

func testRequest(t *testing.T, a, b bus.Bus) {
	subscribe(t, b, "crier.double", func(m bus.Msg) {
		if !m.WantsReply() {
			t.Error("a request does not want a reply")
		}
		if err := m.Respond(append(m.Data, m.Data...)); err != nil {
			t.Errorf("Respond: %v", err)
		}
	})
	for _, data := range []string{"ab", "", string(bytes.Repeat([]byte("z"), 1<<20))} {
		got, err := a.Request(t.Context(), "crier.double", []byte(data))
		if err != nil {
			t.Fatalf("Request: %v", err)
		}
		if string(got) != data+data {
			t.Fatalf("asked with %d bytes, got %d", len(data), len(got))
		}
	}
}

// testAskOrder asks many questions before it waits for an answer: they arrive, and
// are answered, in their order.
func testAskOrder(t *testing.T, a, b bus.Bus) {
	const n = 2000
	subscribe(t, b, "crier.ask", func(m bus.Msg) {
		if err := m.Respond(m.Data); err != nil {
			t.Errorf("Respond: %v", err)
		}
	})
	answers := make(chan string, n)
	for i := range n {
		err := a.Ask(bus.Question{Subject: "crier.ask", Data: fmt.Append(nil, i), Patience: patience}, func(b []byte, err error) {
			if err != nil {
				t.Errorf("the answer to question %d: %v", i, err)
			}
			answers <- string(b)
		})
		if err != nil {
			t.Fatalf("Ask: %v", err)
		}
	}
	for i := range n {
		if got := <-answers; got != fmt.Sprint(i) {
			t.Fatalf("answer %d is to question %s", i, got)
		}
	}
}

// testAskInVain asks nobody, and somebody who does not answer, and wrongly.
func testAskInVain(t *testing.T, a, b bus.Bus) {
	ended := make(chan error, 2)
	ask := func(subject string, patience time.Duration) {
		t.Helper()
		if err := a.Ask(bus.Question{Subject: subject, Patience: patience}, func(_ []byte, err error) { ended <- err }); err != nil {
			t.Fatalf("Ask: %v", err)
		}
	}
	ask("crier.nobody", patience)
	if err := <-ended; !errors.Is(err, bus.ErrNoResponders) {
		t.Fatalf("asking nobody: %v", err)
	}
	late := make(chan bus.Msg, 1)
	subscribe(t, b, "crier.silent", func(m bus.Msg) { late <- m })
	ask("crier.silent", 50*time.Millisecond)
	if err := <-ended; !errors.Is(err, bus.ErrNoAnswer) {
		t.Fatalf("asking who does not answer: %v", err)
	}
	if err := (<-late).Respond([]byte("late")); err != nil {
		t.Fatalf("answering late: %v", err)
	}
	for range 200 { // without any patience: an error or done, never both
		called := make(chan error, 1)
		err := a.Ask(bus.Question{Subject: "crier.*"}, func(_ []byte, err error) { called <- err })
		if err == nil {
			err = <-called
			if !errors.Is(err, bus.ErrNoAnswer) {
				t.Fatalf("asking a pattern ends with %v", err)
			}
		} else if !errors.Is(err, bus.ErrSubject) {
			t.Fatalf("asking a pattern: %v", err)
		}
		select {
		case err := <-called:
			t.Fatalf("asking a pattern ends twice, the second time with %v", err)
		default:
		}
	}
	ask("crier.nobody", patience) // a second end of the silent one would come before this one's
	if err := <-ended; !errors.Is(err, bus.ErrNoResponders) {
		t.Fatalf("asking nobody again: %v", err)
	}
}

func testNoResponders(t *testing.T, a, b bus.Bus) {
	s := subscribe(t, b, "crier.gone", func(m bus.Msg) { _ = m.Respond(nil) })
	if _, err := a.Request(t.Context(), "crier.gone", nil); err != nil {
		t.Fatalf("Request: %v", err)
	}
	if err := s.Unsubscribe(); err != nil {
		t.Fatal(err)
	}
	// The end of the subscription is not awaited by Unsubscribe; a request into
	// the gap waits for its context.
	deadline := time.Now().Add(patience)
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		_, err := a.Request(ctx, "crier.gone", nil)
		cancel()
		if errors.Is(err, bus.ErrNoResponders) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("Request to nobody: %v, want ErrNoResponders", err)
		}
	}
	if _, err := a.Request(t.Context(), "crier.never", nil); !errors.Is(err, bus.ErrNoResponders) {
		t.Fatalf("Request to nobody: %v, want ErrNoResponders", err)
	}
}

func testRequestContext(t *testing.T, a, b bus.Bus) {
	asked := collect(t, b, "crier.silent")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := a.Request(ctx, "crier.silent", []byte("?")); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Request without an answer: %v, want DeadlineExceeded", err)
	}
	m := receive(t, asked)
	_ = m.Respond([]byte("late")) // it may be refused or be lost, but does no harm
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	if _, err := a.Request(ctx, "crier.silent", nil); !errors.Is(err, context.Canceled) {
		t.Fatalf("Request with an ended context: %v, want Canceled", err)
	}
}

func testNoReply(t *testing.T, a, b bus.Bus) {
	got := collect(t, b, "crier.told")
	publish(t, a, "crier.told", []byte("x"))
	m := receive(t, got)
	if m.WantsReply() {
		t.Error("a published message wants a reply")
	}
	if err := m.Respond(nil); !errors.Is(err, bus.ErrNoReply) {
		t.Errorf("Respond: %v, want ErrNoReply", err)
	}
}

func testUnsubscribe(t *testing.T, a, b bus.Bus) {
	got := make(chan bus.Msg, 16)
	s := subscribe(t, b, "crier.off", func(m bus.Msg) { got <- m })
	still := collect(t, b, "crier.off")
	publish(t, a, "crier.off", []byte("1"))
	receive(t, got)
	receive(t, still)
	for range 2 {
		if err := s.Unsubscribe(); err != nil {
			t.Fatalf("Unsubscribe: %v", err)
		}
	}
	publish(t, a, "crier.off", []byte("2"))
	if m := receive(t, still); string(m.Data) != "2" {
		t.Fatalf("the other subscription got %q", m.Data)
	}
	select {
	case m := <-got:
		t.Fatalf("got %q after Unsubscribe", m.Data)
	default:
	}
}

func testRefused(t *testing.T, a, _ bus.Bus) {
	for _, subject := range []string{"", "a..b", "a b", "a.*", "a.>", ".a", "a."} {
		if err := a.Publish(subject, nil); !errors.Is(err, bus.ErrSubject) {
			t.Errorf("Publish(%q): %v, want ErrSubject", subject, err)
		}
		if _, err := a.Request(t.Context(), subject, nil); !errors.Is(err, bus.ErrSubject) {
			t.Errorf("Request(%q): %v, want ErrSubject", subject, err)
		}
	}
	for _, pattern := range []string{"", "a..b", "a b", ">.a"} {
		if _, err := a.Subscribe(pattern, func(bus.Msg) {}); !errors.Is(err, bus.ErrSubject) {
			t.Errorf("Subscribe(%q): %v, want ErrSubject", pattern, err)
		}
	}
	if err := a.Publish("crier.large", make([]byte, bus.MaxData+1)); !errors.Is(err, bus.ErrTooLarge) {
		t.Errorf("Publish of MaxData+1 bytes: %v, want ErrTooLarge", err)
	}
}

func testNested(t *testing.T, a, b bus.Bus) {
	done := collect(t, a, "crier.done")
	subscribe(t, b, "crier.inner", func(m bus.Msg) { _ = m.Respond([]byte("inner")) })
	subscribe(t, b, "crier.outer", func(m bus.Msg) {
		got, err := b.Request(t.Context(), "crier.inner", nil)
		if err != nil {
			t.Errorf("Request inside a handler: %v", err)
		}
		if err := b.Publish("crier.done", got); err != nil {
			t.Errorf("Publish inside a handler: %v", err)
		}
	})
	publish(t, a, "crier.outer", nil)
	if m := receive(t, done); string(m.Data) != "inner" {
		t.Fatalf("got %q", m.Data)
	}
}

func testConcurrent(t *testing.T, a, b bus.Bus) {
	subscribe(t, b, "crier.echo.*", func(m bus.Msg) { _ = m.Respond([]byte(m.Subject + string(m.Data))) })
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 100 {
				subject, data := fmt.Sprintf("crier.echo.%d", i), fmt.Sprint(j)
				got, err := a.Request(t.Context(), subject, []byte(data))
				if err != nil || string(got) != subject+data {
					t.Errorf("asked %s with %s, got %q, %v", subject, data, got, err)
					return
				}
			}
		})
	}
	wg.Wait()
}
