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

	"golang.org/x/sys/unix"

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
	if to, err := filepath.EvalSymlinks(f.Dir); err == nil {
		f.Dir = to // what is made in its place stays on the disk that an operator gave it
	}
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
	before, err := filepath.Glob(f.Dir + ".damaged-*")
	for _, b := range before {
		err = errors.Join(err, os.RemoveAll(b))
	}
	bad := os.Rename(f.Dir, aside)
	if errors.Is(bad, unix.EBUSY) { // a disk is mounted there; it stays, and what is on it goes
		aside, bad = "", empty(f.Dir)
	}
	if err = errors.Join(err, bad); err != nil {
		return fmt.Errorf("making room for another index than one that is damaged (%v): %w", why, err) // no IsDamaged: nothing begins again
	}
	f.Log.Error("the parked index is damaged; it is built again from the ledger", "moved to", aside, "error", why)
	return nil
}

// drop removes an index. It is renamed first: half of one must never look like one.
func drop(dir string) error {
	old := dir + ".old"
	err := errors.Join(os.RemoveAll(old), os.Rename(dir, old), os.RemoveAll(old))
	if errors.Is(err, unix.EBUSY) {
		err = empty(dir)
	}
	if err != nil {
		return fmt.Errorf("dropping the index: %w", err)
	}
	return nil
}

// empty removes what is in a directory, first of all that without which it is no store.
func empty(dir string) error {
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(dir, "CURRENT")); err != nil {
		return err
	}
	for _, f := range files {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, f.Name())))
	}
	return err
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
	if err := drop(f.Dir); err != nil {
		return nil, err
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
