package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"iter"
	"slices"
	"sync"
	"syscall"
	"time"

	"crier/job"
)

// Memory keeps blobs in memory: Dir's twin for tests. All methods are safe for
// concurrent use.
type Memory struct {
	limit int64
	mu    struct {
		sync.Mutex
		blobs map[job.Digest]memoryBlob
		bytes int64
	}
}

type memoryBlob struct {
	data []byte
	at   time.Time
}

// NewMemory makes an empty store that is full at limit bytes; 0 means never.
func NewMemory(limit int64) *Memory {
	m := &Memory{limit: limit}
	m.mu.blobs = map[job.Digest]memoryBlob{}
	return m
}

// Put is as Dir's.
func (m *Memory) Put(ctx context.Context, r io.Reader) (job.Digest, int64, error) {
	src := &sourceReader{ctx: ctx, r: r}
	data, err := io.ReadAll(src)
	if err != nil {
		return job.Digest{}, 0, fmt.Errorf("reading the bytes of a new blob: %w", err)
	}
	digest, size := job.Digest(sha256.Sum256(data)), int64(len(data))
	m.mu.Lock()
	defer m.mu.Unlock()
	old, had := m.mu.blobs[digest]
	room := m.mu.bytes - int64(len(old.data)) + size
	if m.limit > 0 && !had && room > m.limit {
		return job.Digest{}, 0, storing("keeping it in memory", syscall.ENOSPC)
	}
	m.mu.blobs[digest] = memoryBlob{data, time.Now()}
	m.mu.bytes = room
	return digest, size, nil
}

// get finds a blob.
func (m *Memory) get(digest job.Digest) (memoryBlob, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.mu.blobs[digest]
	if !ok {
		return b, notFound(digest)
	}
	return b, nil
}

// Open is as Dir's; the handle has no path.
func (m *Memory) Open(_ context.Context, digest job.Digest) (*Handle, error) {
	b, err := m.get(digest)
	if err != nil {
		return nil, err
	}
	return &Handle{r: bytes.NewReader(b.data), size: int64(len(b.data))}, nil
}

// Stat is as Dir's.
func (m *Memory) Stat(_ context.Context, digest job.Digest) (Info, error) {
	b, err := m.get(digest)
	if err != nil {
		return Info{}, err
	}
	return Info{Digest: digest, Size: int64(len(b.data)), ModTime: b.at}, nil
}

// Verify is as Dir's.
func (m *Memory) Verify(ctx context.Context, digest job.Digest) error {
	h, err := m.Open(ctx, digest)
	if err != nil {
		return err
	}
	return h.verify(ctx, digest)
}

// Delete is as Dir's.
func (m *Memory) Delete(_ context.Context, digest job.Digest) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.bytes -= int64(len(m.mu.blobs[digest].data))
	delete(m.mu.blobs, digest)
	return nil
}

// List is as Dir's.
func (m *Memory) List(ctx context.Context) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		m.mu.Lock()
		all := make([]Info, 0, len(m.mu.blobs))
		for d, b := range m.mu.blobs {
			all = append(all, Info{Digest: d, Size: int64(len(b.data)), ModTime: b.at})
		}
		m.mu.Unlock()
		slices.SortFunc(all, func(a, b Info) int { return bytes.Compare(a.Digest[:], b.Digest[:]) })
		for _, info := range all {
			if err := ctx.Err(); err != nil {
				yield(Info{}, fmt.Errorf("listing blobs: %w", err))
				return
			}
			if !yield(info, nil) {
				return
			}
		}
	}
}

// Damage flips one bit of a blob, for tests of what finds that.
func (m *Memory) Damage(digest job.Digest) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.mu.blobs[digest]
	b.data = bytes.Clone(b.data)
	b.data[len(b.data)/2] ^= 4
	m.mu.blobs[digest] = b
}
