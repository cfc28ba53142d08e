package natsbus

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"crier/internal/bus"

	"github.com/nats-io/nats.go"
)

// noResponders is the status with which the server answers for nobody.
const noResponders = "503"

// answers is where answers come in: one subscription for all of a Bus, so that they
// come in an order, each question with a number of its own.
type answers struct {
	mu struct {
		sync.Mutex
		prefix string // of the subjects of answers; empty until the first question
		last   uint64
		open   map[string]*question // by number
	}
}

type question struct {
	number  uint64
	subject string
	done    func([]byte, error)
	timer   *time.Timer
}

// Ask implements bus.Bus.
func (b *Bus) Ask(q bus.Question, done func([]byte, error)) error {
	if err := check(q.Subject, q.Data); err != nil {
		return err
	}
	reply, err := b.answers.add(b.nc, q, done)
	if err != nil {
		return fmt.Errorf("asking %s: %w", q.Subject, err)
	}
	if err := b.nc.PublishRequest(q.Subject, reply, q.Data); err != nil && b.answers.close(reply) != nil {
		return fmt.Errorf("asking %s: %w", q.Subject, err)
	}
	return nil
}

// add opens a question and gives its subject for answers.
func (a *answers) add(nc *nats.Conn, q bus.Question, done func([]byte, error)) (reply string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mu.prefix == "" {
		prefix := nats.NewInbox() + "."
		sub, err := nc.Subscribe(prefix+"*", a.take)
		if err == nil {
			err = sub.SetPendingLimits(pendingMsgs, pendingBytes)
		}
		if err != nil {
			return "", err
		}
		a.mu.prefix, a.mu.open = prefix, map[string]*question{}
		go a.watch(nc.StatusChanged(nats.CONNECTED, nats.CLOSED))
	}
	a.mu.last++
	reply = a.mu.prefix + strconv.FormatUint(a.mu.last, 36)
	a.mu.open[strings.TrimPrefix(reply, a.mu.prefix)] = &question{a.mu.last, q.Subject, done, time.AfterFunc(q.Patience, func() {
		if open := a.close(reply); open != nil {
			done(nil, fmt.Errorf("asking %s: %w", q.Subject, bus.ErrNoAnswer))
		}
	})}
	return reply, nil
}

// close takes a question out; nil if it was taken already.
func (a *answers) close(reply string) *question {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := strings.TrimPrefix(reply, a.mu.prefix)
	q := a.mu.open[n]
	delete(a.mu.open, n)
	if q != nil {
		q.timer.Stop()
	}
	return q
}

// watch ends the questions that are open whenever the connection is another one, until it
// is closed: who answers now, answers to the one that is lost.
func (a *answers) watch(changes <-chan nats.Status) {
	for status := range changes {
		for _, q := range a.closeAll() {
			q.done(nil, fmt.Errorf("asking %s, while the connection was lost: %w", q.subject, bus.ErrNoAnswer))
		}
		if status == nats.CLOSED {
			return
		}
	}
}

// closeAll takes all questions out, in the order in which they were asked.
func (a *answers) closeAll() (all []*question) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, q := range a.mu.open {
		q.timer.Stop()
		all = append(all, q)
	}
	clear(a.mu.open)
	slices.SortFunc(all, func(x, y *question) int { return cmp.Compare(x.number, y.number) })
	return all
}

// take passes the first answer to a question on.
func (a *answers) take(m *nats.Msg) {
	q := a.close(m.Subject)
	switch {
	case q == nil:
	case len(m.Data) == 0 && m.Header.Get("Status") == noResponders:
		q.done(nil, fmt.Errorf("asking %s: %w", q.subject, bus.ErrNoResponders))
	default:
		q.done(m.Data, nil)
	}
}
