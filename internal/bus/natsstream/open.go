package natsstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"crier/internal/pause"
)

// Open creates the stream, or takes the one there is if its configuration is the
// same; only its limit and its window for duplicates may be others, and are set, if
// it holds no more than the limit or may drop what is beyond it.
func Open(ctx context.Context, nc *nats.Conn, cfg Config) (*Stream, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Stream{nc: nc, name: cfg.Stream, wait: cfg.Wait, log: cfg.Logger, floor: new(atomic.Uint64)}
	s.appendWait = s.wait
	if s.wait == 0 {
		s.wait, s.appendWait = defaultWait, defaultWait
		if cfg.Replicas > 1 {
			s.appendWait = replicatedWait
		}
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	s.log = s.log.With("stream", s.name)
	s.hints = "crier.stored." + s.name + "."
	s.direct = "$JS.API.DIRECT.GET." + s.name
	s.info = "$JS.API.STREAM.INFO." + s.name
	s.leader = "$JS.API.STREAM.MSG.GET." + s.name
	if cfg.Replicas > 1 {
		s.marks = markSubject(s.name)
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if err := s.create(ctx, cfg); err != nil {
		return nil, fmt.Errorf("opening the stream %s: %w", s.name, err)
	}
	return s, nil
}

func (s *Stream) create(ctx context.Context, cfg Config) error {
	js, err := jetstream.New(s.nc)
	if err != nil {
		return err
	}
	started, told := time.Now(), false
	for {
		err := s.createOnce(ctx, js, cfg)
		if err == nil && s.marks != "" {
			err = s.reached(ctx)
		}
		if !s.unready(err) {
			return err
		}
		if !told && time.Since(started) > tellAfter {
			told = true
			s.log.Warn("the servers are not ready for a stream; waiting for them", "error", err)
		}
		if !pause.For(ctx, retryAfter) {
			return errors.Join(err, ctx.Err())
		}
	}
}

// tellAfter is how long Open waits before it says so.
const tellAfter = 2 * time.Second

// Answers of servers that are not a cluster yet, and what a process hears that makes a
// stream together with others: the next look finds it.
const (
	codeNoLeader = 10008 // nobody leads
	codeNoPeers  = 10005 // not enough of them are there
	codeInUse    = 10058 // another made it meanwhile
)

// unready reports whether an error of opening may go away by itself.
func (s *Stream) unready(err error) bool {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		return api.ErrorCode == codeNoLeader || api.ErrorCode == codeInUse || s.marks != "" && api.ErrorCode == codeNoPeers
	}
	return errors.Is(err, nats.ErrNoResponders) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, errTry) ||
		errors.Is(err, nats.ErrConnectionReconnecting) || errors.Is(err, nats.ErrDisconnected)
}

// errTry is an answer that did not come in time, though there is time for another.
var errTry = errors.New("no answer; asking again")

func (s *Stream) createOnce(ctx context.Context, js jetstream.JetStream, cfg Config) error {
	want := cfg.jetstream()
	try, cancel := context.WithTimeout(ctx, s.wait)
	defer cancel()
	st, err := js.Stream(try, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		_, err = js.CreateStream(try, want)
		return again(ctx, try, err)
	}
	if err != nil {
		return again(ctx, try, err)
	}
	have := st.CachedInfo()
	if cfg.Keep {
		want.MaxBytes = have.Config.MaxBytes
	}
	if have.State.Bytes > uint64(want.MaxBytes) && want.Discard != jetstream.DiscardOld {
		return fmt.Errorf("it holds %d bytes; MaxBytes %d is less", have.State.Bytes, want.MaxBytes)
	}
	if err := same(have.Config, want); err != nil {
		return err
	}
	if want.Duplicates == 0 {
		want.Duplicates = have.Config.Duplicates
	}
	if have.Config.MaxBytes == want.MaxBytes && have.Config.Duplicates == want.Duplicates {
		return nil
	}
	limited := have.Config
	limited.MaxBytes, limited.Duplicates = want.MaxBytes, want.Duplicates
	_, err = js.UpdateStream(try, limited)
	return again(ctx, try, err)
}

// reached waits until what is sent to a stream of a cluster gets to its leader, by a
// mark that cannot be stored: servers hear of the stream's subjects one after the
// other, of the marks' last.
func (s *Stream) reached(ctx context.Context) error {
	m := nats.NewMsg(s.marks)
	m.Header.Set("Nats-Expected-Last-Subject-Sequence", strconv.FormatUint(math.MaxInt64, 10))
	try, cancel := context.WithTimeout(ctx, s.appendWait)
	defer cancel()
	_, err := s.store(try, m)
	if errors.Is(err, ErrConflict) {
		return nil
	}
	return again(ctx, try, err)
}

func again(ctx, try context.Context, err error) error {
	if err != nil && try.Err() != nil && ctx.Err() == nil {
		return fmt.Errorf("%w (%w)", errTry, err)
	}
	return err
}

// same compares what a difference in would change the promises.
func same(have, want jetstream.StreamConfig) error {
	for _, f := range []struct {
		name       string
		have, want any
	}{
		{"replicas", have.Replicas, want.Replicas},
		{"subjects", fmt.Sprint(have.Subjects), fmt.Sprint(want.Subjects)},
		{"retention", have.Retention, want.Retention},
		{"discard", have.Discard, want.Discard},
		{"discard per subject", have.DiscardNewPerSubject, want.DiscardNewPerSubject},
		{"storage", have.Storage, want.Storage},
		{"allow direct", have.AllowDirect, want.AllowDirect},
		{"max age", have.MaxAge, want.MaxAge},
		{"max messages", max(have.MaxMsgs, 0), max(want.MaxMsgs, 0)},
		{"max message size", max(have.MaxMsgSize, 0), max(want.MaxMsgSize, 0)},
		{"messages per subject", max(have.MaxMsgsPerSubject, 0), max(want.MaxMsgsPerSubject, 0)},
		{"message ttl", have.AllowMsgTTL, want.AllowMsgTTL},
		{"marker ttl", have.SubjectDeleteMarkerTTL, want.SubjectDeleteMarkerTTL},
		{"allow rollup", have.AllowRollup, want.AllowRollup},
		{"deny purge", have.DenyPurge, want.DenyPurge},
		{"no ack", have.NoAck, want.NoAck},
		{"sealed", have.Sealed, want.Sealed},
		{"persist mode", have.PersistMode, want.PersistMode},
		{"mirror", have.Mirror != nil, false},
		{"sources", len(have.Sources), 0},
		{"subject transform", have.SubjectTransform != nil, false},
	} {
		if f.have != f.want {
			return fmt.Errorf("there is one with other settings: %s is %v, not %v; give it another name or remove it", f.name, f.have, f.want)
		}
	}
	return nil
}
