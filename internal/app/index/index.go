// Package index opens the files of the parked index, which the ledger is behind: what is damaged is
// moved aside, and what cannot be used is dropped and begun again from the last checkpoint.
package index

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"crier/state/blob"
	"crier/state/ledger"
	"crier/state/parked"
	"crier/state/parked/level"
)

// Files are those of the index of one start of a process.
type Files struct {
	Dir    string
	Starts uint32 // the number of the start
	Ledger ledger.Log
	Blobs  *blob.Dir
	Log    *slog.Logger
}

// Open opens them. An index that is damaged is moved aside, and one that is behind the last
// checkpoint is dropped: it is built again from that and the ledger. Damage of what is not read
// here shows later, as an error; see After.
func (f *Files) Open(ctx context.Context) (*level.KV, error) {
	kv, err := level.Open(level.Config{Dir: f.Dir})
	if level.IsDamaged(err) {
		if err := f.moveAside(err); err != nil {
			return nil, err
		}
		kv, err = level.Open(level.Config{Dir: f.Dir})
	}
	if err != nil {
		return nil, err
	}
	return f.restore(ctx, kv)
}

// After takes what ended a process's parts, when these are closed: if it was damage of the index,
// that is moved aside, so that who begins again builds it anew. It gives what is to be told.
func (f *Files) After(err error) error {
	if f == nil || !level.IsDamaged(err) {
		return err
	}
	if bad := f.moveAside(err); bad != nil {
		return bad
	}
	return err
}

// IsDamaged reports whether parts ended because the index is damaged.
func IsDamaged(err error) bool { return level.IsDamaged(err) }

// moveAside makes room for another index. One that was moved before goes: a disk may be why, and
// has not the space for many.
func (f *Files) moveAside(why error) error {
	aside := fmt.Sprintf("%s.damaged-%d", f.Dir, f.Starts)
	f.Log.Error("the parked index is damaged; it is built again from the ledger", "moved to", aside, "error", why)
	before, err := filepath.Glob(f.Dir + ".damaged-*")
	for _, b := range before {
		err = errors.Join(err, os.RemoveAll(b))
	}
	if err = errors.Join(err, os.Rename(f.Dir, aside)); err != nil {
		return fmt.Errorf("moving the damaged index aside: %w", err)
	}
	return nil
}

// restore gives a store that is not behind the ledger's last checkpoint; the records before that
// may be purged. It takes over the store that it is given.
func (f *Files) restore(ctx context.Context, kv *level.KV) (*level.KV, error) {
	folds, err := ledger.ReadFolds(ctx, f.Ledger)
	if err != nil {
		return nil, errors.Join(err, kv.Close())
	}
	last, ok := folds.Checkpoint()
	mark, err := parked.Watermark(kv)
	left, leftErr := parked.IsLeftOver(kv)
	if err = errors.Join(err, leftErr); err != nil {
		return nil, errors.Join(err, kv.Close())
	}
	switch {
	case ok && mark < last.Through:
		f.Log.Warn("the parked index is behind the last checkpoint; it is restored from that", "index at", mark, "checkpoint at", last.Through)
		if err := f.Blobs.Verify(ctx, last.Checkpoint); err != nil {
			return nil, errors.Join(fmt.Errorf("reading the checkpoint: %w", err), kv.Close())
		}
	case left:
		f.Log.Warn("the parked index is not of this version; it is built again from the ledger")
	default:
		return kv, nil
	}
	if err := kv.Close(); err != nil {
		return nil, err
	}
	old := f.Dir + ".old" // renamed first: half of an index must never look like one
	if err := errors.Join(os.RemoveAll(old), os.Rename(f.Dir, old), os.RemoveAll(old)); err != nil {
		return nil, fmt.Errorf("dropping the index: %w", err)
	}
	if kv, err = level.Open(level.Config{Dir: f.Dir}); err != nil || !ok {
		return kv, err
	}
	h, err := f.Blobs.Open(ctx, last.Checkpoint)
	if err != nil {
		return nil, errors.Join(err, kv.Close())
	}
	defer h.Close()
	if err := parked.Restore(kv, io.NewSectionReader(h, 0, h.Size())); err != nil {
		return nil, errors.Join(err, kv.Close())
	}
	return kv, nil
}
