package ws

import (
	"context"
	"errors"
	"testing"
	"time"

	"crier/internal/bus"
	"crier/presence/gateway"
	"crier/presence/gateway/accepted"
)

// late is a bus on which each subscription takes until it is let go.
type late struct {
	Bus
	let chan error
}

func (b *late) Subscribe(pattern string, fn func(bus.Msg)) (bus.Subscription, error) {
	if err := <-b.let; err != nil {
		return nil, err
	}
	return b.Bus.Subscribe(pattern, fn)
}

// A gateway is ready when it is subscribed to all that it hears of, and not if it cannot be.
func TestReady(t *testing.T) {
	const subscriptions = 6
	for _, last := range []error{nil, errors.New("nobody answers")} {
		memory := bus.NewMemory()
		t.Cleanup(memory.Close)
		files, history, err := accepted.Open(accepted.Config{Dir: t.TempDir(), Incarnation: inc1})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { files.Close() })
		b := &late{memory, make(chan error)}
		g, err := New(Config{Core: gateway.Config{Incarnation: inc1, History: history}, Bus: b, Homes: home{}, Verifier: verifier{}, Accepted: files})
		if err != nil {
			t.Fatal(err)
		}
		isReady := func() bool {
			select {
			case <-g.Ready():
				return true
			default:
				return false
			}
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- g.Run(ctx) }()
		for range subscriptions - 1 {
			b.let <- nil
		}
		if isReady() {
			t.Error("it is ready with a subscription missing")
		}
		b.let <- last
		if last == nil {
			select {
			case <-g.Ready():
			case <-time.After(patience):
				t.Error("it is not ready")
			}
		}
		stop()
		if err := <-ended; !errors.Is(err, last) || isReady() != (last == nil) {
			t.Errorf("%v: it ends with %v, ready: %v", last, err, isReady())
		}
	}
}
