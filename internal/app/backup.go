package app

import (
	"context"
	"io"
	"path/filepath"
	"time"

	"crier/internal/app/backup"
	"crier/job"
	"crier/state/ledger"
)

// backup writes a copy of the data directory; nil if not all that it would need is in it.
func (a *app) backup() func(context.Context, io.Writer) error {
	if a.cfg.Cluster.isOn() || !a.cfg.Messaging.alone() || a.cfg.SQL != "" || a.store == nil {
		return nil
	}
	return backup.Source{Version: a.cfg.Version, Name: a.node.Name, Starts: a.node.Starts, Ledger: a.copied.ledger, Controls: a.copied.controls,
		HoldFolds: func() (release func()) {
			if a.folder == nil {
				return func() {}
			}
			return a.folder.Hold()
		},
		HoldSQL: func() (release func()) {
			if a.recorder == nil {
				return func() {}
			}
			return a.recorder.Hold()
		},
		Checkpoint: func(ctx context.Context) (job.Digest, error) {
			folds, err := ledger.ReadFolds(ctx, a.streams.ledger)
			last, _ := folds.Checkpoint()
			return last.Checkpoint, err
		},
		Database: a.store.CopyTo, Blobs: a.blobs, Keys: filepath.Join(a.cfg.Keys, "keys"), Scratch: a.path("scratch"), Now: time.Now}.Write
}
