package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"crier/audience"
	"crier/job"
)

// Fetch writes the set that a server keeps under a name, as a package.
type Fetch func(ctx context.Context, from Format, of string, w io.Writer) error

// isKept reports whether a server keeps what has that format.
func (f Format) isKept() bool {
	return f == FormatFollowers || f == FormatSegment || f == FormatSuppression
}

// addKept adds the package of a set that is fetched.
func (l *List) addKept(of string) error {
	from, fetch := l.config.From, l.config.Fetch
	name, shown := of, fmt.Sprintf("%s of %s", from, of)
	switch {
	case from == FormatSegment:
		shown = "segment " + of
	case of == "":
		name, shown = string(from), "the global suppression list"
	}
	return l.add(Input{Name: name, File: shown}, func(ctx context.Context, in Input) (audience.Source, error) {
		return openKept(ctx, in, func(w io.Writer) error { return fetch(ctx, from, of, w) })
	})
}

// kept is a set that was fetched, in a file without a name.
type kept struct {
	*Followers
	set  *audience.Set
	file *os.File
}

// openKept fetches a package and checks all of it: what breaks off on the way is no set.
func openKept(ctx context.Context, in Input, fetch func(io.Writer) error) (audience.Source, error) {
	f, size, err := spool("crier-*"+audience.Extension, fetch)
	if err != nil {
		return nil, fetching(in, err)
	}
	set, err := audience.OpenReaderAt(f, size)
	if err == nil {
		if err = set.Verify(ctx); err != nil {
			err = errors.Join(err, set.Close())
		}
	}
	if err != nil {
		return nil, errors.Join(fetching(in, fmt.Errorf("what came is no whole package: %w", err)), f.Close())
	}
	return &kept{NewFollowers(in.Name, set), set, f}, nil
}

func fetching(in Input, err error) error {
	if job.CodeOf(err) != "" {
		return err
	}
	return fmt.Errorf("fetching %s: %w", in.File, err)
}

// Close lets go of the file.
func (k *kept) Close() error { return errors.Join(k.Followers.Close(), k.set.Close(), k.file.Close()) }
