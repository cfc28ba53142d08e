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

const codeNoMessage = 10037

// getRequest asks for a record: by sequence, the last of a subject, or the first
// that matches NextFor from Seq or Since on; Batch and MaxBytes for direct gets only.
type getRequest struct {
	Seq      uint64 `json:"seq,omitempty"`
	LastFor  string `json:"last_by_subj,omitempty"`
	NextFor  string `json:"next_by_subj,omitempty"`
	Batch    int    `json:"batch,omitempty"`
	MaxBytes int    `json:"max_bytes,omitempty"`
	// MultiLast asks for the last record of each subject that matches, if it is not
	// before Seq; direct gets only.
	MultiLast []string `json:"multi_last,omitempty"`
	// Since stands in the place of Seq, for direct gets only.
	Since *time.Time `json:"start_time,omitempty"`
}

// fromLeader asks the leader, whose answer is never behind what was acknowledged.
func (s *Stream) fromLeader(ctx context.Context, r getRequest) (Record, error) {
	var a struct {
		outcome
		Message struct {
			Seq     uint64    `json:"seq"`
			Subject string    `json:"subject"`
			Time    time.Time `json:"time"`
			Data    []byte    `json:"data"`
		} `json:"message"`
	}
	err := s.ask(ctx, s.leader, r, &a)
	var refused *apiError
	if errors.As(err, &refused) && refused.ErrCode == codeNoMessage {
		return Record{}, ErrNoRecord
	}
	if err != nil {
		return Record{}, err
	}
	return Record(a.Message), nil
}

// Last gives the last record of a subject, or ErrNoRecord. It misses nothing that was
// acknowledged before it was called, to whomever.
func (s *Stream) Last(ctx context.Context, subject string) (Record, error) {
	r, err := s.last(ctx, subject)
	if err != nil {
		return Record{}, fmt.Errorf("reading the last record of %s: %w", subject, err)
	}
	return r, nil
}

func (s *Stream) last(ctx context.Context, subject string) (Record, error) {
	if s.marks != "" {
		return s.lastMarked(ctx, subject)
	}
	return s.fromLeader(ctx, getRequest{LastFor: subject})
}

// Get gives the record with a sequence, or ErrNoRecord. It misses nothing that was
// acknowledged before it was called.
func (s *Stream) Get(ctx context.Context, seq uint64) (Record, error) {
	if seq == 0 {
		return Record{}, fmt.Errorf("reading record 0 of %s: %w", s.name, ErrNoRecord)
	}
	r, err := s.getDirect(ctx, getRequest{Seq: seq})
	if err == nil && r.Subject == s.marks {
		err = ErrNoRecord
	} else if errors.Is(err, ErrNoRecord) {
		// Another server of a cluster may be behind.
		if s.marks != "" {
			r, err = s.getMarked(ctx, seq)
		} else {
			r, err = s.fromLeader(ctx, getRequest{Seq: seq})
		}
	}
	if err != nil {
		return Record{}, fmt.Errorf("reading record %d of %s: %w", seq, s.name, err)
	}
	return r, nil
}

// Since gives the sequence from which on records that match a pattern were stored at
// a time or later. A server that is behind the leader may give a lower one.
func (s *Stream) Since(ctx context.Context, pattern string, at time.Time) (uint64, error) {
	r, err := s.getDirect(ctx, getRequest{NextFor: pattern, Since: &at})
	if err == nil {
		return r.Seq, nil
	}
	if !errors.Is(err, ErrNoRecord) {
		return 0, fmt.Errorf("looking for what %s has since %s: %w", s.name, at.Format(time.RFC3339), err)
	}
	info, err := s.Info(ctx)
	return info.Last + 1, err
}

// getDirect asks any server for one record.
func (s *Stream) getDirect(ctx context.Context, request getRequest) (Record, error) {
	data, err := json.Marshal(request)
	if err != nil {
		return Record{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.wait)
	defer cancel()
	m, err := s.nc.RequestWithContext(ctx, s.direct, data)
	if err != nil {
		return Record{}, cut(err)
	}
	switch status := m.Header.Get("Status"); status {
	case "":
		return parse(m)
	case statusNone:
		return Record{}, ErrNoRecord
	default:
		return Record{}, fmt.Errorf("the server answers %s %s", status, m.Header.Get("Description"))
	}
}

// Answers of a direct get that are not a record.
const (
	statusEnd  = "204" // the end of a batch
	statusNone = "404" // nothing matches
)

// parse reads the record in an answer to a direct get. The record owns the
// answer's bytes.
func parse(m *nats.Msg) (Record, error) {
	seq, err := strconv.ParseUint(m.Header.Get("Nats-Sequence"), 10, 64)
	if err != nil {
		return Record{}, fmt.Errorf("a record without its sequence: %w", err)
	}
	at, err := time.Parse(time.RFC3339Nano, m.Header.Get("Nats-Time-Stamp"))
	if err != nil {
		return Record{}, fmt.Errorf("record %d without its time: %w", seq, err)
	}
	return Record{Seq: seq, Subject: m.Header.Get("Nats-Subject"), Time: at, Data: m.Data}, nil
}
