// Package natskv is the coordination store on NATS: a key-value bucket, which is
// a stream that keeps the last record of each key.
//
// A version is the sequence of the key's record. A lease is a record with a time
// to live; renewing it is a new record with a new time, because an update through
// the server's own key-value client would drop the time. Where a key lapses or is
// deleted an empty record stays for a while, so that watchers learn of it; one
// that was cut off for longer compares what it knows with what there is.
// Records of a bucket on one server are acknowledged before the disk has them: the
// store mirrors the ledger.
package natskv

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"crier/internal/bus/natsstream"
	"crier/state/coord"

	"github.com/nats-io/nats.go"
)

const (
	defaultMaxBytes = 256 << 20
	defaultMarkers  = 10 * time.Minute
	// createTries bounds how often a create runs into a marker that lapses or a
	// key that comes and goes.
	createTries = 5
	// listTimeout bounds a List whose context does not end.
	listTimeout = 30 * time.Second
)

// Config describes a bucket.
type Config struct {
	// Bucket names it: letters, digits, "-", "_". Required.
	Bucket string
	// MaxBytes bounds it; beyond it writes fail. Default 256 MiB.
	MaxBytes int64
	// Replicas is how many servers keep it, 1 or 3. Default 1.
	Replicas int
	// Markers is how long an empty record stays where a key was. A watcher that
	// was cut off for half of it compares all keys. Default 10 min, at least 2 s.
	Markers time.Duration
	// Wait bounds the wait for an answer of the server when the caller's context
	// does not end sooner. Default 5 s.
	Wait time.Duration
	// Logger takes warnings of watchers. Default slog.Default().
	Logger *slog.Logger
}

// Store is a bucket; see coord.Store for what its methods promise.
type Store struct {
	s       *natsstream.Stream
	root    string // subject of all keys, up to the key
	markers time.Duration
}

var _ coord.Store = (*Store)(nil)

// Open creates the bucket, or takes the one there is after a look at its
// settings. The connection stays its caller's to close.
func Open(ctx context.Context, nc *nats.Conn, cfg Config) (*Store, error) {
	if cfg.Bucket == "" {
		return nil, errors.New("bucket configuration: Bucket is empty")
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = defaultMaxBytes
	}
	if cfg.Markers == 0 {
		cfg.Markers = defaultMarkers
	}
	if cfg.Markers < 2*time.Second {
		return nil, fmt.Errorf("bucket configuration: Markers %s is below 2s", cfg.Markers)
	}
	root := "$KV." + cfg.Bucket + "."
	s, err := natsstream.Open(ctx, nc, natsstream.Config{
		Stream:    "KV_" + cfg.Bucket,
		Subjects:  []string{root + ">"},
		MaxBytes:  cfg.MaxBytes,
		LastOnly:  true,
		Replicas:  cfg.Replicas,
		MarkerTTL: cfg.Markers,
		Unsynced:  true,
		Wait:      cfg.Wait,
		Logger:    cfg.Logger,
	})
	if err != nil {
		return nil, err
	}
	return &Store{s: s, root: root, markers: cfg.Markers}, nil
}

func (s *Store) subject(key string) string { return s.root + strings.ReplaceAll(key, "/", ".") }

func (s *Store) key(subject string) string {
	return strings.ReplaceAll(strings.TrimPrefix(subject, s.root), ".", "/")
}

func (s *Store) pattern(prefix string) string {
	if prefix == "" {
		return s.root + ">"
	}
	return s.subject(prefix) + ".>"
}

// gone reports whether a record only marks where a key was.
func gone(r natsstream.Record) bool { return len(r.Data) == 0 }

func (s *Store) entry(r natsstream.Record) coord.Entry {
	return coord.Entry{Key: s.key(r.Subject), Value: r.Data, Version: coord.Version(r.Seq)}
}

// Get implements coord.Store.
func (s *Store) Get(ctx context.Context, key string) (coord.Entry, error) {
	if err := coord.CheckKey(key); err != nil {
		return coord.Entry{}, err
	}
	r, err := s.s.Last(ctx, s.subject(key))
	if errors.Is(err, natsstream.ErrNoRecord) || err == nil && gone(r) {
		return coord.Entry{}, fmt.Errorf("reading %q: %w", key, coord.ErrNotFound)
	}
	if err != nil {
		return coord.Entry{}, fmt.Errorf("coordination: reading %q: %w", key, err)
	}
	return s.entry(r), nil
}

// Put implements coord.Store.
func (s *Store) Put(ctx context.Context, key string, value []byte, expect coord.Version) (coord.Version, error) {
	return s.put(ctx, key, value, expect, 0)
}

// Lease implements coord.Store.
func (s *Store) Lease(ctx context.Context, key string, value []byte, expect coord.Version, ttl time.Duration) (coord.Version, error) {
	ttl, err := coord.RoundTTL(ttl)
	if err != nil {
		return 0, err
	}
	return s.put(ctx, key, value, expect, ttl)
}

func (s *Store) put(ctx context.Context, key string, value []byte, expect coord.Version, ttl time.Duration) (coord.Version, error) {
	if err := errors.Join(coord.CheckKey(key), coord.CheckValue(value)); err != nil {
		return 0, err
	}
	p := natsstream.Put{Subject: s.subject(key), Last: uint64(expect), Data: value, TTL: ttl}
	seq, err := s.s.Append(ctx, p)
	if expect == 0 {
		for try := 1; errors.Is(err, natsstream.ErrConflict) && try < createTries; try++ {
			seq, err = s.createOverMarker(ctx, p, err)
		}
	}
	if err != nil {
		return 0, named("storing", key, err)
	}
	return coord.Version(seq), nil
}

// createOverMarker tries again to create a key that conflicted, this time after
// the marker that is there; a conflict with a value stays one.
func (s *Store) createOverMarker(ctx context.Context, p natsstream.Put, conflict error) (uint64, error) {
	r, err := s.s.Last(ctx, p.Subject)
	switch {
	case errors.Is(err, natsstream.ErrNoRecord):
		p.Last = 0
	case err != nil:
		return 0, err
	case gone(r):
		p.Last = r.Seq
	default:
		return 0, &conflictWithValue{conflict}
	}
	return s.s.Append(ctx, p)
}

// conflictWithValue is a conflict that no other try will change.
type conflictWithValue struct{ error }

// Is tells it from a conflict worth another try.
func (c *conflictWithValue) Is(target error) bool { return target == coord.ErrConflict }

// Delete implements coord.Store.
func (s *Store) Delete(ctx context.Context, key string, expect coord.Version) error {
	if err := coord.CheckKey(key); err != nil {
		return err
	}
	if expect == 0 {
		return fmt.Errorf("deleting %q: %w (0 is the version of no key)", key, coord.ErrConflict)
	}
	_, err := s.s.Append(ctx, natsstream.Put{Subject: s.subject(key), Last: uint64(expect), TTL: s.markers, Erase: true})
	if err != nil {
		return named("deleting", key, err)
	}
	return nil
}

func named(doing, key string, err error) error {
	if errors.Is(err, natsstream.ErrConflict) || errors.Is(err, coord.ErrConflict) {
		return fmt.Errorf("%s %q: %w (%v)", doing, key, coord.ErrConflict, err)
	}
	return fmt.Errorf("coordination: %s %q: %w", doing, key, err)
}

// List implements coord.Store.
func (s *Store) List(ctx context.Context, prefix string) ([]coord.Entry, error) {
	if err := coord.CheckPrefix(prefix); err != nil {
		return nil, err
	}
	entries := make(map[string]coord.Entry)
	done := errors.New("all is listed")
	ctx, giveUp := context.WithTimeout(ctx, listTimeout)
	defer giveUp()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	err := s.s.Follow(ctx, 1, s.pattern(prefix), func(r natsstream.Record) error {
		if gone(r) {
			delete(entries, s.key(r.Subject))
		} else {
			e := s.entry(r)
			entries[e.Key] = e
		}
		return nil
	}, func() { cancel(done) })
	if !errors.Is(context.Cause(ctx), done) {
		return nil, fmt.Errorf("coordination: listing %q: %w", prefix, err)
	}
	list := make([]coord.Entry, 0, len(entries))
	for _, e := range entries {
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b coord.Entry) int { return cmp.Compare(a.Key, b.Key) })
	return list, nil
}
