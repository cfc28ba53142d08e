package bus

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"crier/internal/bus/subject"
)

// memoryPending bounds what waits for one subscription of a Memory.
const memoryPending = 1 << 16

// Memory is a Bus inside one process. Each subscription has a goroutine, and
// gets all messages in one order: that in which Publish and Request were called.
type Memory struct {
	mu struct {
		sync.Mutex
		subs   []*memorySub
		closed bool
	}
	running sync.WaitGroup
}

// NewMemory makes a Bus with no subscriptions.
func NewMemory() *Memory { return &Memory{} }

// Publish implements Bus.
func (b *Memory) Publish(subj string, data []byte) error {
	_, err := b.send(subj, data, nil)
	return err
}

// Request implements Bus.
func (b *Memory) Request(ctx context.Context, subj string, data []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("asking %s: %w", subj, err)
	}
	replies := make(chan []byte, 1) // the first answer; later ones are dropped
	n, err := b.send(subj, data, answering(subj, func(reply []byte) {
		select {
		case replies <- reply:
		default:
		}
	}))
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, fmt.Errorf("asking %s: %w", subj, ErrNoResponders)
	}
	select {
	case reply := <-replies:
		return reply, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("asking %s: %w", subj, ctx.Err())
	}
}

// answering makes what takes the answers to a message.
func answering(subj string, take func(reply []byte)) func([]byte) error {
	return func(reply []byte) error {
		if len(reply) > MaxData {
			return fmt.Errorf("answering %s with %d bytes: %w", subj, len(reply), ErrTooLarge)
		}
		take(clone(reply))
		return nil
	}
}

// Ask implements Bus. done is called where the answer is given.
func (b *Memory) Ask(q Question, done func([]byte, error)) error {
	var ended atomic.Bool // by whoever comes first: the answer, the time, or an error here
	end := func(reply []byte, err error) {
		if ended.CompareAndSwap(false, true) {
			done(reply, err)
		}
	}
	timer := time.AfterFunc(q.Patience, func() { end(nil, fmt.Errorf("asking %s: %w", q.Subject, ErrNoAnswer)) })
	n, err := b.send(q.Subject, q.Data, answering(q.Subject, func(reply []byte) {
		timer.Stop()
		end(reply, nil)
	}))
	if err != nil || n == 0 {
		timer.Stop()
	}
	switch {
	case err != nil && ended.CompareAndSwap(false, true):
		return err
	case err == nil && n == 0:
		end(nil, fmt.Errorf("asking %s: %w", q.Subject, ErrNoResponders))
	}
	return nil // done was, or will be, called
}

// send puts a message in the queue of each subscription and tells how many
// there are.
func (b *Memory) send(subj string, data []byte, answer func([]byte) error) (int, error) {
	if !subject.Valid(subj) {
		return 0, fmt.Errorf("sending to %q: %w", subj, ErrSubject)
	}
	if len(data) > MaxData {
		return 0, fmt.Errorf("sending %d bytes to %s: %w", len(data), subj, ErrTooLarge)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.closed {
		return 0, fmt.Errorf("sending to %s: the bus is closed", subj)
	}
	n := 0
	for _, s := range b.mu.subs {
		if subject.Match(s.pattern, subj) {
			s.put(NewMsg(subj, clone(data), answer))
			n++
		}
	}
	return n, nil
}

// Subscribe implements Bus.
func (b *Memory) Subscribe(pattern string, fn func(Msg)) (Subscription, error) {
	if !subject.ValidPattern(pattern) {
		return nil, fmt.Errorf("subscribing to %q: %w", pattern, ErrSubject)
	}
	s := &memorySub{bus: b, pattern: pattern, fn: fn, wake: make(chan struct{}, 1), done: make(chan struct{})}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.closed {
		return nil, fmt.Errorf("subscribing to %s: the bus is closed", pattern)
	}
	b.mu.subs = append(b.mu.subs, s)
	b.running.Go(s.run)
	return s, nil
}

// Close ends all subscriptions and waits until no fn runs. It must not be
// called from one.
func (b *Memory) Close() {
	b.mu.Lock()
	subs := b.mu.subs
	b.mu.subs, b.mu.closed = nil, true
	b.mu.Unlock()
	for _, s := range subs {
		s.stop()
	}
	b.running.Wait()
}

type memorySub struct {
	bus     *Memory
	pattern string
	fn      func(Msg)
	wake    chan struct{} // one slot: there is something in the queue
	done    chan struct{} // closed by stop
	once    sync.Once
	mu      struct {
		sync.Mutex
		queue []Msg // at most memoryPending; beyond that messages are dropped
	}
}

// Unsubscribe implements Subscription.
func (s *memorySub) Unsubscribe() error {
	s.bus.mu.Lock()
	s.bus.mu.subs = slices.DeleteFunc(slices.Clone(s.bus.mu.subs), func(o *memorySub) bool { return o == s })
	s.bus.mu.Unlock()
	s.stop()
	return nil
}

func (s *memorySub) stop() { s.once.Do(func() { close(s.done) }) }

func (s *memorySub) put(m Msg) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.mu.queue) == memoryPending {
		return
	}
	s.mu.queue = append(s.mu.queue, m)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *memorySub) run() {
	for {
		select {
		case <-s.done:
			return
		case <-s.wake:
		}
		s.mu.Lock()
		queue := s.mu.queue
		s.mu.queue = nil
		s.mu.Unlock()
		for _, m := range queue {
			select {
			case <-s.done:
				return
			default:
				s.fn(m)
			}
		}
	}
}

// clone copies, so that sender and receiver each own their bytes; it is never nil.
func clone(data []byte) []byte { return append([]byte{}, data...) }
