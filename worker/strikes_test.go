package worker

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"crier/state/fold"
	"crier/state/ledger"
	"crier/state/parked"
	"crier/state/parked/kv"
)

// lost reports whether the worker has ended because its journal has.
func (s *storm) lost() bool {
	select {
	case <-s.worker.stopped:
		return true
	default:
		return false
	}
}

// killWorker kills the worker, its successors while they take over, and the folding
// under way. The index may be lost: then it begins with the last checkpoint.
func (s *storm) killWorker() {
	s.folder()
	if err := s.stop(); err != nil && !errors.Is(err, ErrStopped) {
		s.t.Fatalf("the worker had ended: %v", err)
	}
	for s.c.of(0.4) {
		if s.c.of(0.3) {
			s.restoreIndex()
		}
		s.dieSoon()
	}
	if s.c.of(0.3) {
		s.restoreIndex()
	}
	s.start()
}

func (s *storm) dieSoon() {
	ctx, cancel := context.WithTimeout(context.Background(), s.c.upTo(200*time.Millisecond)+1)
	defer cancel()
	cfg := s.worker.cfg
	var err error
	if cfg.Index, err = parked.New(context.Background(), s.kv, s.content, s.log); err != nil {
		s.t.Fatal(err)
	}
	w, err := New(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := w.Run(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, ErrStopped) {
		s.t.Fatalf("the worker that takes over: %v", err)
	}
}

func (s *storm) restoreIndex() {
	s.kv = kv.NewMemory()
	folds, err := ledger.ReadFolds(context.Background(), s.log)
	if err != nil {
		s.t.Fatal(err)
	}
	last, ok := folds.Checkpoint()
	if !ok {
		return
	}
	h, err := s.blobs.Open(context.Background(), last.Checkpoint)
	if err != nil {
		s.t.Fatal(err)
	}
	defer h.Close()
	if err := parked.Restore(s.kv, io.NewSectionReader(h, 0, h.Size())); err != nil {
		s.t.Fatal(err)
	}
}

// fold begins to fold the ledger. It goes on until it is done or the worker killed.
func (s *storm) fold() {
	s.folder()
	ctx, cancel := context.WithCancel(context.Background())
	f := fold.New(fold.Config{Log: s.ledger, Index: s.index, Blobs: s.blobs, Report: 1 + uint64(s.c.n(3000)), Logger: slog.New(slog.DiscardHandler)})
	done := make(chan error, 1)
	go func() { done <- f.Fold(ctx) }()
	s.folder = func() {
		cancel()
		err := <-done
		s.folder = func() {}
		if err == nil {
			s.folded++
		} else if !errors.Is(err, ledger.ErrNoAnswer) && !errors.Is(err, context.Canceled) {
			s.t.Errorf("folding: %v", err)
		}
	}
}
