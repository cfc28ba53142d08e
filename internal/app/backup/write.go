package backup

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path"
	"path/filepath"
	"sync"
	"time"

	"crier/job"
	"crier/state/blob"
	"crier/state/ledger/jetstream"
)

// partBytes is the size of a file of a stream, which is held in memory. While one is on its
// way nothing of the stream is taken, which must not last longer than natsstream allows.
const partBytes = 1 << 20

// Source is what is copied. All of it is required but Checkpoint's digest.
type Source struct {
	Version string // of this crier
	Name    string // of the process
	Starts  uint32
	// HoldFolds keeps what the ledger names from being deleted, HoldSQL the projection of
	// the ledger to SQL from going on, until release.
	HoldFolds, HoldSQL func() (release func())
	Ledger, Controls   Log
	// Checkpoint is the blob of the ledger's last checkpoint, the only one that may be
	// deleted later; zero if there is none.
	Checkpoint func(ctx context.Context) (job.Digest, error)
	// Database writes a copy of the SQL store to a new file.
	Database func(ctx context.Context, path string) error
	Blobs    Blobs
	Keys     string // directory
	Scratch  string // directory for the copy of the SQL store
	Now      func() time.Time
}

// Log is a stream to be copied.
type Log struct {
	Name string
	Copy func(ctx context.Context, w io.Writer, begun func()) (jetstream.Snapshot, error)
}

// Blobs is the store of blobs; *blob.Dir has it.
type Blobs interface {
	// List yields every blob; those put or deleted meanwhile may be missed.
	List(ctx context.Context) iter.Seq2[blob.Info, error]
	// Open gives a blob for reading, or job.CodeNotFound. It stays readable when it is
	// deleted.
	Open(ctx context.Context, digest job.Digest) (*blob.Handle, error)
}

// Write writes a backup as a tar file, the manifest last. What was acknowledged before it
// is called is in it.
func (s Source) Write(ctx context.Context, w io.Writer) error {
	p := &packer{tw: tar.NewWriter(w), m: Manifest{Format: Format, Version: s.Version, Began: s.Now().UTC(), Name: s.Name, Starts: s.Starts}}
	checkpoint, err := s.writeHeld(ctx, p)
	if err != nil {
		return err
	}
	if err := s.writeKeys(p); err != nil {
		return err
	}
	if err := s.writeBlobs(ctx, p, checkpoint); err != nil {
		return err
	}
	p.m.Ended = s.Now().UTC()
	b, err := p.m.encode()
	if err != nil {
		return err
	}
	if _, err := p.add(manifestName, int64(len(b)), bytes.NewReader(b)); err != nil {
		return err
	}
	return p.tw.Close()
}

// writeHeld writes what must fit together, with the last checkpoint, whose digest it
// gives. The controls come after the ledger: what a job did because of one is seen together
// with it.
func (s Source) writeHeld(ctx context.Context, p *packer) (checkpoint job.Digest, err error) {
	defer s.HoldFolds()()
	dir, err := os.MkdirTemp(s.Scratch, "backup-*")
	if err != nil {
		return checkpoint, fmt.Errorf("making room for a copy of the SQL store: %w", err)
	}
	defer os.RemoveAll(dir)
	database := filepath.Join(dir, databaseName)
	if err := s.writeLedger(ctx, p, database); err != nil {
		return checkpoint, err
	}
	if err := p.stream(ctx, s.Controls, nil); err != nil {
		return checkpoint, err
	}
	if err := p.file(databaseName, database); err != nil {
		return checkpoint, err
	}
	checkpoint, err = s.Checkpoint(ctx)
	if err != nil || checkpoint.IsZero() {
		return checkpoint, err
	}
	return checkpoint, s.writeBlob(ctx, p, checkpoint)
}

// writeLedger writes the ledger and makes a copy of the SQL store that goes with it: of
// after it was clear how far the ledger goes, so that it has the accounts that the ledger
// names; and held back from before that on, so that of jobs it has nothing that the ledger
// lacks. How long the ledger takes to whoever gets it keeps nobody waiting.
func (s Source) writeLedger(ctx context.Context, p *packer, database string) error {
	release := sync.OnceFunc(s.HoldSQL())
	defer release()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	copied := make(chan error, 1)
	begun := false
	err := p.stream(ctx, s.Ledger, func() {
		begun = true
		go func() {
			defer release()
			copied <- s.Database(ctx, database)
		}()
	})
	if err != nil {
		cancel()
	}
	if begun {
		err = errors.Join(err, <-copied)
	}
	return err
}

// writeKeys writes the files of keys. They are whole, and never change.
func (s Source) writeKeys(p *packer) error {
	entries, err := os.ReadDir(s.Keys)
	if err != nil {
		return fmt.Errorf("listing the keys: %w", err)
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || e.Name() == "lock" || e.Name()[0] == '.' {
			continue
		}
		if err := p.file(path.Join(keysDir, e.Name()), filepath.Join(s.Keys, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// writeBlobs writes all other blobs: who names one stored it before.
func (s Source) writeBlobs(ctx context.Context, p *packer, checkpoint job.Digest) error {
	for info, err := range s.Blobs.List(ctx) {
		if err != nil {
			return err
		}
		if info.Digest == checkpoint {
			continue
		}
		err := s.writeBlob(ctx, p, info.Digest)
		if err != nil && job.CodeOf(err) != job.CodeNotFound { // a later checkpoint that was replaced meanwhile
			return err
		}
	}
	return nil
}

func (s Source) writeBlob(ctx context.Context, p *packer, digest job.Digest) error {
	h, err := s.Blobs.Open(ctx, digest)
	if err != nil {
		return err
	}
	defer h.Close()
	got, err := p.add(blobName(digest), h.Size(), io.NewSectionReader(h, 0, h.Size()))
	if err == nil && got != digest {
		err = fmt.Errorf("blob %s has the bytes of %s: %w; put it again from where it came", digest, got, blob.ErrDamaged)
	}
	return err
}

func blobName(d job.Digest) string { return path.Join(blobsDir, d.String()[:2], d.String()) }

// packer writes files into a tar file and remembers them.
type packer struct {
	tw *tar.Writer
	m  Manifest
}

// add writes one file.
func (p *packer) add(name string, size int64, r io.Reader) (job.Digest, error) {
	fail := func(err error) (job.Digest, error) {
		return job.Digest{}, fmt.Errorf("writing %s into the backup: %w", name, err)
	}
	if err := p.tw.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: size, ModTime: p.m.Began, Format: tar.FormatPAX}); err != nil {
		return fail(err)
	}
	sum := sha256.New()
	if _, err := io.Copy(p.tw, io.TeeReader(io.LimitReader(r, size), sum)); err != nil {
		return fail(err)
	}
	if err := p.tw.Flush(); err != nil { // says if r had less
		return fail(err)
	}
	f := File{name, size, job.Digest(sum.Sum(nil))}
	p.m.Files = append(p.m.Files, f)
	return f.SHA256, nil
}

func (p *packer) file(name, from string) error {
	f, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("writing %s into the backup: %w", name, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("writing %s into the backup: %w", name, err)
	}
	_, err = p.add(name, info.Size(), f)
	return err
}

// stream writes the files of a stream.
func (p *packer) stream(ctx context.Context, l Log, begun func()) error {
	w := &parts{p: p, name: l.Name}
	snap, err := l.Copy(ctx, w, begun)
	if err == nil {
		err = w.flush()
	}
	if err != nil {
		return err
	}
	p.m.Streams = append(p.m.Streams, Stream{Name: l.Name, Config: snap.Config, First: snap.First, Last: snap.Last, Records: snap.Records, Parts: w.n})
	return nil
}

// parts cuts what is written into files: how long it gets is not known before.
type parts struct {
	p    *packer
	name string
	n    int
	buf  bytes.Buffer
}

// Write implements io.Writer.
func (w *parts) Write(b []byte) (int, error) {
	w.buf.Write(b)
	if w.buf.Len() < partBytes {
		return len(b), nil
	}
	return len(b), w.flush()
}

func (w *parts) flush() error {
	if w.buf.Len() == 0 {
		return nil
	}
	w.n++
	_, err := w.p.add(streamPart(w.name, w.n), int64(w.buf.Len()), &w.buf)
	w.buf.Reset()
	return err
}
