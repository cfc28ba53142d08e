package blob

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"sync"
	"time"

	"crier/job"
)

// copyBytes is the size of the buffer that a blob is written and checked with;
// it bounds the memory of a Put, whatever the blob's size.
const copyBytes = 128 << 10

// Dir keeps blobs in a directory:
//
//	sha256/ab/cd/abcd…   one file a blob, named by its digest
//	tmp/                 files being written; what a crash left is removed when it is opened
//
// Several processes may have a directory open, see OpenShared; all methods are safe for
// concurrent use.
type Dir struct {
	root string
	fs   files

	mu struct {
		sync.Mutex
		// durable has the fan-out directories whose own entries this process has
		// made durable; at most 256 + 65,536 of them.
		durable map[string]bool
	}
}

// abandoned is for how long nobody has written to a file that a crash left, where others
// may be writing: longer than any upload stands still.
const abandoned = 24 * time.Hour

// OpenDir opens the store in a directory that no other process has open. The directory is
// made if it does not exist; what a crash left half-written is removed.
func OpenDir(root string) (*Dir, error) { return openDir(root, disk{}, 0) }

// OpenShared is OpenDir for a directory that other processes may have open, and write to:
// what a crash left half-written is removed a day later.
func OpenShared(root string) (*Dir, error) { return openDir(root, disk{}, abandoned) }

func openDir(root string, on files, idle time.Duration) (*Dir, error) {
	d := &Dir{root: root, fs: on}
	d.mu.durable = map[string]bool{}
	for _, dir := range []string{root, d.tmp(), d.blobs()} {
		if err := d.fs.mkdir(dir); err != nil {
			return nil, storing("making "+dir, err)
		}
	}
	for _, dir := range []string{filepath.Dir(root), root} {
		if err := d.fs.syncDir(dir); err != nil {
			return nil, storing("making the entries of "+dir+" durable", err)
		}
	}
	if err := d.sweep(idle); err != nil {
		return nil, fmt.Errorf("removing half-written blobs: %w", err)
	}
	return d, nil
}

// sweep removes the files in tmp to which nobody has written for a time.
func (d *Dir) sweep(idle time.Duration) error {
	left, err := os.ReadDir(d.tmp())
	if err != nil {
		return err
	}
	for _, e := range left {
		info, err := e.Info()
		if err == nil && (idle == 0 || time.Since(info.ModTime()) >= idle) {
			err = d.fs.remove(filepath.Join(d.tmp(), e.Name()))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // its writer, or another sweeper, was first
			return err
		}
	}
	return nil
}

func (d *Dir) tmp() string   { return filepath.Join(d.root, "tmp") }
func (d *Dir) blobs() string { return filepath.Join(d.root, "sha256") }

// path is where a blob lies.
func (d *Dir) path(digest job.Digest) string {
	name := digest.String()
	return filepath.Join(d.blobs(), name[:2], name[2:4], name)
}

// Put stores what r gives and returns its address and size once it is durable.
// It is idempotent: equal bytes are one blob. After an error there is no half
// blob; if the disk is full (job.CodeFull) nothing of it is left.
func (d *Dir) Put(ctx context.Context, r io.Reader) (job.Digest, int64, error) {
	tmp := filepath.Join(d.tmp(), rand.Text())
	digest, size, err := d.write(ctx, tmp, r)
	if err != nil {
		return job.Digest{}, 0, err
	}
	// The file is written again even if the blob exists: that heals a damaged
	// one, and the rename below is then durable by this call's own doing.
	path := d.path(digest)
	if err := d.place(tmp, path); err != nil {
		return job.Digest{}, 0, err
	}
	return digest, size, nil
}

// write makes the temporary file, whole and durable, or nothing.
func (d *Dir) write(ctx context.Context, tmp string, r io.Reader) (digest job.Digest, size int64, err error) {
	f, err := d.fs.create(tmp)
	if err != nil {
		return digest, 0, storing("making a file", err)
	}
	sum := sha256.New()
	src := &sourceReader{ctx: ctx, r: r}
	size, err = io.CopyBuffer(hashed{f, sum}, src, make([]byte, copyBytes))
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	switch {
	case err == nil:
		return job.Digest(sum.Sum(nil)), size, nil
	case src.err != nil:
		err = fmt.Errorf("reading the bytes of a new blob: %w", src.err)
	default:
		err = storing("writing a file", err)
	}
	return digest, 0, d.discard(tmp, err)
}

// hashed writes to a file and hashes what it wrote.
type hashed struct {
	f   file
	sum hash.Hash
}

// Write implements io.Writer.
func (w hashed) Write(p []byte) (int, error) {
	n, err := w.f.Write(p)
	w.sum.Write(p[:n])
	return n, err
}

// place moves the temporary file to its name.
func (d *Dir) place(tmp, path string) error {
	leaf := filepath.Dir(path)
	for _, dir := range []string{filepath.Dir(leaf), leaf} {
		if err := d.ensure(dir); err != nil {
			return d.discard(tmp, err)
		}
	}
	if err := d.fs.rename(tmp, path); err != nil {
		return d.discard(tmp, storing("moving a file to its name", err))
	}
	if err := d.fs.syncDir(leaf); err != nil {
		return storing("making the entries of "+leaf+" durable", err)
	}
	return nil
}

// discard removes a temporary file for a reason, which it returns.
func (d *Dir) discard(tmp string, why error) error {
	if err := d.fs.remove(tmp); err != nil {
		return errors.Join(why, fmt.Errorf("removing a half-written blob: %w", err))
	}
	return why
}

// ensure makes a fan-out directory whose entry in its parent is durable. One
// that exists may be a killed process's, not durable yet: each process makes
// sure once.
func (d *Dir) ensure(dir string) error {
	d.mu.Lock()
	known := d.mu.durable[dir]
	d.mu.Unlock()
	if known {
		return nil
	}
	if err := d.fs.mkdir(dir); err != nil {
		return storing("making "+dir, err)
	}
	if err := d.fs.syncDir(filepath.Dir(dir)); err != nil {
		return storing("making "+dir+" durable", err)
	}
	d.mu.Lock()
	d.mu.durable[dir] = true
	d.mu.Unlock()
	return nil
}

// Open gives a blob for reading, or job.CodeNotFound. It does not check the
// bytes; Verify does.
func (d *Dir) Open(_ context.Context, digest job.Digest) (*Handle, error) {
	path := d.path(digest)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, notFound(digest)
	}
	if err != nil {
		return nil, fmt.Errorf("opening blob %s: %w", digest, err)
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("opening blob %s: %w", digest, err)
	}
	return &Handle{r: f, size: st.Size(), path: path, stop: f.Close}, nil
}

// Stat describes a blob, or gives job.CodeNotFound.
func (d *Dir) Stat(_ context.Context, digest job.Digest) (Info, error) {
	st, err := os.Stat(d.path(digest))
	if errors.Is(err, fs.ErrNotExist) {
		return Info{}, notFound(digest)
	}
	if err != nil {
		return Info{}, fmt.Errorf("looking at blob %s: %w", digest, err)
	}
	return Info{Digest: digest, Size: st.Size(), ModTime: st.ModTime()}, nil
}

// Verify reads a blob and compares its bytes with its address: job.CodeNotFound
// if there is none, ErrDamaged (wrapped) if they differ.
func (d *Dir) Verify(ctx context.Context, digest job.Digest) error {
	h, err := d.Open(ctx, digest)
	if err != nil {
		return err
	}
	err = h.verify(ctx, digest)
	if e := h.Close(); err == nil {
		err = e
	}
	return err
}

// verify hashes what the handle reads.
func (h *Handle) verify(ctx context.Context, digest job.Digest) error {
	sum := sha256.New()
	src := &sourceReader{ctx: ctx, r: io.NewSectionReader(h, 0, h.Size())}
	if _, err := io.CopyBuffer(sum, src, make([]byte, copyBytes)); err != nil {
		return fmt.Errorf("reading blob %s: %w", digest, err)
	}
	if got := job.Digest(sum.Sum(nil)); got != digest {
		return fmt.Errorf("blob %s holds the bytes of %s: %w; put it again from where it came", digest, got, ErrDamaged)
	}
	return nil
}

// Delete removes a blob for good; one that is not there is fine. The caller
// knows that nothing refers to it.
func (d *Dir) Delete(_ context.Context, digest job.Digest) error {
	path := d.path(digest)
	err := d.fs.remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("deleting blob %s: %w", digest, err)
	}
	if err := d.fs.syncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("deleting blob %s: %w", digest, err)
	}
	return nil
}

// List yields every blob in ascending order of digest. Blobs put or deleted
// meanwhile may be missed or not; files that are no blobs are passed over. The
// first error ends it.
func (d *Dir) List(ctx context.Context) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		err := filepath.WalkDir(d.blobs(), func(_ string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			info, ok, err := describe(e)
			if err != nil {
				return err
			}
			if ok && !yield(info, nil) {
				return fs.SkipAll
			}
			return nil
		})
		if err != nil {
			yield(Info{}, fmt.Errorf("listing blobs: %w", err))
		}
	}
}

// describe tells whether a directory's entry is a blob, and which.
func describe(e fs.DirEntry) (Info, bool, error) {
	digest, err := job.ParseDigest(e.Name())
	if err != nil || !e.Type().IsRegular() {
		return Info{}, false, nil
	}
	st, err := e.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return Info{}, false, nil // deleted meanwhile
	}
	if err != nil {
		return Info{}, false, err
	}
	return Info{Digest: digest, Size: st.Size(), ModTime: st.ModTime()}, true, nil
}
