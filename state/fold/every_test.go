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

// large is an index that takes so many bytes.
type large struct {
	index
	bytes uint64
	made  atomic.Int64
}

// Size implements fold.Index.
func (x *large) Size() (uint64, error) { return x.bytes, nil }

// WriteCheckpoint implements fold.Index.
func (x *large) WriteCheckpoint(w io.Writer) (parked.Checkpoint, error) {
	x.made.Add(1)
	return x.index.WriteCheckpoint(w)
}

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
		index         uint64 // MiB
		limit         uint64
		first, second uint64 // MiB by which the ledger grows before each
	}{
		{"a small index", 1, 0, 256, 256},
		{"a large index", 300, 0, 300, 300},
		{"a large index and a bounded ledger", 300, 8 * 270, 270, 270},
		{"a small ledger", 1, 64, 8, 8},
	} {
		t.Run(x.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := &grown{Memory: ledger.NewMemory(ledger.MemoryConfig{}), limit: x.limit * mib}
				idx := &large{index: index{log.Memory}, bytes: x.index * mib}
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

// holding is an index with an open reserve in a record.
type holding struct {
	large
	reserve atomic.Uint64
}

// WriteCheckpoint implements fold.Index.
func (x *holding) WriteCheckpoint(w io.Writer) (parked.Checkpoint, error) {
	at, err := x.large.WriteCheckpoint(w)
	if n := x.reserve.Load(); n > 0 {
		at.Needs = min(at.Needs, n)
	}
	return at, err
}

// TestFoldsWhatWasHeld: what an open reserve keeps in the ledger is folded once that is
// closed, also if the ledger is full and cannot grow until then; and if nothing comes, what
// stays full is not folded again and again.
func TestFoldsWhatWasHeld(t *testing.T) {
	for name, every := range map[string]uint64{"by default": 0, "often": 1, "seldom": 60 << 20} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := &grown{Memory: ledger.NewMemory(ledger.MemoryConfig{}), limit: 64 << 20}
				x := &holding{large: large{index: index{log.Memory}, bytes: 1 << 20}}
				if _, err := log.Append(t.Context(), "led.x", 0, nil); err != nil {
					t.Fatal(err)
				}
				f := fold.New(fold.Config{Log: log, Index: x, Blobs: &counted{}, Every: every, Logger: slog.New(slog.DiscardHandler)})
				ctx, cancel := context.WithCancel(t.Context())
				defer func() { cancel(); synctest.Wait() }()
				x.reserve.Store(1)
				log.bytes.Store(56 << 20)
				go f.Run(ctx)
				time.Sleep(2 * time.Second)
				if n := x.made.Load(); n != 1 {
					t.Fatalf("folded %d times at once", n)
				}
				x.reserve.Store(0)
				time.Sleep(20 * time.Second)
				if n := x.made.Load(); n != 2 {
					t.Fatalf("folded %d times after the reserve was closed, want twice in all", n)
				}
				time.Sleep(10 * time.Minute)
				if n := x.made.Load(); n != 2 {
					t.Errorf("folded %d times although nothing came", n)
				}
			})
		})
	}
}

// steps is an index of which each piece takes a while to read.
type steps struct {
	index
	pieces int
	each   time.Duration
	before func(piece int)
}

// WriteCheckpoint implements fold.Index.
func (x steps) WriteCheckpoint(w io.Writer) (parked.Checkpoint, error) {
	for n := range x.pieces {
		x.before(n)
		time.Sleep(x.each)
		if _, err := w.Write([]byte("a piece")); err != nil {
			return parked.Checkpoint{}, err
		}
	}
	return x.index.WriteCheckpoint(w)
}

// TestFoldsSlowly: a folding works a quarter of the time, until the ledger is half full, or if
// somebody waits for it.
func TestFoldsSlowly(t *testing.T) {
	const mib, work = 1 << 20, 1000 * 10 * time.Millisecond
	for _, x := range []struct {
		name   string
		limit  uint64 // MiB
		bytes  uint64 // at first
		middle uint64 // and when half of it is done
		run    bool
		takes  time.Duration
	}{
		{"no limit", 0, 300, 300, true, 4 * work},
		{"a third full", 900, 300, 300, true, 4 * work},
		{"half full", 600, 300, 300, true, work},
		{"half full in the middle", 900, 300, 450, true, 5 * work / 2},
		{"asked for", 900, 300, 300, false, work},
	} {
		t.Run(x.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := &grown{Memory: ledger.NewMemory(ledger.MemoryConfig{}), limit: x.limit * mib}
				log.bytes.Store(x.bytes * mib)
				idx := steps{index{log.Memory}, 1000, 10 * time.Millisecond, func(piece int) {
					if piece == 500 {
						log.bytes.Store(x.middle * mib)
					}
				}}
				f := fold.New(fold.Config{Log: log, Index: idx, Blobs: &counted{}, Logger: slog.New(slog.DiscardHandler)})
				ctx, cancel := context.WithCancel(t.Context())
				defer func() { cancel(); synctest.Wait() }()
				began := time.Now()
				if x.run {
					go f.Run(ctx)
				} else if err := f.Fold(ctx); err != nil {
					t.Fatal(err)
				}
				for len(folds(t, log.Memory)) == 0 && time.Since(began) < time.Minute {
					time.Sleep(10 * time.Millisecond)
				}
				if took := time.Since(began); took < x.takes || took > x.takes+2*time.Second {
					t.Errorf("a folding of %s of work took %s, want %s and two seconds more at most", work, took, x.takes)
				}
			})
		})
	}
}

func folds(t *testing.T, log ledger.Log) []ledger.Fold {
	t.Helper()
	fs, err := ledger.ReadFolds(t.Context(), log)
	if err != nil {
		t.Fatal(err)
	}
	return fs.List
}
