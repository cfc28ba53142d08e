package natsstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"crier/internal/pause"
)

// The server's error codes that say that nothing was stored, and why.
const (
	codeWrongLast       = 10071 // another last sequence of the subject
	codeWrongLastRacing = 10164 // the same, from a cluster, while another append is under way
	codeStoreRefused    = 10077 // the reason is in the text only
	codeAccountLimit    = 10002
	codeNoResources     = 10023
	codeNoStorage       = 10047

	textMaxBytes = "maximum bytes"
)

// Put says what an append stores and under which condition.
type Put struct {
	Subject string
	Last    uint64 // the sequence of the subject's last record; 0: it has none
	Data    []byte
	TTL     time.Duration // 0: it stays; else whole seconds, the stream must allow it
	Erase   bool          // it marks the end of a value, for the server's own tools
}

// Append stores a record if the last sequence of its subject is as expected, and
// returns its own once the server has acknowledged it. See the errors above.
//
// A cluster refuses for a moment what follows an acknowledged record of the subject
// too fast, as if it were a conflict, though with a code that says why; then nothing
// is stored, and it is sent again.
func (s *Stream) Append(ctx context.Context, p Put) (uint64, error) {
	if len(p.Data) > MaxRecord {
		return 0, fmt.Errorf("storing %d bytes in %s: %w (at most %d)", len(p.Data), p.Subject, ErrTooLarge, MaxRecord)
	}
	ctx, cancel := context.WithTimeout(ctx, s.appendWait)
	defer cancel()
	for wait := racingPause; ; wait = min(2*wait, racingPauseMax) {
		ack, err := s.store(ctx, p.message())
		var refused *apiError
		if err == nil || !errors.As(err, &refused) || refused.ErrCode != codeWrongLastRacing || !pause.For(ctx, wait) {
			if err != nil {
				return 0, fmt.Errorf("storing in %s: %w", p.Subject, err)
			}
			s.hint(p.Subject)
			return ack.Seq, nil
		}
	}
}

// Pauses before an append is sent again that met one under way.
const (
	racingPause    = 100 * time.Microsecond
	racingPauseMax = 20 * time.Millisecond
)

func (p Put) message() *nats.Msg {
	m := nats.NewMsg(p.Subject)
	m.Data = p.Data
	m.Header.Set("Nats-Expected-Last-Subject-Sequence", strconv.FormatUint(p.Last, 10))
	if p.TTL > 0 {
		m.Header.Set("Nats-TTL", strconv.FormatInt(int64((p.TTL+time.Second-1)/time.Second), 10))
	}
	if p.Erase {
		m.Header.Set("KV-Operation", "DEL")
	}
	return m
}

// Publish stores a record whatever its subject has, unless one with this id was
// stored within the window for duplicates: then it gives that one's sequence. After
// an error other than ErrFull and ErrTooLarge it is unknown whether it was stored;
// within the window it may be published again.
func (s *Stream) Publish(ctx context.Context, subject, id string, data []byte) (seq uint64, duplicate bool, err error) {
	if len(data) > MaxRecord {
		return 0, false, fmt.Errorf("storing %d bytes in %s: %w (at most %d)", len(data), subject, ErrTooLarge, MaxRecord)
	}
	ctx, cancel := context.WithTimeout(ctx, s.wait)
	defer cancel()
	m := nats.NewMsg(subject)
	m.Data = data
	m.Header.Set("Nats-Msg-Id", id)
	ack, err := s.store(ctx, m)
	if err != nil {
		return 0, false, fmt.Errorf("storing in %s: %w", subject, err)
	}
	s.hint(subject)
	return ack.Seq, ack.Duplicate, nil
}

// ack is the answer to a record.
type ack struct {
	outcome
	Seq       uint64 `json:"seq"`
	Duplicate bool   `json:"duplicate"`
}

// hint tells the followers that something was stored. They poll as well: if it is lost
// they are late, not wrong.
func (s *Stream) hint(subject string) { _ = s.nc.Publish(s.hints+subject, nil) }

// store sends a record.
func (s *Stream) store(ctx context.Context, m *nats.Msg) (ack, error) {
	r, err := s.nc.RequestMsgWithContext(ctx, m)
	if err != nil {
		return ack{}, cut(err)
	}
	var a ack
	if err := json.Unmarshal(r.Data, &a); err != nil {
		return ack{}, fmt.Errorf("an answer that is not understood: %w", err)
	}
	if e := a.failure(); e != nil {
		return ack{}, refusal(e)
	}
	if a.Seq == 0 {
		return ack{}, errors.New("the answer has no sequence")
	}
	s.raise(a.Seq)
	return a, nil
}

func refusal(e *apiError) error {
	switch e.ErrCode {
	case codeWrongLast, codeWrongLastRacing:
		return fmt.Errorf("%w: %w", ErrConflict, e)
	case codeAccountLimit, codeNoResources, codeNoStorage:
		return fmt.Errorf("%w: %w", ErrFull, e)
	case codeStoreRefused:
		if strings.Contains(e.Description, textMaxBytes) {
			return fmt.Errorf("%w: %w", ErrFull, e)
		}
	}
	return e
}

// Purge removes the records of a subject below a sequence, but never its last one.
func (s *Stream) Purge(ctx context.Context, subject string, before uint64) error {
	// An answer that is behind purges less.
	last, err := s.fromLeader(ctx, getRequest{LastFor: subject})
	if errors.Is(err, ErrNoRecord) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("purging %s: %w", subject, err)
	}
	// What is appended meanwhile is above last, so last.Seq is safe to name.
	before = min(before, last.Seq)
	if before <= 1 {
		return nil // 0 would mean all to the server
	}
	type request struct {
		Filter string `json:"filter"`
		Seq    uint64 `json:"seq"`
	}
	var done struct {
		outcome
		Success bool `json:"success"`
	}
	if err := s.ask(ctx, "$JS.API.STREAM.PURGE."+s.name, request{subject, before}, &done); err != nil {
		return fmt.Errorf("purging %s below %d: %w", subject, before, err)
	}
	if !done.Success {
		return fmt.Errorf("purging %s below %d: the server did not do it", subject, before)
	}
	return nil
}
