package source

import (
	"context"
	"errors"
	"io"
	"os"

	"crier/audience"
)

// lazy opens a source when it is first read and closes it at its end, so that a
// thousand files need one descriptor.
type lazy struct {
	name string
	open func(context.Context) (audience.Source, error)
	src  audience.Source
	err  error // sticky
}

// Name is the package's name.
func (l *lazy) Name() string { return l.name }

// NextBatch reads ids.
func (l *lazy) NextBatch(ctx context.Context, ids []uint32) (n int, err error) {
	if l.err != nil {
		return 0, l.err
	}
	if l.src == nil {
		src, err := l.open(ctx)
		if err != nil { // then src may be a nil of some type
			l.err = err
			return 0, err
		}
		l.src = src
	}
	if n, err = l.src.NextBatch(ctx, ids); err != nil {
		l.err = err
		// After an error closing says the same again, if anything.
		if errClose := l.Close(); err == io.EOF && errClose != nil {
			l.err = errClose
		}
	}
	return n, l.err
}

// Close closes what was opened.
func (l *lazy) Close() error {
	if l.src == nil {
		return nil
	}
	src := l.src
	l.src = nil
	return src.Close()
}

// openSeekable opens a file for reading at any place. What is not a regular file
// (a pipe, standard input) is copied to one first.
func openSeekable(ctx context.Context, at place) (f *os.File, size int64, err error) {
	r, err := at.open(ctx)
	if err != nil {
		return nil, 0, err
	}
	f, regular := r.(*os.File)
	if regular {
		st, err := f.Stat()
		if err != nil {
			return nil, 0, errors.Join(err, f.Close())
		}
		if st.Mode().IsRegular() {
			return f, st.Size(), nil
		}
	}
	f, size, err = spool("crier-*.zip", func(w io.Writer) error {
		_, err := io.Copy(w, r)
		return err
	})
	return f, size, errors.Join(err, r.Close())
}

// spool fills a file without a name, gone with the process.
func spool(pattern string, fill func(io.Writer) error) (*os.File, int64, error) {
	f, err := os.CreateTemp("", pattern)
	if err != nil {
		return nil, 0, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	if err := fill(f); err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	st, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, st.Size(), nil
}
