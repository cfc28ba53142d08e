package natsstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"crier/internal/pause"
)

// markRetry is the pause before a server that has not the mark yet is asked again.
const markRetry = 5 * time.Millisecond

// statusMany says that more subjects match than are answered for.
const statusMany = "413"

// errMany: see statusMany.
var errMany = errors.New("too many subjects match")

// markSubject is where the marks of a stream with replicas are stored.
func markSubject(stream string) string { return "crier.mark." + stream }

// raise notes that there is a record with a sequence.
func (s *Stream) raise(seq uint64) {
	for {
		floor := s.floor.Load()
		if seq <= floor || s.floor.CompareAndSwap(floor, seq) {
			return
		}
	}
}

// mark stores a mark and returns its sequence, behind all that was acknowledged
// before. A full stream has room for it where the mark before it was.
func (s *Stream) mark(ctx context.Context) (uint64, error) {
	seq, err := s.storeMark(ctx)
	if errors.Is(err, ErrFull) {
		var done outcome
		purge := struct {
			Filter string `json:"filter"`
		}{s.marks}
		if err := s.ask(ctx, "$JS.API.STREAM.PURGE."+s.name, purge, &done); err != nil {
			return 0, fmt.Errorf("making room for a mark: %w", err)
		}
		seq, err = s.storeMark(ctx)
	}
	return seq, err
}

func (s *Stream) storeMark(ctx context.Context) (uint64, error) {
	m := nats.NewMsg(s.marks)
	m.Header.Set("Nats-Rollup", "sub")
	ack, err := s.store(ctx, m)
	if err != nil {
		return 0, fmt.Errorf("storing a mark: %w", err)
	}
	return ack.Seq, nil
}

// untilMarked stores a mark and asks until an answer has it; ask says whether it had.
// Without replicas the mark is 0, and there is none.
func (s *Stream) untilMarked(ctx context.Context, ask func(ctx context.Context, mark uint64) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, s.wait)
	defer cancel()
	var mark uint64
	if s.marks != "" {
		var err error
		if mark, err = s.mark(ctx); err != nil {
			return err
		}
	}
	for {
		done, err := ask(ctx, mark)
		if done || err != nil {
			return err
		}
		if !pause.For(ctx, markRetry) {
			return fmt.Errorf("no server that answers has record %d: %w", mark, ctx.Err())
		}
	}
}

// lastMarked gives the last record of a subject out of an answer that has the mark.
func (s *Stream) lastMarked(ctx context.Context, subject string) (last Record, err error) {
	err = s.untilMarked(ctx, func(ctx context.Context, mark uint64) (bool, error) {
		records, upTo, err := s.lastOfEach(ctx, 1, subject, s.marks)
		if err != nil || upTo < mark {
			return false, err
		}
		for _, r := range records {
			if r.Subject == subject {
				last = r
				return true, nil
			}
		}
		return true, ErrNoRecord
	})
	return last, err
}

// getMarked gives a record that a server had not. The mark is behind it, or it never
// was: an answer with a later record shows that it is gone.
func (s *Stream) getMarked(ctx context.Context, seq uint64) (got Record, err error) {
	err = s.untilMarked(ctx, func(ctx context.Context, mark uint64) (bool, error) {
		if seq > mark {
			return true, ErrNoRecord
		}
		r, err := s.getDirect(ctx, getRequest{Seq: seq, NextFor: ">"})
		switch {
		case errors.Is(err, ErrNoRecord):
			return false, nil
		case err != nil:
			return false, err
		case r.Seq != seq || r.Subject == s.marks:
			return true, ErrNoRecord
		}
		got = r
		return true, nil
	})
	return got, err
}

// lastOfEach asks any server for the last records of the subjects that match, those
// from a sequence on, and for its own last sequence, all at one moment. It gives 0 for
// that if nothing at all matches.
func (s *Stream) lastOfEach(ctx context.Context, from uint64, patterns ...string) (records []Record, upTo uint64, err error) {
	request, err := json.Marshal(getRequest{Seq: from, MultiLast: patterns})
	if err != nil {
		return nil, 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, min(s.wait, silenceMax))
	defer cancel()
	inbox := nats.NewInbox()
	sub, err := s.nc.SubscribeSync(inbox)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = sub.Unsubscribe() }() // or it has ended with the connection
	if err := s.nc.PublishRequest(s.direct, inbox, request); err != nil {
		return nil, 0, err
	}
	previous := "0"
	for {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return nil, 0, err
		}
		switch status := m.Header.Get("Status"); status {
		case "":
			if m.Header.Get("Nats-Last-Sequence") != previous {
				return nil, 0, fmt.Errorf("a message was lost behind record %s", previous)
			}
			r, err := parse(m)
			if err != nil {
				return nil, 0, err
			}
			previous = m.Header.Get("Nats-Sequence")
			records = append(records, r)
		case statusNone:
			return nil, 0, nil
		case statusMany:
			return nil, 0, errMany
		case statusEnd:
			upTo, err := strconv.ParseUint(m.Header.Get("Nats-UpTo-Sequence"), 10, 64)
			if err != nil || m.Header.Get("Nats-Last-Sequence") != previous {
				return nil, 0, fmt.Errorf("a message was lost behind record %s", previous)
			}
			return records, upTo, nil
		default:
			return nil, 0, fmt.Errorf("the server answers %s %s", status, m.Header.Get("Description"))
		}
	}
}

// readMarked reads all that was stored when it is called, and says that it looked.
func (f *follower) readMarked(ctx context.Context) error {
	err := f.untilMarked(ctx, func(ctx context.Context, mark uint64) (bool, error) {
		if f.read >= mark {
			return true, nil
		}
		records, upTo, err := f.lastOfEach(ctx, f.next, f.pattern, f.marks)
		switch {
		case errors.Is(err, errMany):
			// The push comes from one server, in order: what is before the mark is read
			// when the mark, or one that has replaced it, is.
			err := f.bulk(ctx, f.pattern, f.marks)
			return f.read >= mark, err
		case err != nil || upTo < mark:
			return false, err
		}
		for _, r := range records {
			if r.Subject != f.marks {
				_, err := f.batch(ctx)
				return false, err
			}
		}
		return true, nil
	})
	f.marked = err == nil
	f.looked = f.marked
	return err
}

// known is the sequence of the last record that there must be. Only of replicas it is
// more than what this follower has read: there somebody may answer who is behind.
func (f *follower) known() uint64 {
	if f.marks == "" {
		return f.read
	}
	return max(f.read, f.floor.Load())
}

// shrunk gives ErrShrunk if a stream ends before what is known of it. Of replicas, who
// says so may be behind: a leader who is none any more, or one who has not applied yet
// what another server has. He is asked again then.
func (f *follower) shrunk(ctx context.Context, last, known uint64) error {
	if f.marks != "" {
		ctx, cancel := context.WithTimeout(ctx, f.wait)
		defer cancel()
		mark, err := f.mark(ctx)
		if err != nil || mark > known {
			return err
		}
	}
	return fmt.Errorf("record %d is known, the last is %d: %w", known, last, ErrShrunk)
}
