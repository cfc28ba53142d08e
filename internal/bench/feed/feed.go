// Package feed makes what benches give a server: ids, packages and streams of them.
package feed

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"strconv"

	"golang.org/x/sync/errgroup"

	"crier/api"
	"crier/audience"
	"crier/internal/idset"
	"crier/job"
)

// Mix is the output function of splitmix64.
func Mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// Stream connects a writer to a reader.
func Stream(write func(*bufio.Writer) error, read func(io.Reader) error) error {
	r, w := io.Pipe()
	var g errgroup.Group
	g.Go(func() error {
		b := bufio.NewWriterSize(w, 1<<20)
		err := write(b)
		err = errors.Join(err, b.Flush())
		w.CloseWithError(err)
		return err
	})
	err := read(r)
	r.CloseWithError(errors.Join(err, io.ErrClosedPipe))
	return errors.Join(err, g.Wait())
}

// WriteIDs writes the ids of a set, a line each, and releases it.
func WriteIDs(w *bufio.Writer, s *idset.Set) error {
	var line [12]byte
	for id := range s.All() {
		if _, err := w.Write(append(strconv.AppendUint(line[:0], uint64(id), 10), '\n')); err != nil {
			return err
		}
	}
	s.Release()
	return nil
}

// Package imports a package that is made of sets; the directory is for its draft.
func Package(ctx context.Context, svc api.Service, dir, account, name string, sets func(add func(*idset.Set) error) error) (job.Digest, error) {
	w, err := audience.NewWriter(dir, name)
	if err != nil {
		return job.Digest{}, err
	}
	defer w.Abort()
	if err := sets(w.Add); err != nil {
		return job.Digest{}, err
	}
	draft, err := w.Finish(0)
	if err != nil {
		return job.Digest{}, err
	}
	defer draft.Discard()
	f, err := os.Open(draft.Path())
	if err != nil {
		return job.Digest{}, err
	}
	defer f.Close()
	pkg, err := svc.ImportPackage(ctx, api.ImportPackage{Account: account}, f)
	return pkg.ID, err
}
