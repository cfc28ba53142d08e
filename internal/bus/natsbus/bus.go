package natsbus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"crier/internal/bus"
	"crier/internal/bus/subject"

	"github.com/nats-io/nats.go"
)

// What may wait for one subscription; more is dropped and logged.
const (
	pendingMsgs  = 1 << 16
	pendingBytes = 256 << 20
)

// subscribeTimeout bounds the wait for the server to know of a subscription.
const subscribeTimeout = 5 * time.Second

// Bus sends and receives messages over one connection.
type Bus struct {
	nc      *nats.Conn
	answers answers
}

var _ bus.Bus = (*Bus)(nil)

// New makes a Bus of a connection, which stays its caller's to close.
func New(nc *nats.Conn) *Bus { return &Bus{nc: nc} }

// Publish implements bus.Bus.
func (b *Bus) Publish(subj string, data []byte) error {
	if err := check(subj, data); err != nil {
		return err
	}
	if err := b.nc.Publish(subj, data); err != nil {
		return fmt.Errorf("sending to %s: %w", subj, cut(err))
	}
	return nil
}

// cut gives bus.ErrCut for what a connection answers that keeps nothing while it is cut.
func cut(err error) error {
	if errors.Is(err, nats.ErrReconnectBufExceeded) {
		return bus.ErrCut
	}
	return err
}

// Request implements bus.Bus.
func (b *Bus) Request(ctx context.Context, subj string, data []byte) ([]byte, error) {
	if err := check(subj, data); err != nil {
		return nil, err
	}
	m, err := b.nc.RequestWithContext(ctx, subj, data)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return nil, fmt.Errorf("asking %s: %w", subj, bus.ErrNoResponders)
	case err != nil:
		return nil, fmt.Errorf("asking %s: %w", subj, cut(err))
	}
	return m.Data, nil
}

// Subscribe implements bus.Bus.
func (b *Bus) Subscribe(pattern string, fn func(bus.Msg)) (bus.Subscription, error) {
	if !subject.ValidPattern(pattern) {
		return nil, fmt.Errorf("subscribing to %q: %w", pattern, bus.ErrSubject)
	}
	sub, err := b.nc.Subscribe(pattern, func(m *nats.Msg) {
		if m.Reply == "" {
			fn(bus.NewMsg(m.Subject, m.Data, nil))
			return
		}
		fn(bus.NewMsg(m.Subject, m.Data, func(reply []byte) error {
			return b.Publish(m.Reply, reply)
		}))
	})
	if err != nil {
		return nil, fmt.Errorf("subscribing to %s: %w", pattern, err)
	}
	err = sub.SetPendingLimits(pendingMsgs, pendingBytes)
	if err == nil {
		err = b.nc.FlushTimeout(subscribeTimeout)
	}
	if err != nil {
		return nil, fmt.Errorf("subscribing to %s: %w", pattern, errors.Join(err, sub.Unsubscribe()))
	}
	return &subscription{sub}, nil
}

type subscription struct{ sub *nats.Subscription }

// Unsubscribe implements bus.Subscription.
func (s *subscription) Unsubscribe() error {
	err := s.sub.Unsubscribe()
	if err == nil || errors.Is(err, nats.ErrBadSubscription) || errors.Is(err, nats.ErrConnectionClosed) {
		return nil
	}
	return fmt.Errorf("ending the subscription to %s: %w", s.sub.Subject, err)
}

func check(subj string, data []byte) error {
	if !subject.Valid(subj) {
		return fmt.Errorf("sending to %q: %w", subj, bus.ErrSubject)
	}
	if len(data) > bus.MaxData {
		return fmt.Errorf("sending %d bytes to %s: %w", len(data), subj, bus.ErrTooLarge)
	}
	return nil
}
