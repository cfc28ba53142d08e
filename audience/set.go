package audience

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"

	"github.com/cespare/xxhash/v2"

	"crier/internal/idset"
	"crier/job"
)

// Set is a big set in an envelope, opened for reading a range at a time: a
// recipient package, a followers snapshot, a suppression snapshot. It is safe
// for concurrent readers, also while it is closed: reads then give ErrClosed.
type Set struct {
	*Portable
	head header
}

// Open maps an envelope of Crier's own store, whose files never change, and
// checks its lengths, its header and the index of its payload. Verify checks the
// rest.
func Open(path string) (*Set, error) { return openPath(path, mapFile) }

// openPath opens an envelope by way of how.
func openPath(path string, how func(string) (*store, error)) (*Set, error) {
	data, err := how(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, job.NotFound(fmt.Sprintf("package file %s does not exist", path))
	case err != nil:
		return nil, opening(path, err)
	}
	s, err := newSet(data)
	if err != nil {
		return nil, opening(path, errors.Join(err, data.close()))
	}
	return s, nil
}

// opening says what was opened; bad bytes are the user's to mend.
func opening(path string, err error) error {
	if IsFormat(err) {
		return job.Invalid("file", fmt.Sprintf("package file %s cannot be used; build it again", path), err)
	}
	return fmt.Errorf("opening package file %s: %w", path, err)
}

// OpenReaderAt does what Open does for an envelope of size bytes. The reader
// must allow concurrent calls and stay open as long as the set.
func OpenReaderAt(r io.ReaderAt, size int64) (*Set, error) {
	return newSet(&store{size: size, r: r})
}

func newSet(data *store) (*Set, error) {
	s := &Set{}
	err := data.view(0, min(headerSize, data.size), func(b []byte) (err error) {
		s.head, err = parseHeader(b, data.size)
		return err
	})
	if err != nil {
		return nil, err
	}
	if s.Portable, err = newPortable(data, headerSize, s.head.payload); err != nil {
		return nil, err
	}
	return s, s.head.matches(s.Portable)
}

// Info is what the header says of the set.
func (s *Set) Info() Info { return s.head.info }

// Verify reads the whole set and checks it against the header: the checksum of
// the payload, every container, cardinality, least and greatest id, and the
// digest of the canonical set.
func (s *Set) Verify(ctx context.Context) error {
	sum, canon := xxhash.New(), newCanonical()
	if err := s.sumLayout(sum); err != nil {
		return s.verifying(err)
	}
	err := s.each(ctx, func(raw []byte, set *idset.Set) error {
		sum.Write(raw)
		canon.addSet(set)
		return nil
	})
	if err != nil {
		return s.verifying(err)
	}
	got, want := canon.info(), s.head.info
	switch {
	case sum.Sum64() != s.head.payloadSum:
		err = fmt.Errorf("%w: the payload's checksum is wrong", ErrFormat)
	case got.Cardinality != want.Cardinality || got.Min != want.Min || got.Max != want.Max:
		err = fmt.Errorf("%w: %d ids from %d to %d, the header says %d from %d to %d", ErrFormat,
			got.Cardinality, got.Min, got.Max, want.Cardinality, want.Min, want.Max)
	case got.SHA256 != want.SHA256:
		err = fmt.Errorf("%w: the digest of its ids is %s, the header says %s", ErrFormat, got.SHA256, want.SHA256)
	}
	return s.verifying(err)
}

func (s *Set) verifying(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("verifying set %q: %w", s.head.info.Name, err)
}

// sumLayout adds the roaring header's bytes, at most 1 MiB, to the checksum.
func (s *Set) sumLayout(sum io.Writer) error {
	return s.data.view(s.base, s.l.size, func(b []byte) error {
		_, err := sum.Write(b)
		return err
	})
}

// Close frees what the set holds, after the reads under way. A set opened by
// OpenReaderAt leaves the reader open. A second call does nothing.
func (s *Set) Close() error { return s.data.close() }

// CloseWhenUnused frees what the set holds when nobody refers to the set any more.
func (s *Set) CloseWhenUnused() {
	// Portable, not the set, is what a read refers to until its last access.
	runtime.AddCleanup(s.Portable, func(data *store) { data.close() }, s.data)
}

// Inspect checks the whole of an envelope at a path and says what it is. The file
// may be anyone's and may change meanwhile: it is read, not mapped.
func Inspect(ctx context.Context, path string) (Info, error) {
	s, err := openVerified(ctx, path)
	if err != nil {
		return Info{}, err
	}
	return s.Info(), s.Close()
}

// openVerified opens a file of anyone's and verifies it.
func openVerified(ctx context.Context, path string) (*Set, error) {
	s, err := openPath(path, openFile)
	if err != nil {
		return nil, err
	}
	if err := s.Verify(ctx); err != nil {
		return nil, opening(path, errors.Join(err, s.Close()))
	}
	return s, nil
}
