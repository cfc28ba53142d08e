// Package coord is the seam to the coordination store: leases that lapse unless
// they are renewed, and small values that change only by compare and set.
//
// It mirrors what the ledger has decided and tells who is there; it is never the
// truth about a delivery. natskv is the adapter for NATS, zk the one for ZooKeeper;
// Memory is the twin for tests; coordtest holds all to the same behaviour, and looks
// for an order of concurrent calls that explains their answers. Nothing here needs
// more than one key at a time.
package coord

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Limits of keys and values.
const (
	MaxKey   = 255
	MaxValue = 64 << 10
)

// Errors of a Store; they may be wrapped. Any other error leaves it unknown
// whether a write took effect: Get the key and compare.
var (
	// ErrConflict: the key's version is not the expected one; nothing was changed.
	// It may have been changed by an earlier try of the same write.
	ErrConflict = errors.New("coordination: the key has another version")
	// ErrNotFound: there is no such key.
	ErrNotFound = errors.New("coordination: no such key")
	// ErrInvalid: the key, value or time to live cannot be used; nothing was changed.
	ErrInvalid = errors.New("coordination: cannot be stored")
)

// Version names one state of a key. It is compared for equality only: it is
// another after each write. 0 stands for "there is no such key".
type Version uint64

// Entry is a key with its value.
type Entry struct {
	Key     string
	Value   []byte // owned by whoever received it
	Version Version
}

// Change is what a watcher sees: an entry with a new version, or a key that is
// gone, deleted or lapsed (then only Key is set).
type Change struct {
	Entry
	Gone bool
}

// Store keeps entries. All methods are safe for concurrent use. A key is one or
// more segments with "/" between them; a segment has the characters a–z, A–Z,
// 0–9, "-", "_" and "=". A value has 1 to MaxValue bytes.
type Store interface {
	// Get gives an entry, or ErrNotFound. It sees every write that was answered
	// before it was called.
	Get(ctx context.Context, key string) (Entry, error)
	// Put stores a value if the key has the expected version (0: it must not be
	// there), else ErrConflict. It stays until it is deleted. It is not
	// idempotent: a repeat conflicts with itself.
	Put(ctx context.Context, key string, value []byte, expect Version) (Version, error)
	// Lease is Put of a value that goes away once ttl has passed without a
	// renewal; a renewal is a Lease that expects the version of the one before.
	// ttl is rounded up to seconds and is at least 1 s. The key lapses no sooner
	// than that after the last renewal by the store's clock, and at most 3 s later
	// while the store is up; from then on it is not there for anybody, and a
	// renewal is an ErrConflict. No other key lies under a lease's, and the key is
	// not used with Put.
	Lease(ctx context.Context, key string, value []byte, expect Version, ttl time.Duration) (Version, error)
	// Delete removes a key if it has the expected version, else, also if it is
	// gone, ErrConflict.
	Delete(ctx context.Context, key string, expect Version) error
	// List gives the entries under a prefix, which is a key without its last
	// segments ("": all), ordered by key. It sees every write that was answered
	// before it was called; writes meanwhile may show or not.
	List(ctx context.Context, prefix string) ([]Entry, error)
	// Watch calls fn for each entry under a prefix and then for each change, until
	// ctx ends or fn returns an error, which it returns. Each key's changes come in
	// order; states that were passed quickly may be left out, the last one not.
	// sawAll, if not nil, is called when all that was stored when the watcher
	// looked has been seen, at least once and then at least every second while the
	// store answers: whoever must know that the store answers counts on it. Cuts
	// are bridged: what went away meanwhile is told.
	Watch(ctx context.Context, prefix string, fn func(Change) error, sawAll func()) error
}

// CheckKey reports what is wrong with a key.
func CheckKey(key string) error {
	if len(key) > MaxKey {
		return fmt.Errorf("%w: the key has %d bytes, more than %d", ErrInvalid, len(key), MaxKey)
	}
	for segment := range strings.SplitSeq(key, "/") {
		if segment == "" || strings.ContainsFunc(segment, func(r rune) bool { return !keyRune(r) }) {
			return fmt.Errorf("%w: key %q: want segments of letters, digits, -, _ and = with / between them", ErrInvalid, key)
		}
	}
	return nil
}

// CheckPrefix reports what is wrong with a prefix.
func CheckPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	return CheckKey(prefix)
}

// CheckValue reports what is wrong with a value.
func CheckValue(value []byte) error {
	if len(value) == 0 || len(value) > MaxValue {
		return fmt.Errorf("%w: the value has %d bytes, want 1 to %d", ErrInvalid, len(value), MaxValue)
	}
	return nil
}

// RoundTTL gives a lease's time to live in whole seconds, or what is wrong with it.
func RoundTTL(ttl time.Duration) (time.Duration, error) {
	if ttl < time.Second || ttl > 24*time.Hour {
		return 0, fmt.Errorf("%w: the time to live %s is not within 1s and 24h", ErrInvalid, ttl)
	}
	return (ttl + time.Second - 1).Truncate(time.Second), nil
}

// Under reports whether a key lies under a prefix.
func Under(key, prefix string) bool {
	return prefix == "" || len(key) > len(prefix) && key[len(prefix)] == '/' && strings.HasPrefix(key, prefix)
}

func keyRune(r rune) bool {
	return r == '-' || r == '_' || r == '=' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
}
