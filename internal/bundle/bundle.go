// Package bundle makes the archive that is given to whoever helps with a server: parts, each
// got within a deadline of its own, and a manifest that tells of each of them.
//
// It guarantees that a part which cannot be got costs nothing but itself, that the manifest
// names each part and says why it is not there, and that everything in the archive has gone
// through one Scrubber.
package bundle

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"crier/internal/guard"
)

// ManifestFile is the first file of a bundle.
const ManifestFile = "manifest.json"

// Most is how many bytes of one part are kept.
const Most = 4 << 20

// Part is one file of a bundle.
type Part struct {
	File  string // in the archive
	About string // what it is, in words
	// Without says why the part is left out. Get is not called then.
	Without string
	// Get gives the part; with an error what there is of it. Nobody waits for it when its
	// context is over.
	Get func(ctx context.Context) ([]byte, error)
}

// State says how much of a part is in a bundle.
type State string

// The states.
const (
	Whole   State = "whole"
	Partial State = "part"
	Failed  State = "failed"
	LeftOut State = "left out"
)

// Entry tells of a part.
type Entry struct {
	File  string `json:"file"`
	About string `json:"about"`
	State State  `json:"state"`
	Bytes int    `json:"bytes"`
	Took  int64  `json:"took_ms"`
	Why   string `json:"why,omitzero"` // it is not whole
}

// Manifest tells what is in a bundle and what is not.
type Manifest struct {
	Format  int       `json:"format"`
	Made    time.Time `json:"made"`
	Version string    `json:"version"` // of the program that made it
	Server  string    `json:"server"`  // who was asked
	Data    string    `json:"data"`    // the data directory that was looked at
	Never   []string  `json:"never"`   // what is in no bundle
	Parts   []Entry   `json:"parts"`
}

// Config says how a bundle is made.
type Config struct {
	// Within is how long one part may take.
	Within time.Duration
	// AtOnce is how many parts are got at a time.
	AtOnce int
	Scrub  *Scrubber
	// Marshal writes the manifest.
	Marshal func(any) ([]byte, error)
}

// Bundle is what was got, before it is written.
type Bundle struct {
	Manifest
	files [][]byte // of the parts, in their order
	cfg   Config
}

// Collect gets the parts. It fails only if its context ends.
func Collect(ctx context.Context, cfg Config, m Manifest, parts []Part) (*Bundle, error) {
	b := &Bundle{Manifest: m, files: make([][]byte, len(parts)), cfg: cfg}
	b.Format, b.Parts = 1, make([]Entry, len(parts))
	var group errgroup.Group
	group.SetLimit(max(cfg.AtOnce, 1))
	for i, p := range parts {
		group.Go(func() error {
			b.Parts[i], b.files[i] = cfg.get(ctx, p)
			return nil
		})
	}
	if err := errors.Join(group.Wait(), ctx.Err()); err != nil {
		return nil, err
	}
	b.Server, b.Data = cfg.Scrub.Text(b.Server), cfg.Scrub.Text(b.Data)
	return b, nil
}

// got is how a part ended.
type got struct {
	data []byte
	err  error
}

// get gets one part.
func (c Config) get(ctx context.Context, p Part) (Entry, []byte) {
	e := Entry{File: p.File, About: p.About, State: LeftOut, Why: c.Scrub.Text(p.Without)}
	if p.Without != "" {
		return e, nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.Within)
	defer cancel()
	done := make(chan got, 1) // who comes late is not waited for
	began := time.Now()
	go func() {
		var g got
		err := guard.Run(func() error { g.data, g.err = p.Get(ctx); return nil })
		g.err = errors.Join(g.err, err)
		done <- g
	}()
	var g got
	select {
	case g = <-done:
	case <-ctx.Done():
		g.err = ctx.Err()
	}
	e.Took = time.Since(began).Milliseconds()
	return c.judge(e, g)
}

// judge tells of a part that ended.
func (c Config) judge(e Entry, g got) (Entry, []byte) {
	data := c.Scrub.Bytes(g.data)
	if len(data) > Most {
		data = data[:Most]
		g.err = errors.Join(g.err, fmt.Errorf("it is cut off after %d MiB", Most>>20))
	}
	e.State, e.Bytes = Whole, len(data)
	switch {
	case g.err == nil:
		return e, data
	case len(data) == 0:
		e.State = Failed
	default:
		e.State = Partial
	}
	e.Why = strings.ReplaceAll(c.Scrub.Text(g.err.Error()), "\n", "; ")
	if errors.Is(g.err, context.DeadlineExceeded) {
		e.Why = fmt.Sprintf("it took longer than %s", c.Within)
	}
	return e, data
}

// Write writes the archive, a tar.gz of one directory.
func (b *Bundle) Write(w io.Writer, dir string) error {
	manifest, err := b.cfg.Marshal(b.Manifest)
	if err != nil {
		return fmt.Errorf("writing %s: %w", ManifestFile, err)
	}
	zipped := gzip.NewWriter(w)
	archive := tar.NewWriter(zipped)
	if err := b.add(archive, path.Join(dir, ManifestFile), b.cfg.Scrub.Bytes(manifest)); err != nil {
		return err
	}
	for i, e := range b.Parts {
		if e.State != Whole && e.State != Partial {
			continue
		}
		if err := b.add(archive, path.Join(dir, e.File), b.files[i]); err != nil {
			return err
		}
	}
	if err := errors.Join(archive.Close(), zipped.Close()); err != nil {
		return fmt.Errorf("ending the archive: %w", err)
	}
	return nil
}

func (b *Bundle) add(archive *tar.Writer, name string, data []byte) error {
	err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(data)), Mode: 0o600, ModTime: b.Made})
	if err == nil {
		_, err = archive.Write(data)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return nil
}
