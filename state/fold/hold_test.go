package fold_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"testing"
	"testing/synctest"

	"crier/state/blob"
	"crier/state/fold"
	"crier/state/ledger"
	"crier/state/parked"
)

// index is a parked index that has applied everything.
type index struct{ log *ledger.Memory }

// WriteCheckpoint implements fold.Index.
func (x index) WriteCheckpoint(w io.Writer) (parked.Checkpoint, error) {
	u, err := x.log.Usage(context.Background())
	if err == nil {
		_, err = io.WriteString(w, "a checkpoint")
	}
	return parked.Checkpoint{Watermark: u.Last + 1, Needs: u.Last + 1}, err
}

// Size implements fold.Index.
func (x index) Size() (uint64, error) { return 0, nil }

// TestHold: nothing is folded while somebody holds the folder, and it goes on afterwards.
func TestHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := ledger.NewMemory(ledger.MemoryConfig{})
		f := fold.New(fold.Config{Log: log, Index: index{log}, Blobs: blob.NewMemory(0), Logger: slog.New(slog.DiscardHandler)})
		folds := func() int { return len(folds(t, log)) }
		release := f.Hold()
		ended := make(chan error, 1)
		go func() { ended <- f.Fold(t.Context()) }()
		synctest.Wait()
		if folds() != 0 || len(ended) != 0 {
			t.Fatalf("it folds although it is held: %d folds", folds())
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := f.Fold(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("a folding that is given up while it waits: %v", err)
		}
		release()
		if err := <-ended; err != nil || folds() != 1 {
			t.Errorf("released, it folds %d times, %v", folds(), err)
		}
		f.Hold()()
		if err := f.Fold(t.Context()); err != nil || folds() != 2 {
			t.Errorf("released again, it folds %d times, %v", folds(), err)
		}
	})
}
