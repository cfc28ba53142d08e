package members

import (
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"

	"crier/job"
)

// Config says what a Store works with.
type Config struct {
	// Sets keeps heads and increments.
	Sets Sets
	// Blobs keeps snapshots.
	Blobs Blobs
	// Scratch is a directory for files under way. It is the Store's own: New makes
	// it and empties it.
	Scratch string
	// MaxIncrements is the number of increments after a snapshot; the change that
	// would exceed it is stored as a snapshot. Default 64.
	MaxIncrements int
	// MaxIncrementBytes is the same for their encoded size in bytes. Default 1 MiB.
	MaxIncrementBytes uint64
	// MaxChangeBytes is the encoded size, in bytes, from which on one change is
	// stored as a snapshot. Default 256 KiB.
	MaxChangeBytes int
	// EdgesInMemory is the number of edges, of 8 bytes each, that an import sorts
	// at once; it spills to Scratch beyond. 256 times as many are the most that
	// one import takes. Default 4,194,304.
	EdgesInMemory int
	// OnChange, if set, is called after a suppression list was changed by this Store, so
	// that others on the same Sets can be told to Touch theirs.
	OnChange func()
	// Outlive lets readers of suppression lists go on with what they saw last while Sets
	// does not answer, so that sending does not stop for it. Nobody can be added meanwhile,
	// for that takes Sets, too. Default: an error.
	Outlive bool
}

// Validate names the field that is wrong and fills in the defaults.
func (c *Config) Validate() error {
	for field, missing := range map[string]bool{"sets": c.Sets == nil, "blobs": c.Blobs == nil, "scratch": c.Scratch == ""} {
		if missing {
			return job.Invalid(field, "the versioned sets need "+field, nil)
		}
	}
	if c.MaxIncrements == 0 {
		c.MaxIncrements = 64
	}
	if c.MaxIncrementBytes == 0 {
		c.MaxIncrementBytes = 1 << 20
	}
	if c.MaxChangeBytes == 0 {
		c.MaxChangeBytes = 256 << 10
	}
	if c.EdgesInMemory == 0 {
		c.EdgesInMemory = 4 << 20
	}
	if c.MaxIncrements < 0 || c.MaxChangeBytes < 0 || c.EdgesInMemory < 0 {
		return job.Invalid("members", "the bounds of versioned sets cannot be negative", nil)
	}
	return nil
}

// stripes is the number of locks that the keys share.
const stripes = 64

// Store keeps the versioned sets. All methods are safe for concurrent use.
type Store struct {
	cfg Config
	// locks serialise the changes of a key; each channel holds its one token.
	locks [stripes]chan struct{}
	// suppressed counts the changes of suppression lists; it starts at 1.
	suppressed atomic.Uint64
}

// New makes a store and removes what a crash left in the scratch directory.
func New(cfg Config) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Scratch, 0o700); err != nil {
		return nil, fmt.Errorf("making the scratch directory of the versioned sets: %w", err)
	}
	left, err := os.ReadDir(cfg.Scratch)
	if err != nil {
		return nil, fmt.Errorf("emptying the scratch directory of the versioned sets: %w", err)
	}
	for _, e := range left {
		if err := os.RemoveAll(filepath.Join(cfg.Scratch, e.Name())); err != nil {
			return nil, fmt.Errorf("emptying the scratch directory of the versioned sets: %w", err)
		}
	}
	s := &Store{cfg: cfg}
	for i := range s.locks {
		s.locks[i] = make(chan struct{}, 1)
		s.locks[i] <- struct{}{}
	}
	s.suppressed.Store(1)
	return s, nil
}
