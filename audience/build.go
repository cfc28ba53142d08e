package audience

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"crier/internal/idset"
	"crier/job"
)

// Build makes one package from a source, as NAME.crpk in a directory. See
// BuildAll.
func Build(ctx context.Context, dir string, src Source) (Info, error) {
	infos, err := BuildAll(ctx, dir, []Source{src}, nil)
	if err != nil {
		return Info{}, err
	}
	return infos[0], nil
}

// BuildAll makes a package from each source, as NAME.crpk in a directory, which
// is created if it does not exist. The steps change each set, in their order. Either all are made or, after an error,
// nothing of them is left; a process that dies between two renames leaves some of
// them, each whole, and files ".crpk-*.tmp" that may be deleted. An older file of
// the same name is replaced; after an error it is there, unless the file system
// cannot exchange two names (NFS cannot).
//
// It needs at most 512 MiB for the set and 32 MiB for batches, whatever the
// number of ids and of packages, and 128 KiB for each step.
func BuildAll(ctx context.Context, dir string, sources []Source, steps []Step) (infos []Info, err error) {
	if err := checkTargets(dir, sources); err != nil {
		return nil, err
	}
	undoDir, err := makeDir(dir)
	if err != nil {
		return nil, fmt.Errorf("creating the directory of the packages: %w", err)
	}
	var drafts []*Draft
	defer func() {
		if err != nil {
			for _, d := range drafts {
				err = errors.Join(err, d.Discard())
			}
			undoDir()
		}
	}()
	c := collector{most: maxBatch}
	for _, src := range sources {
		d, err := draft(ctx, &c, dir, src, steps)
		if err != nil {
			return nil, err
		}
		drafts = append(drafts, d)
		infos = append(infos, d.Info)
	}
	if err := publish(dir, drafts); err != nil {
		return nil, err
	}
	return infos, nil
}

// checkTargets refuses what can be refused before anything is written.
func checkTargets(dir string, sources []Source) error {
	seen := map[string]bool{}
	for _, src := range sources {
		name := src.Name()
		if err := ValidateName(name); err != nil {
			return err
		}
		if seen[name] {
			return job.Conflict(fmt.Sprintf("two packages would be named %q; nothing was built", name))
		}
		seen[name] = true
		path := filepath.Join(dir, name+Extension)
		if st, err := os.Lstat(path); err == nil && st.IsDir() {
			return job.Conflict(fmt.Sprintf("%s is a directory; nothing was built", path))
		}
	}
	return nil
}

// draft builds one package under a temporary name.
func draft(ctx context.Context, c *collector, dir string, src Source, steps []Step) (*Draft, error) {
	name := src.Name()
	if err := c.collect(ctx, src); err != nil {
		return nil, building(name, err)
	}
	w, err := NewWriter(dir, name)
	if err != nil {
		return nil, err
	}
	defer w.Abort()
	a := newAlgebra(steps)
	defer a.release()
	err = c.containers(func(key uint16, part *idset.Container) error {
		if err := ctx.Err(); err != nil {
			return building(name, err)
		}
		if err := a.apply(key, part); err != nil {
			return building(name, err)
		}
		return w.add(key, part)
	})
	if err != nil {
		return nil, err
	}
	return w.Finish(c.read - c.acc.GetCardinality())
}

// building says which package was being built; the error of an input says by
// itself where it went wrong and stays as it is.
func building(name string, err error) error {
	if job.CodeOf(err) != "" {
		return err
	}
	return fmt.Errorf("building package %q: %w", name, err)
}

// publish gives all drafts their names, durably, or none, and then older packages have theirs
// as before.
func publish(dir string, drafts []*Draft) (err error) {
	var undo []func() error
	defer func() {
		if err != nil {
			for _, back := range slices.Backward(undo) {
				err = errors.Join(err, back())
			}
		}
	}()
	for _, d := range drafts {
		back, err := d.place()
		if err != nil {
			return err
		}
		undo = append(undo, back)
	}
	if err := syncDir(dir); err != nil {
		return err
	}
	for _, d := range drafts {
		_ = d.Discard() // an older package under a temporary name, which may stay
	}
	return nil
}

// makeDir creates a directory with its parents; undo takes away those that were
// created, if they are empty.
func makeDir(dir string) (undo func(), err error) {
	var created []string
	undo = func() {
		for _, d := range created {
			// One that is not empty has become somebody else's as well.
			_ = os.Remove(d)
		}
	}
	for d := filepath.Clean(dir); ; d = filepath.Dir(d) {
		if _, err := os.Stat(d); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		created = append(created, d)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		undo()
		return nil, err
	}
	for _, d := range created {
		if err := syncDir(filepath.Dir(d)); err != nil {
			undo()
			return nil, err
		}
	}
	return undo, nil
}
