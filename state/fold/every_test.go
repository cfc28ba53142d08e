package fold_test

import (
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"crier/job"
	"crier/state/fold"
	"crier/state/ledger"
	"crier/state/parked"
)

// grown is a ledger that is as large as it is told to be.
type grown struct {
	*ledger.Memory
	bytes atomic.Uint64
	limit uint64
}

// Usage is ledger.Log.Usage.
func (g *grown) Usage(ctx context.Context) (ledger.Usage, error) {
	u, err := g.Memory.Usage(ctx)
	u.Bytes, u.Limit = g.bytes.Load(), g.limit
	return u, err
}

// large is an index whose checkpoint takes so many bytes.
type large struct {
	index
	bytes int64
	made  atomic.Int64
}

// WriteCheckpoint implements fold.Index.
func (x *large) WriteCheckpoint(w io.Writer) (parked.Checkpoint, error) {
	x.made.Add(1)
	if _, err := io.CopyN(w, zeros{}, x.bytes); err != nil {
		return parked.Checkpoint{}, err
	}
	return x.index.WriteCheckpoint(w)
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// counted takes blobs and keeps none.
type counted struct{ puts atomic.Uint64 }

// Put implements fold.Blobs.
func (c *counted) Put(_ context.Context, r io.Reader) (job.Digest, int64, error) {
	n, err := io.Copy(io.Discard, r)
	var d job.Digest
	binary.BigEndian.PutUint64(d[:], c.puts.Add(1))
	return d, n, err
}

// Delete implements fold.Blobs.
func (*counted) Delete(context.Context, job.Digest) error { return nil }

// TestFoldsAsTheLedgerGrows: the larger the index, the more the ledger grows between two
// foldings, but never beyond an eighth of what it may be.
func TestFoldsAsTheLedgerGrows(t *testing.T) {
	const mib = 1 << 20
	for _, x := range []struct {
		name          string
		index         int64 // MiB
		limit         uint64
		first, second uint64 // MiB by which the ledger grows before each
	}{
		{"a small index", 1, 0, 256, 256},
		{"a large index", 300, 0, 256, 300},
		{"a large index and a bounded ledger", 300, 8 * 270, 256, 270},
		{"a small ledger", 1, 64, 8, 8},
	} {
		t.Run(x.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := &grown{Memory: ledger.NewMemory(ledger.MemoryConfig{}), limit: x.limit * mib}
				idx := &large{index: index{log.Memory}, bytes: x.index*mib - int64(len("a checkpoint"))}
				f := fold.New(fold.Config{Log: log, Index: idx, Blobs: &counted{}, Logger: slog.New(slog.DiscardHandler)})
				ctx, cancel := context.WithCancel(t.Context())
				defer func() { cancel(); synctest.Wait() }()
				go f.Run(ctx)
				size := uint64(0)
				for n, grows := range []uint64{x.first, x.second} {
					for _, step := range []struct{ bytes, folds uint64 }{{size + grows*mib - 1, uint64(n)}, {size + grows*mib, uint64(n) + 1}} {
						log.bytes.Store(step.bytes)
						time.Sleep(2 * time.Second)
						if got := uint64(idx.made.Load()); got != step.folds {
							t.Fatalf("at %d bytes it has folded %d times, want %d", step.bytes, got, step.folds)
						}
					}
					size = log.bytes.Load()
				}
			})
		})
	}
}
