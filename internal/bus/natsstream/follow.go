package natsstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// One batch is at most batchBytes and one record: what a follower holds in
	// memory, and for how long the server keeps appends waiting (a millisecond).
	batchBytes = 2 << 20
	// batchRecords bounds a batch of small records, and with answersKept what waits
	// for fn: what finds no room is dropped, and asked for again.
	batchRecords = 1 << 10
	answersKept  = batchRecords + 64
	// lookEvery is how often a follower that has read all asks whether there is
	// more; hints make it ask at once.
	lookEvery = 400 * time.Millisecond
	// silenceMax is how long nothing may come before a request is made again.
	silenceMax = 2 * time.Second
	// retryAfter is the pause after a request that failed.
	retryAfter = 100 * time.Millisecond
)

// Follow calls fn for each record that matches pattern, in order, each once, from
// a sequence on, until ctx ends or fn returns an error, which it returns. fn owns
// the record. caughtUp, if not nil, is called when all that was stored when the
// follower looked has been seen, at least once and then at least every second
// while the server answers. A server that does not answer is asked again for
// ever; only a closed connection and ErrShrunk end it otherwise.
func (s *Stream) Follow(ctx context.Context, from uint64, pattern string, fn func(Record) error, caughtUp func()) error {
	f := &follower{Stream: s, next: max(from, 1), pattern: pattern, fn: fn, hint: make(chan struct{}, 1)}
	if err := f.subscribe(); err != nil {
		return fmt.Errorf("following %s of %s: %w", pattern, s.name, err)
	}
	defer f.unsubscribe()
	var looked time.Time
	failing := false
	for {
		err := f.readAll(ctx, time.Since(looked) >= lookEvery)
		pause := lookEvery
		switch {
		case f.fnErr != nil:
			return f.fnErr
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && (errors.Is(err, ErrShrunk) || s.nc.IsClosed()):
			return fmt.Errorf("following %s of %s from %d: %w", pattern, s.name, f.next, err)
		case err != nil:
			if !failing {
				s.log.Warn("a follower does not get on; it goes on asking", "subjects", pattern, "from", f.next, "error", err)
			}
			failing, pause = true, retryAfter
		default:
			failing = false
			if f.looked {
				looked, f.looked = time.Now(), false
				if caughtUp != nil {
					caughtUp()
				}
			}
		}
		if err := f.pause(ctx, pause, err != nil); err != nil {
			return err
		}
	}
}

// follower is one call of Follow; all its state belongs to the calling goroutine.
type follower struct {
	*Stream
	next    uint64 // the sequence to read from
	read    uint64 // the last one that was read
	pattern string
	fn      func(Record) error
	fnErr   error // what fn returned
	looked  bool  // the leader has said that there is nothing from next on
	marked  bool  // all is read that was stored when Follow was called

	hint    chan struct{} // one slot: something was stored
	hints   *nats.Subscription
	answers chan *nats.Msg
	replies *nats.Subscription // feeds answers
	inbox   string             // where answers to batches come, up to the number of the request
	// bulkInbox is where pushed records come, up to the number of the request.
	bulkInbox string
	asked     uint64 // number of the last request; answers to older ones are dropped
}

func (f *follower) subscribe() (err error) {
	f.inbox, f.bulkInbox = nats.NewInbox()+".", nats.NewInbox()+"."
	f.hints, err = f.nc.Subscribe(f.Stream.hints+f.pattern, func(*nats.Msg) {
		select {
		case f.hint <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return err
	}
	f.answers = make(chan *nats.Msg, answersKept)
	f.replies, err = f.nc.ChanSubscribe(f.inbox+"*", f.answers)
	if err != nil {
		return errors.Join(err, f.hints.Unsubscribe())
	}
	return nil
}

// unsubscribe tells the server; if it cannot be told the subscriptions have ended
// with the connection.
func (f *follower) unsubscribe() {
	_ = f.hints.Unsubscribe()
	_ = f.replies.Unsubscribe()
}

// pause waits for a hint, or for d if there is none; after a failure it waits
// for d in any case.
func (f *follower) pause(ctx context.Context, d time.Duration, failed bool) error {
	t := time.NewTimer(d)
	defer t.Stop()
	hint := f.hint
	if failed {
		hint = nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-hint:
	case <-t.C:
	}
	return nil
}

// readAll reads batches until there is no more, and then, if told to look, asks
// the leader: a server that answers direct gets may be behind. Of three replicas the
// first look takes a mark; later ones believe a leader who has what is known here.
func (f *follower) readAll(ctx context.Context, look bool) error {
	for batches := 1; ; batches++ {
		more, err := f.batch(ctx)
		if err != nil {
			return err
		}
		if more {
			if batches%bulkAfter == 0 {
				if err := f.bulk(ctx, f.pattern); err != nil {
					return err
				}
			}
			continue
		}
		if !look {
			return nil
		}
		if f.marks != "" && !f.marked {
			return f.readMarked(ctx)
		}
		known := f.known()
		info, err := f.leaderInfo(ctx)
		if err != nil {
			return err
		}
		if info.Last < known {
			return f.shrunk(ctx, info.Last, known)
		}
		if info.Last >= f.next {
			r, err := f.fromLeader(ctx, getRequest{Seq: f.next, NextFor: f.pattern})
			if err == nil {
				err = f.take(r)
				if err == nil {
					continue
				}
			}
			if !errors.Is(err, ErrNoRecord) || f.fnErr != nil {
				return err
			}
		}
		f.looked = true
		return nil
	}
}

// leaderInfo is Info, but soon asked again where another server may lead by then.
func (f *follower) leaderInfo(ctx context.Context) (Info, error) {
	if f.marks != "" {
		var cancel func()
		ctx, cancel = context.WithTimeout(ctx, f.patience())
		defer cancel()
	}
	return f.Info(ctx)
}

// take hands a record to fn and goes on behind it.
func (f *follower) take(r Record) error {
	if err := f.fn(r); err != nil {
		f.fnErr = err
		return err
	}
	f.passed(r.Seq)
	return nil
}

func (f *follower) passed(seq uint64) {
	f.read, f.next = seq, seq+1
	f.raise(seq)
}

func (f *follower) patience() time.Duration { return min(f.wait, silenceMax) }

// batch asks for the next records and takes them. more says that there are others.
func (f *follower) batch(ctx context.Context) (more bool, err error) {
	f.asked++
	reply := f.inbox + strconv.FormatUint(f.asked, 10)
	req, err := json.Marshal(getRequest{Seq: f.next, NextFor: f.pattern, Batch: batchRecords, MaxBytes: batchBytes})
	if err != nil {
		return false, err
	}
	if err := f.nc.PublishRequest(f.direct, reply, req); err != nil {
		return false, err
	}
	silence := time.NewTimer(f.patience())
	defer silence.Stop()
	previous := "0" // sequence of the record before, as the server says it
	for {
		var m *nats.Msg
		silence.Reset(f.patience()) // the time that fn takes does not count
		select {
		case m = <-f.answers:
		case <-ctx.Done():
			return false, ctx.Err()
		case <-silence.C:
			return false, fmt.Errorf("no answer for %s", f.patience())
		}
		if m.Subject != reply {
			continue
		}
		switch status := m.Header.Get("Status"); status {
		case "":
		case statusNone:
			return false, nil
		case statusEnd:
			if m.Header.Get("Nats-Last-Sequence") != previous {
				return false, fmt.Errorf("a message was lost behind record %s", previous)
			}
			return m.Header.Get("Nats-Num-Pending") != "0", nil
		default:
			return false, fmt.Errorf("the server answers %s %s", status, m.Header.Get("Description"))
		}
		if m.Header.Get("Nats-Last-Sequence") != previous {
			return false, fmt.Errorf("a message was lost behind record %s", previous)
		}
		previous = m.Header.Get("Nats-Sequence")
		r, err := parse(m)
		if err != nil {
			return false, err
		}
		if err := f.take(r); err != nil {
			return false, err
		}
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
	}
}
