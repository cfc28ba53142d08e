package report

import (
	"context"
	"fmt"
	"io"
	"sync"

	"crier/job"
	"crier/state/blob"
)

// Blobs is where reports are; *blob.Dir has it.
type Blobs interface {
	// Open gives a blob for reading, or an error of code not_found.
	Open(ctx context.Context, digest job.Digest) (*blob.Handle, error)
	// Verify reads a blob and compares it with its digest.
	Verify(ctx context.Context, digest job.Digest) error
}

// Store opens reports by their digests.
type Store struct {
	blobs Blobs
	mu    struct {
		sync.Mutex
		whole map[job.Digest]bool // compared with their digests in this process
	}
}

// NewStore makes a store of the reports among blobs.
func NewStore(b Blobs) *Store {
	s := &Store{blobs: b}
	s.mu.whole = map[job.Digest]bool{}
	return s
}

// Open gives a report; the first time, it is read and compared with its digest.
// The closer frees it.
func (s *Store) Open(ctx context.Context, digest job.Digest) (*Report, io.Closer, error) {
	s.mu.Lock()
	whole := s.mu.whole[digest]
	s.mu.Unlock()
	if !whole {
		if err := s.blobs.Verify(ctx, digest); err != nil {
			return nil, nil, fmt.Errorf("verifying report %s: %w", digest, err)
		}
		s.mu.Lock()
		s.mu.whole[digest] = true
		s.mu.Unlock()
	}
	h, err := s.blobs.Open(ctx, digest)
	if err != nil {
		return nil, nil, fmt.Errorf("opening report %s: %w", digest, err)
	}
	r, err := Open(h, h.Size())
	if err != nil {
		h.Close()
		return nil, nil, fmt.Errorf("opening report %s: %w", digest, err)
	}
	return r, h, nil
}
