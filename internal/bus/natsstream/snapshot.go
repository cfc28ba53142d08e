package natsstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// snapshotChunk is the bytes of one message of a snapshot.
	snapshotChunk = 128 << 10
	// snapshotWait is how long the next part of a snapshot may take.
	snapshotWait = 30 * time.Second
)

// Snapshot says what a copy of a stream holds.
type Snapshot struct {
	Config      json.RawMessage // of the stream, as the server words it
	First, Last uint64          // sequences
	Records     uint64
}

type snapshotAnswer struct {
	outcome
	Config json.RawMessage `json:"config"`
	State  struct {
		Records uint64 `json:"messages"`
		First   uint64 `json:"first_seq"`
		Last    uint64 `json:"last_seq"`
	} `json:"state"`
}

// Snapshot writes a copy of the stream as it is now, with its sequences and times, in the
// server's own form, and says what is in it. begun, if not nil, is called when it is clear
// how far the copy goes: appends go on meanwhile and are not in it. What is purged
// meanwhile may be missing. Whoever takes w's bytes must not stand still for more than
// 5 s, or the server gives up.
func (s *Stream) Snapshot(ctx context.Context, w io.Writer, begun func()) (Snapshot, error) {
	fail := func(err error) (Snapshot, error) {
		return Snapshot{}, fmt.Errorf("copying the stream %s: %w", s.name, err)
	}
	inbox := nats.NewInbox()
	sub, err := s.nc.SubscribeSync(inbox)
	if err != nil {
		return fail(err)
	}
	defer func() { _ = sub.Unsubscribe() }() // or it has ended with the connection
	var a snapshotAnswer
	err = s.ask(ctx, "$JS.API.STREAM.SNAPSHOT."+s.name, map[string]any{"deliver_subject": inbox, "no_consumers": true, "chunk_size": snapshotChunk}, &a)
	if err != nil {
		return fail(err)
	}
	if begun != nil {
		begun()
	}
	for {
		m, err := nextChunk(ctx, sub)
		if err != nil {
			return fail(err)
		}
		if len(m.Data) == 0 {
			if status := m.Header.Get("Status"); status != "" && status != "204" {
				return fail(fmt.Errorf("the server gave up: %s %s", status, m.Header.Get("Description")))
			}
			return Snapshot{Config: a.Config, First: a.State.First, Last: a.State.Last, Records: a.State.Records}, nil
		}
		if _, err := w.Write(m.Data); err != nil {
			return fail(err)
		}
		if m.Reply == "" { // the last part
			continue
		}
		if err := m.Respond(nil); err != nil {
			return fail(err)
		}
	}
}

func nextChunk(ctx context.Context, sub *nats.Subscription) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, snapshotWait, errors.New("the server does not go on"))
	defer cancel()
	m, err := sub.NextMsgWithContext(ctx)
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return m, err
}
