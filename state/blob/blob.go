// Package blob keeps immutable bytes under the SHA-256 of those bytes: recipient
// packages, snapshots of followers, bodies, reports and checkpoints.
//
// It guarantees that a blob is there whole or not at all, whatever is killed and
// whenever; that once Put has returned, the blob survives a power cut; and that
// bytes which changed afterwards are found by Verify. Putting a blob again is
// harmless and heals a damaged one.
//
// Dir keeps blobs in a directory, Memory is its twin for tests; the suite in
// blobtest holds both to the same behaviour. Blobs are never changed and nothing
// here deletes one by itself.
package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"time"

	"crier/job"
)

// ErrDamaged is wrapped by what Verify returns for a blob whose bytes are no
// longer those of its address.
var ErrDamaged = errors.New("the blob's bytes have changed")

// Info describes a stored blob.
type Info struct {
	Digest  job.Digest
	Size    int64 // bytes
	ModTime time.Time
}

// Handle reads one blob. ReadAt is safe for concurrent use; a handle stays
// readable when its blob is deleted. Close it after use.
type Handle struct {
	r    io.ReaderAt
	size int64
	path string
	once sync.Once
	stop func() error
}

// ReadAt reads from an offset, as io.ReaderAt.
func (h *Handle) ReadAt(p []byte, off int64) (int, error) { return h.r.ReadAt(p, off) }

// Size is the number of bytes.
func (h *Handle) Size() int64 { return h.size }

// Path is the file that holds the blob, for mapping it into memory, or "" if it
// is not in a file. The file must not be written to.
func (h *Handle) Path() string { return h.path }

// Close ends the reading. Closing again does nothing.
func (h *Handle) Close() error {
	var err error
	h.once.Do(func() {
		if h.stop != nil {
			err = h.stop()
		}
	})
	return err
}

// notFound is the answer for an address that holds no blob.
func notFound(d job.Digest) error {
	return job.NotFound(fmt.Sprintf("blob %s is not in the store", d))
}

// storing makes the error of a blob that could not be stored. A full disk gets
// its code; the cause is kept in any case.
func storing(what string, err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return &job.Error{Code: job.CodeFull, Err: err,
			Message: "storing a blob: the disk is full; free some space and try again"}
	}
	return fmt.Errorf("storing a blob: %s: %w", what, err)
}

// sourceReader reads the bytes of a new blob until the context ends. It marks
// the source's errors, so that they are not taken for the store's.
type sourceReader struct {
	ctx context.Context
	r   io.Reader
	err error
}

// Read implements io.Reader.
func (s *sourceReader) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		s.err = err
		return 0, err
	}
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}
