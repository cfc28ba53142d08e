package source

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"crier/audience"
	"crier/job"
)

// Build makes the packages in a directory: all of them, or none after an error; see
// audience.BuildAll. One that is there already stays. Another of its name is a conflict,
// for it may be the only list of whom a job was sent to; Force replaces it.
func Build(ctx context.Context, cfg Config, dir string) (_ []audience.Info, err error) {
	l, err := Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer l.Close() // what is closed was only read
	steps, done, err := audience.OpenSteps(ctx, cfg.Steps)
	if err != nil {
		return nil, err
	}
	defer done()
	there := map[string]bool{}
	for _, s := range l.Sources {
		if _, err := os.Lstat(filepath.Join(dir, s.Name()+audience.Extension)); err == nil {
			there[s.Name()] = true
		}
	}
	if cfg.Force || len(there) == 0 {
		return audience.BuildAll(ctx, dir, l.Sources, steps)
	}
	aside, err := os.MkdirTemp(dir, ".build-")
	if err != nil {
		return nil, fmt.Errorf("making a directory to build in: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(aside)) }()
	infos, err := audience.BuildAll(ctx, aside, l.Sources, steps)
	if err != nil {
		return nil, err
	}
	for _, i := range infos {
		path := filepath.Join(dir, i.Name+audience.Extension)
		if was, err := audience.Inspect(ctx, path); there[i.Name] && (err != nil || was != i) {
			return nil, job.Conflict(fmt.Sprintf("%s is there, and is another package; nothing was built, --force replaces it", path))
		}
	}
	for _, i := range infos {
		path := filepath.Join(dir, i.Name+audience.Extension)
		if !there[i.Name] {
			if err := os.Rename(filepath.Join(aside, i.Name+audience.Extension), path); err != nil {
				return nil, fmt.Errorf("naming package %s: %w", i.Name, err)
			}
		} else if cfg.Unchanged != nil {
			cfg.Unchanged(path)
		}
	}
	return infos, syncDir(dir)
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("syncing %s: %w", dir, err)
	}
	return errors.Join(d.Sync(), d.Close())
}
