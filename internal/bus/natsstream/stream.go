// Package natsstream reads and writes one JetStream stream, for the adapters of
// the ledger and of the coordination store.
//
// An append is conditional on the last sequence of its subject. A follower reads
// by direct gets from a sequence that it keeps itself, so that a cut, a restart
// of the server or a lost message costs a repeated request and never a record,
// a repeat or a change of order; what the leader says decides what "all" is.
// Hints that something was stored make it prompt; a lost hint costs one poll.
//
// With three replicas no server's word is enough: one that was paused, or is cut off,
// takes itself for the leader until it hears of another, and says less than was
// acknowledged. There, whoever asks for the last record, or for all there is, first
// stores a record of no meaning (a mark), which takes most of the servers, and then
// believes only an answer that has the mark. The mark before it is removed.
package natsstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"crier/internal/bus"
)

// Errors. Any error of Append other than ErrConflict, ErrFull and ErrTooLarge
// leaves it unknown whether the record was stored.
var (
	ErrConflict = errors.New("the subject has another last record")
	ErrFull     = errors.New("the stream is full")
	ErrNoRecord = errors.New("no such record")
	ErrTooLarge = errors.New("the record is too large")
	// ErrShrunk: the stream ends before what a follower has read, so records
	// that were acknowledged are gone (a lost disk, an old copy put back).
	ErrShrunk = errors.New("the stream ends before what was already read")
)

// MaxRecord is the most bytes of one record.
const MaxRecord = 4 << 20

const (
	defaultWait = 5 * time.Second
	// replicatedWait is shorter because another server may lead by then.
	replicatedWait = 2 * time.Second
	// openTimeout is longer because a server may be busy recovering.
	openTimeout = 30 * time.Second
)

// Config describes a stream.
type Config struct {
	// Stream names it: A–Z, 0–9, "-", "_". Required.
	Stream string
	// Subjects are the patterns it stores. Required.
	Subjects []string
	// MaxBytes bounds what it stores; beyond it appends fail with ErrFull. Required.
	MaxBytes int64
	// Keep takes MaxBytes for a stream that is made; one that is there keeps its own.
	Keep bool
	// DiscardOld drops the oldest records beyond MaxBytes instead. Default off.
	DiscardOld bool
	// Duplicates is how long Publish knows the ids of what was stored. At least 1 s.
	// Default 0: the server's own, two minutes.
	Duplicates time.Duration
	// LastOnly keeps only the last record of each subject. Default: all.
	LastOnly bool
	// Replicas is how many servers keep it, 1 or 3. Default 1.
	Replicas int
	// MarkerTTL, if not 0, allows records with a time to live; where the last
	// record of a subject lapses, an empty record appears and stays that long.
	// At least 1 s. Default 0.
	MarkerTTL time.Duration
	// Unsynced acknowledges records before the disk has them: the last ones are
	// lost in a crash of the machine. Default off. With three replicas the servers
	// sync all the same.
	Unsynced bool
	// Wait bounds the wait for each answer of the server when the caller's
	// context does not end sooner. Default 5 s, with three replicas 2 s for appends.
	Wait time.Duration
	// Logger takes warnings. Default slog.Default().
	Logger *slog.Logger
}

// Validate names the first field that cannot be used.
func (c Config) Validate() error {
	switch {
	case c.Stream == "":
		return errors.New("stream configuration: Stream is empty")
	case len(c.Subjects) == 0:
		return errors.New("stream configuration: Subjects is empty")
	case c.MaxBytes <= 0:
		return fmt.Errorf("stream configuration: MaxBytes %d is not positive; every stream needs a bound", c.MaxBytes)
	case c.MarkerTTL != 0 && c.MarkerTTL < time.Second:
		return fmt.Errorf("stream configuration: MarkerTTL %s is below 1s", c.MarkerTTL)
	case c.Replicas != 0 && c.Replicas != 1 && c.Replicas != 3:
		return fmt.Errorf("stream configuration: Replicas %d is neither 1 nor 3", c.Replicas)
	case c.Duplicates != 0 && c.Duplicates < time.Second:
		return fmt.Errorf("stream configuration: Duplicates %s is below 1s", c.Duplicates)
	case c.Wait < 0:
		return fmt.Errorf("stream configuration: Wait %s is negative", c.Wait)
	}
	return nil
}

func (c Config) jetstream() jetstream.StreamConfig {
	js := jetstream.StreamConfig{
		Name:      c.Stream,
		Subjects:  c.Subjects,
		Retention: jetstream.LimitsPolicy,
		MaxBytes:  c.MaxBytes,
		Discard:   jetstream.DiscardNew,
		Storage:   jetstream.FileStorage,
		Replicas:  max(c.Replicas, 1),
		// Any server of a cluster may answer a direct get.
		AllowDirect: true,
		Duplicates:  c.Duplicates,
	}
	if c.DiscardOld {
		js.Discard = jetstream.DiscardOld
	}
	if c.LastOnly {
		js.MaxMsgsPerSubject = 1
	}
	if c.MarkerTTL > 0 {
		js.AllowMsgTTL, js.SubjectDeleteMarkerTTL = true, c.MarkerTTL
		js.AllowRollup = true // the markers need it
	}
	if js.Replicas > 1 {
		js.Subjects = append(slices.Clone(c.Subjects), markSubject(c.Stream))
		js.AllowRollup = true // a mark removes the one before it
	} else if c.Unsynced {
		js.PersistMode = jetstream.AsyncPersistMode
	}
	return js
}

// Record is one stored record.
type Record struct {
	Seq     uint64
	Subject string
	Time    time.Time
	Data    []byte
}

// Stream is one stream. Its methods are safe for concurrent use.
type Stream struct {
	nc   *nats.Conn
	name string
	wait time.Duration
	// appendWait bounds the wait for the answer to an append.
	appendWait time.Duration
	log        *slog.Logger
	hints      string         // where it is told that something was stored, up to the subject
	direct     string         // where direct gets are asked
	info       string         // where the extent and the subjects are asked
	leader     string         // where single records are asked of the leader
	marks      string         // where marks are stored; empty: there is one server only
	floor      *atomic.Uint64 // the highest sequence known of here
}

// apiError is an error in an answer of the server.
type apiError struct {
	Code        int    `json:"code"`
	ErrCode     int    `json:"err_code"`
	Description string `json:"description"`
}

// Error writes the description with its code.
func (e *apiError) Error() string { return fmt.Sprintf("%s (%d)", e.Description, e.ErrCode) }

// outcome is the part of every answer that says whether it is an error.
type outcome struct {
	Failure *apiError `json:"error"`
}

func (o *outcome) failure() *apiError { return o.Failure }

// cut gives bus.ErrCut for what a connection answers that keeps nothing while it is cut.
func cut(err error) error {
	if errors.Is(err, nats.ErrReconnectBufExceeded) {
		return bus.ErrCut
	}
	return err
}

// ask sends a request to the server's API and decodes the answer.
func (s *Stream) ask(ctx context.Context, subject string, request any, answer interface{ failure() *apiError }) error {
	data, err := json.Marshal(request)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.wait)
	defer cancel()
	m, err := s.nc.RequestWithContext(ctx, subject, data)
	if err != nil {
		return cut(err)
	}
	if err := json.Unmarshal(m.Data, answer); err != nil {
		return fmt.Errorf("an answer that is not understood: %w", err)
	}
	if e := answer.failure(); e != nil {
		return e
	}
	return nil
}

// Info tells the extent of a stream, and who keeps it.
type Info struct {
	First, Last uint64 // sequences; Last is 0 if nothing was ever stored
	Bytes       uint64
	Limit       uint64
	Replicas    int      // servers that are to keep each record
	Missing     []string // why those that do not keep them now do not, each with its name
}

type infoAnswer struct {
	outcome
	Time   time.Time `json:"ts"`
	Total  int       `json:"total"`
	Config struct {
		MaxBytes int64 `json:"max_bytes"`
		Replicas int   `json:"num_replicas"`
	} `json:"config"`
	Group groupAnswer `json:"cluster"`
	State struct {
		Bytes    uint64            `json:"bytes"`
		First    uint64            `json:"first_seq"`
		Last     uint64            `json:"last_seq"`
		Subjects map[string]uint64 `json:"subjects"`
	} `json:"state"`
}

// Info asks the leader for the extent of the stream, and who keeps it.
func (s *Stream) Info(ctx context.Context) (Info, error) {
	var a infoAnswer
	if err := s.ask(ctx, s.info, struct{}{}, &a); err != nil {
		return Info{}, fmt.Errorf("asking the extent of %s: %w", s.name, err)
	}
	return Info{First: a.State.First, Last: a.State.Last, Bytes: a.State.Bytes, Limit: uint64(max(a.Config.MaxBytes, 0)),
		Replicas: a.Config.Replicas, Missing: a.Group.missing(a.Config.Replicas)}, nil
}

// Time asks the leader for its time.
func (s *Stream) Time(ctx context.Context) (time.Time, error) {
	var a infoAnswer
	if err := s.ask(ctx, s.info, struct{}{}, &a); err != nil {
		return time.Time{}, fmt.Errorf("asking the leader of %s for the time: %w", s.name, err)
	}
	return a.Time, nil
}

// Subjects gives the subjects that match a pattern with the number of their
// records. The server answers 100,000 at a time; a subject that appears while it
// is asked may be missing; one that was acknowledged before is not.
func (s *Stream) Subjects(ctx context.Context, pattern string) (map[string]uint64, error) {
	type request struct {
		Filter string `json:"subjects_filter"`
		Offset int    `json:"offset"`
	}
	all := make(map[string]uint64)
	for offset := 0; ; {
		var a infoAnswer
		err := s.untilMarked(ctx, func(ctx context.Context, mark uint64) (bool, error) {
			a = infoAnswer{}
			err := s.ask(ctx, s.info, request{pattern, offset}, &a)
			return a.State.Last >= mark, err
		})
		if err != nil {
			return nil, fmt.Errorf("listing the subjects %s of %s: %w", pattern, s.name, err)
		}
		for subject, n := range a.State.Subjects {
			all[subject] = n
		}
		offset += len(a.State.Subjects)
		if len(a.State.Subjects) == 0 || offset >= a.Total {
			return all, nil
		}
	}
}
