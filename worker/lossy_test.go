package worker

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"crier/internal/bus"
	"crier/internal/pause"
	"crier/state/ledger"
)

// chance is a source of luck for many goroutines; none of it once it is over.
type chance struct {
	mu   sync.Mutex
	rng  *rand.Rand
	over bool
}

func (c *chance) of(p float64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.over && c.rng.Float64() < p
}

func (c *chance) upTo(d time.Duration) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return 0
	}
	return time.Duration(c.rng.Int64N(int64(d)))
}

func (c *chance) n(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rng.IntN(n)
}

func (c *chance) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
}

// lossy is a bus that loses messages and answers, delays them, and brings some
// twice. It is worse than a Bus may be: what it delays is overtaken.
type lossy struct {
	*bus.Memory
	c *chance
}

// Publish implements bus.Bus.
func (l *lossy) Publish(subject string, data []byte) error {
	data = slices.Clone(data)
	times := 1
	if l.c.of(0.1) {
		times = 0
	} else if l.c.of(0.1) {
		times = 2
	}
	for range times {
		if late := l.c.upTo(time.Second); l.c.of(0.2) {
			time.AfterFunc(late, func() { l.Memory.Publish(subject, data) })
		} else {
			l.Memory.Publish(subject, data)
		}
	}
	return nil
}

// Request implements bus.Bus.
func (l *lossy) Request(ctx context.Context, subject string, data []byte) ([]byte, error) {
	l.again(subject, data)
	if l.c.of(0.05) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	answer, err := l.Memory.Request(ctx, subject, data)
	if l.c.of(0.1) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return answer, err
}

// Ask implements bus.Bus.
func (l *lossy) Ask(q bus.Question, done func([]byte, error)) error {
	q.Data = slices.Clone(q.Data)
	noAnswer := func() { done(nil, bus.ErrNoAnswer) }
	l.again(q.Subject, q.Data)
	if l.c.of(0.1) {
		time.AfterFunc(q.Patience, noAnswer)
		return nil
	}
	began := time.Now()
	ask := func() {
		l.Memory.Ask(q, func(answer []byte, err error) {
			if l.c.of(0.1) {
				time.AfterFunc(time.Until(began.Add(q.Patience)), noAnswer)
			} else if late := l.c.upTo(time.Second); l.c.of(0.2) {
				time.AfterFunc(late, func() { done(answer, err) })
			} else {
				done(answer, err)
			}
		})
	}
	if late := l.c.upTo(time.Second); l.c.of(0.2) {
		time.AfterFunc(late, ask)
	} else {
		ask()
	}
	return nil
}

// again makes a copy arrive when its sender may long be dead. Announcements are
// spared: a home would take one that was sent before it listened for news, and no
// Bus brings that.
func (l *lossy) again(subject string, data []byte) {
	if !l.c.of(0.2) || strings.Contains(subject, "announce") {
		return
	}
	data = slices.Clone(data)
	time.AfterFunc(l.c.upTo(20*time.Second), func() {
		l.Memory.Ask(bus.Question{Subject: subject, Data: data, Patience: time.Second}, func([]byte, error) {})
	})
}

// faraway is a ledger whose answers get lost, and in which arrives what a process
// sent that is dead by then.
type faraway struct {
	ledger.Log
	c *chance
}

// Append implements ledger.Log.
func (f *faraway) Append(ctx context.Context, subject string, last uint64, data []byte) (uint64, error) {
	if !strings.HasPrefix(subject, "led.j.") && subject != ledger.FoldSubject {
		return f.Log.Append(ctx, subject, last, data) // while somebody waits for the claimer's mutex, fake time stands still
	}
	ctx = context.WithoutCancel(ctx)
	pause.For(ctx, f.c.upTo(15*time.Millisecond))
	switch {
	case f.c.of(0.01):
		return 0, ledger.ErrNoAnswer
	case f.c.of(0.02):
		data = slices.Clone(data)
		time.AfterFunc(f.c.upTo(2*time.Second), func() { f.Log.Append(ctx, subject, last, data) })
		return 0, ledger.ErrNoAnswer
	}
	seq, err := f.Log.Append(ctx, subject, last, data)
	pause.For(ctx, f.c.upTo(15*time.Millisecond))
	if f.c.of(0.01) {
		return 0, ledger.ErrNoAnswer
	}
	return seq, err
}
